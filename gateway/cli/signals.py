"""The signals of a command: the first Ctrl-C or SIGTERM stops it cleanly, the second one at once.

Rules: Ray installs signal handlers of its own when it starts, so ours are installed again after that. The log is
correct however the process ends; a clean stop only saves time.
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
    """The signal handlers that cancel a task. `code` is the exit code of the first signal, or None before it."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.code: int | None = None
        self._task = task
        self._loop = asyncio.get_running_loop()

    def install(self) -> None:
        """Install the handlers; call it again after Ray has started."""
        for number in _CODES:
            with suppress(ValueError, RuntimeError):  # not the main thread
                self._loop.add_signal_handler(number, self._on_signal, number)

    def remove(self) -> None:
        """Remove the handlers; a later signal ends the process at once."""
        for number in _CODES:
            with suppress(ValueError, RuntimeError):
                self._loop.remove_signal_handler(number)
                signal.signal(number, _end_now)

    def _on_signal(self, number: signal.Signals) -> None:
        if self.code is not None:
            _end_now(number)
        self.code = _CODES[number]
        self._task.cancel()


@contextmanager
def interruptible(task: asyncio.Task[Any]) -> Generator[Interrupt]:
    """Let the signals cancel a task inside the block."""
    interrupt = Interrupt(task)
    interrupt.install()
    try:
        yield interrupt
    finally:
        interrupt.remove()


def _end_now(number: int, _frame: object = None) -> None:
    sys.stderr.flush()
    os._exit(_CODES.get(signal.Signals(number), 1))
