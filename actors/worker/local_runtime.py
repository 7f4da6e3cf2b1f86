"""LocalRuntime: a partition and its workers in one event loop, without Ray.

Rules: one thread turns the loop, runs the steps and calls for the callers, so nothing happens at the same time. A
manual clock jumps to the next timer while a caller waits for a result and nothing else is ahead.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...cluster.clock import Clock
from ...events.decide.inputs import Input, WorkerDown, WorkerUp
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from ...events.policies.breaker import BreakerView
from ..partition.loop import Partition
from .local_worker import LocalWorker

__all__ = ["LocalRuntime"]

T = TypeVar("T")
_WATCH_SECONDS = 0.02


class LocalRuntime:
    """The `Backend` of a local engine, and the `Links` of its partition.

    advance: turns the clock forward by so many seconds; None if the clock turns by itself.
    """

    _loop: asyncio.AbstractEventLoop
    _partition: Partition
    _query: Callable[[bytes, str], list[Any]]
    _is_awaited: Callable[[], bool]
    _on_failure: Callable[[Exception], None]

    def __init__(self, clock: Clock, advance: Callable[[float], None] | None) -> None:
        self._clock = clock
        self._advance = advance
        self._workers: dict[int, LocalWorker] = {}
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._numbers = itertools.count(1)
        self._is_connected = False
        self._is_open = False
        """Whether turns are scheduled."""
        self._may_turn = False
        """Whether scheduled turns take place."""
        self._is_scheduled = False
        self._watch_timer: asyncio.TimerHandle | None = None
        self.has_failed = False
        """Whether a turn of the partition has failed."""

    def connect(
        self,
        partition: Partition,
        *,
        query: Callable[[bytes, str], list[Any]],
        is_awaited: Callable[[], bool],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Turn this partition from now on, in the event loop of the caller.

        query: earlier events of a run. is_awaited: whether a caller waits for a result. on_failure: a turn failed.
        """
        self._loop = asyncio.get_running_loop()
        self._partition = partition
        self._query = query
        self._is_awaited = is_awaited
        self._on_failure = on_failure
        self._workers.clear()
        self.has_failed = False
        self._is_connected = True

    def start(self, pipelines: Sequence[Pipeline]) -> None:
        """Start the workers, and continue where the log ends."""
        for pipeline in pipelines:
            for step in pipeline.steps.values():
                for _ in range(step.replicas):
                    self._add_worker(pipeline, step)
        self._is_open = self._may_turn = True
        self._partition.resume()
        self.wake()

    async def drain(self) -> None:
        """Refuse new events, wait for running attempts, and turn a last time."""
        self._partition.drain()
        self._is_open = False
        for worker in self._workers.values():
            await worker.wind_down()
        self._turn()

    def abandon(self) -> None:
        """End as after `kill -9`: workers send no more messages."""
        for worker in self._workers.values():
            worker.abandon()

    def close(self) -> None:
        """End the turns."""
        self._is_open = self._may_turn = False
        if self._watch_timer is not None:
            self._watch_timer.cancel()
            self._watch_timer = None

    @property
    def is_busy(self) -> bool:
        """Whether something can happen without an event from outside or a turn of the clock."""
        return (
            self._is_scheduled
            or bool(self._arrived)
            or self._partition.has_inputs
            or any(worker.is_busy for worker in self._workers.values())
        )

    # -- Backend -----------------------------------------------------------------------------------------------------

    def post_all(self, entries: Sequence[Input]) -> None:
        """Tell the partition."""
        self._partition.post_all(entries)
        self.wake()

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call something in the event loop."""
        self._loop.call_soon(callback, *arguments)

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that reads the disk."""
        return function(*arguments)

    def breakers(self) -> list[BreakerView]:
        """The circuit breakers as they are now."""
        if not self._is_connected:
            return []
        self._partition.publish()  # callers are in the thread that turns the loop
        return self._partition.breakers(self._clock.now_us())

    def result_awaited(self) -> None:
        """A caller begins to wait for a result."""
        self.wake()
        self._loop.call_soon(self._skip_if_idle)

    # -- Links -------------------------------------------------------------------------------------------------------

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        target = self._workers.get(worker)
        if target is not None:
            target.handle(message)
        self._watch_soon()

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent."""
        messages = list(self._arrived)
        self._arrived.clear()
        return messages

    def kill(self, worker: int, reason: str) -> None:
        """Replace a worker whose step ran out of time and cannot be interrupted; its task is abandoned."""
        old = self._workers.pop(worker)
        old.abandon()
        self._partition.post(WorkerDown(worker, reason, expected=True))
        self._add_worker(old.pipeline, old.step)

    def wait(self, timeout_seconds: float | None) -> None:
        """The event loop waits; the partition never does here."""

    def wake(self) -> None:
        """Turn the partition soon."""
        if not self._is_scheduled and self._is_open:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _add_worker(self, pipeline: Pipeline, step: Step) -> None:
        number = next(self._numbers)
        self._workers[number] = LocalWorker(
            number,
            pipeline,
            step,
            send=self.take,
            query=self._query,
            wall=lambda: self._clock.now_us() / 1e6,
        )
        self._partition.post(WorkerUp(number, pipeline.name, step.name, step.concurrency))
        self.wake()

    def take(self, worker: int, messages: list[bytes]) -> None:
        """Take messages of a worker."""
        self._arrived.extend((worker, message) for message in messages)
        self.wake()

    def _turn(self) -> None:
        self._is_scheduled = False
        if not self._may_turn:
            return
        try:
            self._partition.turn()
        except Exception as error:  # noqa: BLE001 - callers are told of it, whatever it is
            self._is_open = self._may_turn = False
            self.has_failed = True
            self._on_failure(error)
            return
        if not self.is_busy:
            self._skip()

    def _skip(self) -> None:
        """Turn the clock to the next timer: nothing else is ahead, and a caller waits for a result."""
        due_us = self._partition.due_us
        if due_us is not None and self._advance is not None and self._is_awaited():
            self._advance(max(0, due_us - self._clock.now_us()) / 1e6 + 1e-6)
            self.wake()

    def _skip_if_idle(self) -> None:
        if self._is_open and not self.is_busy:
            self._skip()

    def _watch_soon(self) -> None:
        if self._watch_timer is None and self._is_open:
            self._watch_timer = self._loop.call_later(_WATCH_SECONDS, self._watch_workers)

    def _watch_workers(self) -> None:
        self._watch_timer = None
        for worker in list(self._workers.values()):
            worker.watch()
        if any(worker.is_busy for worker in self._workers.values()):
            self._watch_soon()
