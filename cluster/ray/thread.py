"""RayThread: the thread that starts Ray, and that outlives every caller.

Rules: Linux kills Ray's processes when the *thread* that started them ends, not the process. So a caller's thread
(asyncio's pool, a short-lived one) must not start Ray itself, or its end would end Ray. The thread is a daemon, so it
does not delay the exit of the interpreter, which ends Ray in any case.
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
        """What `work` returns or raises. Raises `TimeoutError` if it takes longer; it continues then."""
        future: Future[T] = Future()
        self._calls.put(lambda: _settle(future, work))
        return future.result(timeout_seconds)

    def close(self) -> None:
        """End the thread after the calls that wait; Linux then kills what it started and still runs."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - carried to the caller, SystemExit included
        future.set_exception(error)
