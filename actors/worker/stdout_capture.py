"""Stdout capture: what a step prints is sent to the engine line by line, like its lines to `ctx.log`."""

import io
import sys
import threading

from .step_logger import LogSink

__all__ = ["PrintedLines", "forward_prints"]

_MAX_CHARACTERS = 4_000
_RAY_MARKERS = (":actor_name:", ":task_name:", ":job_id:")
"""How Ray marks lines of a worker for its log monitor."""


class PrintedLines(io.TextIOBase):
    """A text stream that passes on whole lines; each thread has an unfinished line of its own."""

    def __init__(self, sink: LogSink, step: str, level: str) -> None:
        self._sink = sink
        self._step = step
        self._level = level
        self._local = threading.local()

    def writable(self) -> bool:
        """True: it takes text."""
        return True

    def write(self, text: str, /) -> int:
        """Take text; lines that are complete are passed on."""
        begun: str = getattr(self._local, "begun", "")
        *lines, rest = (begun + text).split("\n")
        for line in lines:
            if line and not line.startswith(_RAY_MARKERS):
                plain = line[:_MAX_CHARACTERS].encode(errors="backslashreplace").decode()
                self._sink([self._level, plain, {}, self._step, "", 0])
        self._local.begun = rest[:_MAX_CHARACTERS]
        return len(text)


def forward_prints(sink: LogSink, step: str) -> None:
    """Send what this process prints to the engine from now on; stderr stays in the worker's own file."""
    sys.stdout = PrintedLines(sink, step, "info")
