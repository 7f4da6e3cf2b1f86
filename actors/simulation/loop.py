"""VirtualLoop: the event loop of a simulation: asyncio whose clock is a number, so that an hour of sleep takes no time.

Rules: nothing here reads a clock, waits or starts a thread. Time advances only when nothing is left to do at this
moment, and then straight to the next timer. The loop stops by itself if no timer is ahead, if its time is over, or if
it has turned so often that it must be in an endless loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from math import inf
from typing import Any, TypeVar, TypeVarTuple, Unpack

__all__ = ["ProcessClock", "VirtualLoop", "WallClock"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_RESOLUTION_SECONDS = 1e-9
_LAST_TURNS = 100_000
_LAST_SECONDS = 60.0


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop in virtual time: tasks, timers and synchronisation, but no sockets and no processes.

    ended: why it stopped by itself: "idle", "late" or "busy".
    """

    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, until_seconds: float, most_turns: int) -> None:
        super().__init__()
        self._now = 0.0
        self._until_seconds = until_seconds
        self._turns_left = most_turns
        self._clock_resolution = _RESOLUTION_SECONDS
        self._selector = self
        self.ended: str | None = None

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """Called by asyncio instead of waiting: turn the clock to the next timer."""
        self._turns_left -= 1
        if self._turns_left <= 0:
            self._end("busy")
        elif timeout is None:
            self._end("idle")
        elif timeout > 0:
            at = self._scheduled[0].when()
            if at > self._until_seconds:
                self._end("late")
            else:
                self._now = max(self._now, at)
        return []

    def run_in_executor(
        self,
        executor: Executor | None,  # noqa: ARG002 - there are no threads
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """What asyncio would give to a thread (`asyncio.to_thread`) runs here at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
            future.set_exception(error)
        return future

    def drain(self) -> None:
        """Cancel the tasks that are left, and let them end, before the loop is closed."""
        self._turns_left, self._until_seconds = _LAST_TURNS, inf
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks, timeout=_LAST_SECONDS))
        self.run_until_complete(self.shutdown_asyncgens())

    def _end(self, reason: str) -> None:
        self.ended = reason
        self.stop()

    def _process_events(self, event_list: list[Any]) -> None:
        """No sockets, no events."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nothing is woken."""


class WallClock:
    """The time of day of a simulated machine: it advances with the loop, and `jump` sets it."""

    def __init__(self, loop: VirtualLoop, start_us: int) -> None:
        self._loop = loop
        self._offset_us = start_us

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self._offset_us + int(self._loop.time() * 1e6)

    def jump(self, seconds: float) -> None:
        """Set the clock forward, or back."""
        self._offset_us += int(seconds * 1e6)


class ProcessClock:
    """The wall clock as one process reads it: like `SystemClock`, it never runs backwards."""

    def __init__(self, wall: WallClock) -> None:
        self._wall = wall
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        self._last_us = max(self._last_us, self._wall.now_us())
        return self._last_us
