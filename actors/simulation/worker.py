"""SimWorker: a worker of a simulation: the real core, executor and retry decisions around the user's step.

Rules: it takes and gives packed messages. Its clock is the virtual loop's, and its steps take drawn times (`pace.py`).
"""

from collections.abc import Callable
from typing import Any, Protocol

from ...events.model.context import Host
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from ..worker.executor import Executor
from ..worker.outbox import Outbox
from ..worker.step_logger import LogSink
from ..worker.worker_core import WorkerCore
from .loop import WallClock
from .pace import AttemptPlace, PacedInvoker, SimExecutor

__all__ = ["SimWorker", "WorkerPlace"]

_WATCH_SECONDS = 0.25
_STUCK_SECONDS = 2.0


class WorkerPlace(AttemptPlace, Protocol):
    """The simulated world as a worker sees it."""

    wall: WallClock

    def arrived(self, worker: "SimWorker", message: bytes) -> None:
        """A worker has something to say."""
        ...

    def earlier_events(self, run_id: bytes, type_: str) -> list[Any]:
        """Earlier events of a run."""
        ...


class SimWorker:
    """One process of one step."""

    def __init__(self, number: int, pipeline: Pipeline, step: Step, place: WorkerPlace) -> None:
        self.number = number
        self.step = step
        self.is_dead = False
        """Whether its process is gone: it does nothing any more."""
        self.worked = False
        """Whether it has got something done."""
        self._pipeline = pipeline
        self._place = place
        self._loop = place.loop
        self._watching = False
        self._core = WorkerCore(self._make_executor, self._ring, query=place.earlier_events)
        self._core.outbox.send = self._send
        self._flush: Callable[[], object] = self._core.outbox.flush

    def handle(self, message: bytes) -> None:
        """Take a message of a partition."""
        if self.is_dead:
            return
        self._core.handle(message)
        if self._core.executor.queue:
            self._watch_soon()

    def die(self) -> None:
        """The process is gone: its attempts stop, and no message is sent."""
        self.is_dead = True
        self._core.abandon()

    def _make_executor(self, host: Host, sink: LogSink, outbox: Outbox) -> Executor:
        place = self._place
        invoker = PacedInvoker(self.number, self._pipeline, self.step, place, host=host, sink=sink)
        executor = SimExecutor(invoker, outbox, place.loop)
        executor.monotonic = place.loop.time
        executor.wall = lambda: place.wall.now_us() / 1e6
        return executor

    def _ring(self) -> None:
        self._loop.call_soon(self._flush)

    def _send(self, messages: list[bytes]) -> None:
        if not self.is_dead:
            for message in messages:
                self._place.arrived(self, message)

    def _watch_soon(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.call_later(self._watch_seconds(), self._watch)

    def _watch(self) -> None:
        self._watching = False
        executor = self._core.executor
        if not self.is_dead:
            executor.watch()
            if executor.queue or executor.running or executor.is_stuck:
                self._watch_soon()

    def _watch_seconds(self) -> float:
        """Until the first attempt is over its time; looking more often would change nothing."""
        executor, now = self._core.executor, self._loop.time()
        touched = min((r.touched for r in executor.running.values() if not r.overdue), default=now)
        seconds = max(_WATCH_SECONDS, touched + executor.timeout_seconds - now)
        return min(seconds, _STUCK_SECONDS) if executor.is_stuck else seconds
