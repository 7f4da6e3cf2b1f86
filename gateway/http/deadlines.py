"""Deadlines: timeouts for the hot path, with one coarse timer for all requests.

Rules: a deadline is never early, and late by at most one tick. It cancels its block, which then raises TimeoutError; a
cancellation from elsewhere stays a cancellation. The meaning is that of `asyncio.timeout`, at a tenth of its cost.
"""

import asyncio
from types import TracebackType

__all__ = ["TICK_SECONDS", "Deadline", "Deadlines"]

TICK_SECONDS = 0.05


class Deadlines:
    """All deadlines of one event loop."""

    def __init__(self) -> None:
        self._watched: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def within(self, seconds: float) -> "Deadline":
        """A context manager whose block must end within this time."""
        return Deadline(self, seconds)

    def watch(self, deadline: "Deadline", loop: asyncio.AbstractEventLoop) -> None:
        """Start watching a deadline."""
        self._watched.add(deadline)
        if self._timer is None:
            self._timer = loop.call_later(TICK_SECONDS, self._tick, loop)

    def forget(self, deadline: "Deadline") -> None:
        """Stop watching a deadline: its block has ended."""
        self._watched.discard(deadline)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for deadline in [deadline for deadline in self._watched if deadline.due < now]:
            self._watched.discard(deadline)
            deadline.expire()
        self._timer = loop.call_later(TICK_SECONDS, self._tick, loop) if self._watched else None


class Deadline:
    """The deadline of one block."""

    __slots__ = ("_cancelling", "_deadlines", "_expired", "_seconds", "_task", "due")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._expired = False
        self._cancelling = 0
        self._task: asyncio.Task[object] | None = None
        self.due = 0.0

    @property
    def expired(self) -> bool:
        """Whether the time was over before the block ended."""
        return self._expired

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._task = task = asyncio.current_task(loop)
        self._cancelling = 0 if task is None else task.cancelling()
        self.due = loop.time() + self._seconds
        self._deadlines.watch(self, loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.forget(self)
        if not self._expired or self._task is None:
            return
        if self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        """Cancel the task that is in the block."""
        if self._task is not None:
            self._expired = True
            self._task.cancel()
