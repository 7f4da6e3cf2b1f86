"""Printing: what a step prints goes to whoever runs the engine, line by line, like what it says to `ctx.log`."""

import io
import sys
import threading

from .step_logger import LogSink

__all__ = ["PrintedLines", "forward_prints"]

_MOST_CHARACTERS = 4_000
_RAYS_OWN = (":actor_name:", ":task_name:", ":job_id:")
"""How Ray marks lines of a worker for its log monitor."""


class PrintedLines(io.TextIOBase):
    """A text stream that passes whole lines on; each thread has a line of its own under way."""

    def __init__(self, sink: LogSink, step: str, level: str) -> None:
        self._sink = sink
        self._step = step
        self._level = level
        self._local = threading.local()

    def writable(self) -> bool:
        """It takes text."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; what ends in a line break is passed on."""
        begun: str = getattr(self._local, "begun", "")
        *lines, rest = (begun + text).split("\n")
        for line in lines:
            if line and not line.startswith(_RAYS_OWN):
                plain = line[:_MOST_CHARACTERS].encode(errors="backslashreplace").decode()
                self._sink([self._level, plain, {}, self._step, "", 0])
        self._local.begun = rest[:_MOST_CHARACTERS]
        return len(text)


def forward_prints(sink: LogSink, step: str) -> None:
    """Send this process's `print` to the engine from now on; what goes to stderr stays in the worker's own file."""
    sys.stdout = PrintedLines(sink, step, "info")
