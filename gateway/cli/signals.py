"""Ctrl-C and SIGTERM while a command runs: the first ends it in order, the second at once.

Rules: Ray takes the signals when it starts, so they are taken again after that. The log is right whichever way a
process ends; ending in order only saves time.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from .exit_codes import INTERRUPTED, TERMINATED

__all__ = ["Interrupt", "interruptible"]

_CODES = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Interrupt:
    """What the signals say to a task. `code`: the exit code of the first one, or None while there was none."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.code: int | None = None
        self._task = task
        self._loop = asyncio.get_running_loop()

    def take(self) -> None:
        """Be the one that hears the signals, from now on."""
        for number in _CODES:
            with suppress(ValueError, RuntimeError):  # not the main thread
                self._loop.add_signal_handler(number, self._hear, number)

    def leave(self) -> None:
        """Hear no more; one that comes now still ends the process."""
        for number in _CODES:
            with suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(number)
                signal.signal(number, _end_now)

    def _hear(self, number: signal.Signals) -> None:
        if self.code is not None:
            _end_now(number)
        self.code = _CODES[number]
        self._task.cancel()


@contextmanager
def interruptible(task: asyncio.Task[Any]) -> Generator[Interrupt]:
    """Let the signals cancel a task while the block lasts."""
    interrupt = Interrupt(task)
    interrupt.take()
    try:
        yield interrupt
    finally:
        interrupt.leave()


def _end_now(number: int, _frame: object = None) -> None:
    sys.stderr.flush()
    os._exit(_CODES.get(signal.Signals(number), 1))
