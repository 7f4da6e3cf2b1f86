"""The thread that Ray is started on, and that outlives every caller.

Linux sends Ray's processes their death signal when the *thread* that started them ends, not the process. A caller's
thread (asyncio's pool, a short-lived one) must therefore never start Ray itself, or its end would take Ray along.
The thread is a daemon: it never holds up the exit of the interpreter.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["RayThread"]

T = TypeVar("T")


class RayThread:
    """Runs calls one after another, on one thread, until closed."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="ensue-ray", daemon=True).start()

    def call(self, work: Callable[[], T], timeout_seconds: float) -> T:
        """What `work` returns or raises; TimeoutError when it takes longer, and then it is left behind."""
        future: Future[T] = Future()
        self._calls.put(lambda: _settle(future, work))
        return future.result(timeout_seconds)

    def close(self) -> None:
        """End the thread after the calls that wait; processes that it started and that still run are killed by Linux."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - carried to the caller, SystemExit included
        future.set_exception(error)
