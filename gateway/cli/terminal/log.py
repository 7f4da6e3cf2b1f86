"""The log lines of the engine and of the steps on stderr.

Rules: each record is one line, printed above the picture of a run. Records of ensue are shown from WARNING on, those
of steps (`ctx.log`) from INFO on. An exception is named; tracebacks and all other records are shown with --debug.
"""

import logging
import time

from rich.text import Text

from .output import plain, stderr

__all__ = ["LogLines"]


class LogLines(logging.Handler):
    """The logging handler that prints each record as a line on stderr."""

    def __init__(self, *, is_timed: bool, is_debug: bool) -> None:
        super().__init__()
        self._is_timed = is_timed
        self._is_debug = is_debug

    def install(self) -> None:
        """Become the only handler of the logger `ensue`."""
        logger = logging.getLogger("ensue")
        logger.handlers = [self]
        logger.propagate = False
        logger.setLevel(logging.DEBUG if self._is_debug else logging.WARNING)
        logging.getLogger("ensue.steps").setLevel(logging.DEBUG if self._is_debug else logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stderr().print(self._text(record), soft_wrap=True)
        except Exception:  # noqa: BLE001 - a failed log line must not end the command
            self.handleError(record)

    def _text(self, record: logging.LogRecord) -> Text:
        stamp = time.strftime("%H:%M:%S ", time.localtime(record.created)) if self._is_timed else ""
        level = record.levelname.lower()
        style = {"warning": "yellow", "error": "red", "critical": "red"}.get(level, "dim")
        message = record.getMessage()
        if record.name == "ensue.steps" and not self._is_timed:
            message = message.partition(" run=")[0]
        if record.exc_info and self._is_debug:
            message += "\n" + logging.Formatter().formatException(record.exc_info)
        elif record.exc_info and (error := record.exc_info[1]) is not None:
            message += f": {type(error).__name__}: {error}"
        lines = "\n".join(plain(line) for line in message.split("\n"))
        return Text.assemble((stamp, "dim"), (f"{level} ", style), lines)
