"""BoundLog: the logger of a step; its lines are sent to the engine instead of a file on some node."""

from collections.abc import Callable
from typing import Any

__all__ = ["BoundLog", "LogLine", "LogSink", "format_line"]

LogLine = list[Any]
"""[level, message, fields, step, run id, attempt]"""
_MAX_CHARACTERS = 16_384
_MAX_INTEGER = 2**63
LogSink = Callable[[LogLine], None]


class BoundLog:
    """A logger bound to one attempt of one step."""

    __slots__ = ("_attempt", "_run_id", "_sink", "_step")

    def __init__(self, sink: LogSink, step: str, run_id: str, attempt: int) -> None:
        self._sink = sink
        self._step = step
        self._run_id = run_id
        self._attempt = attempt

    def debug(self, message: str, /, **fields: object) -> None:
        """Log what helps to find a fault."""
        self._say("debug", message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        """Log what happens."""
        self._say("info", message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        """Log what may become a fault."""
        self._say("warning", message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        """Log what went wrong."""
        self._say("error", message, fields)

    def _say(self, level: str, message: str, fields: dict[str, object]) -> None:
        plain = {_plain(name): _plain(value) for name, value in fields.items()}
        self._sink([level, _plain(str(message)), plain, self._step, self._run_id, self._attempt])


def _plain(value: object) -> object:
    """A value that msgpack can carry: no value fails the step that logs it."""
    if isinstance(value, str):
        return value[:_MAX_CHARACTERS].encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _MAX_INTEGER):
        return value
    return repr(value)[:_MAX_CHARACTERS]


def format_line(line: LogLine) -> str:
    """A log line as text."""
    _, message, fields, step, run_id, attempt = line
    extra = "".join(f" {name}={value}" for name, value in fields.items())
    return f"{step}: {message}{extra}" + (f" run={run_id} attempt={attempt}" if run_id else "")
