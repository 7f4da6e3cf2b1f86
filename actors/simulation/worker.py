"""A worker of a simulation: the real decoding, executor and retry decisions around the user's step.

Rules: it hears packed messages and answers with packed messages. Every attempt takes a drawn time around the step's
own; a step that is not async runs at one moment of it, and cannot be stopped before its time is over, as in a thread.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from ...events.model.context import Host
from ...events.model.event import Event
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import CallStyle, Step
from ..transport.messages import Tag, unpack_message
from ..worker.async_executor import TaskExecutor
from ..worker.executor import Running
from ..worker.invoke import Call, Invoker, Item
from ..worker.outbox import Outbox
from ..worker.seen_deliveries import SeenDeliveries
from ..worker.step_logger import LogLine, LogSink
from .faults import Dice
from .loop import VirtualLoop, WallClock

__all__ = ["Place", "SimAttempt", "SimWorker"]

E = TypeVar("E", bound=Event)
_WATCH_SECONDS = 0.25
_STUCK_SECONDS = 2.0
_MEAN_SECONDS = 0.02
_SLOW_SECONDS = 10.0
_HUNG_SECONDS = 3600.0
_YIELD_SECONDS = 0.002


class Place(Protocol):
    """The simulated world as a worker sees it."""

    loop: VirtualLoop
    dice: Dice
    wall: WallClock

    def arrived(self, worker: "SimWorker", message: bytes) -> None:
        """A worker has something to say."""
        ...

    def code_started(self, attempt: "SimAttempt") -> None:
        """A step's own code begins."""
        ...

    def code_ended(self, attempt: "SimAttempt", emitted: int | None) -> None:
        """A step's own code ended."""
        ...

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run."""
        ...

    def worker_died(self, worker: "SimWorker", why: str) -> None:
        """A worker's process is gone, by its own fault."""
        ...


class SimAttempt(NamedTuple):
    """An attempt in a worker, and how much time passes around the step's own code."""

    worker: "SimWorker"
    item: Item
    before_seconds: float
    after_seconds: float


class SimWorker:
    """One process of one step. is_dead: it does nothing any more. worked: it has got something done."""

    def __init__(self, number: int, pipeline: Pipeline, step: Step, place: Place) -> None:
        self.number = number
        self.step = step
        self.pipeline = pipeline
        self.place = place
        self.is_dead = False
        self.worked = False
        self.loop = place.loop
        self._seen = SeenDeliveries()
        self.outbox = Outbox(self._ring)
        self.outbox.send = self._send
        self.outbox.leaving = self._seen.answered
        self.executor = SimExecutor(PacedInvoker(self), self.outbox, place.loop)
        self.executor.monotonic = place.loop.time
        self.executor.wall = lambda: place.wall.now_us() / 1e6
        self._watching = False

    def hear(self, message: bytes) -> None:
        """Take a message of a partition."""
        if self.is_dead:
            return
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self._deliver(self._seen.fresh(body))
        elif tag == Tag.CREDIT:
            self.executor.credit(body[0], body[1])
        elif tag == Tag.CANCEL:
            self.executor.cancel(body)
        elif tag == Tag.RECALL:
            self.executor.recall(body)
        elif tag == Tag.INQUIRE:
            self._answer(body)

    def die(self) -> None:
        """The process is gone: nothing it was doing goes on, and nothing is said."""
        self.is_dead = True
        self.executor.queue.clear()
        self.executor.stopping = True
        for running in list(self.executor.running.values()):
            if running.task is not None:
                running.task.cancel()

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run."""
        return self.place.earlier(run_id, model)

    def progress(self, token: int, done: float, total: float) -> None:
        """Pass on how far a step is."""
        self.executor.heartbeat(token)
        self.outbox.say(Tag.PROGRESS, [token, done, total])

    def heartbeat(self, token: int) -> None:
        """Renew a step's time."""
        self.executor.heartbeat(token)

    def log(self, line: LogLine) -> None:
        """Pass on what a step says."""
        self.outbox.say(Tag.LOG, line)

    def _deliver(self, items: list[Item]) -> None:
        if items:
            self.executor.submit(items)
            self._watch_soon()

    def _answer(self, tokens: list[int]) -> None:
        missing = self._seen.missing(tokens)
        if missing:
            self.outbox.say(Tag.MISSING, missing)

    def _ring(self) -> None:
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.outbox.flush()

    def _send(self, messages: list[bytes]) -> None:
        if not self.is_dead:
            for message in messages:
                self.place.arrived(self, message)

    def _watch_soon(self) -> None:
        if not self._watching:
            self._watching = True
            self.loop.call_later(self._watch_seconds(), self._watch)

    def _watch(self) -> None:
        self._watching = False
        if not self.is_dead:
            self.executor.watch()
            if self.executor.queue or self.executor.running or self.executor.is_stuck:
                self._watch_soon()

    def _watch_seconds(self) -> float:
        """Until the first attempt is over its time; looking more often would change nothing."""
        executor = self.executor
        touched = min((r.touched for r in executor.running.values() if not r.overdue), default=self.loop.time())
        seconds = max(_WATCH_SECONDS, touched + executor.timeout_seconds - self.loop.time())
        return min(seconds, _STUCK_SECONDS) if executor.is_stuck else seconds


class SimExecutor(TaskExecutor):
    """Runs every step as a task of the virtual loop; what is not async cannot be interrupted, as in a thread."""

    def __init__(self, invoker: Invoker, outbox: Outbox, loop: VirtualLoop) -> None:
        super().__init__(invoker, outbox, loop)
        self._is_async = invoker.step.style in (CallStyle.ASYNC, CallStyle.ASYNC_STREAM)

    def interrupt(self, running: Running) -> bool:
        """Cancel the task of an async step; a sync generator can be stopped where it waits for the log."""
        return super().interrupt(running) if self._is_async or running.paused else False

    def _grace_seconds(self, running: Running) -> float:
        return super()._grace_seconds(running) if self._is_async else 0.0


class PacedInvoker(Invoker):
    """An invoker whose calls take a drawn time, and are seen to begin and to end."""

    def __init__(self, worker: SimWorker) -> None:
        host: Host = worker
        sink: LogSink = worker.log
        super().__init__(worker.step, worker.pipeline.registry, host, sink)
        self._worker = worker
        self._place = worker.place
        self._random = worker.place.dice.stream("durations")
        self._streams = worker.step.style.endswith("stream")

    def call(self, item: Item, now_seconds: float) -> Call:
        """The call that a delivery asks for, paced."""
        function, arguments = super().call(item, now_seconds)
        paced: Callable[..., Any] = self._stream if self._streams else self._once
        return Call(partial(paced, self._attempt(item), function), arguments)

    def _attempt(self, item: Item) -> SimAttempt:
        seconds = self._random.expovariate(1 / _MEAN_SECONDS)
        before = seconds * self._random.random()
        moment = self._random.random()
        if self._happens("slow"):
            seconds += _SLOW_SECONDS * moment
        if self._happens("hung"):
            stop = self.step.timeout_seconds + _HUNG_SECONDS
            before, seconds = (stop, stop) if moment < 0.5 else (before, before + stop)  # noqa: PLR2004 - either is as likely
        if self._happens("worker_death"):
            self._place.loop.call_later(moment * max(seconds, _YIELD_SECONDS), self._die)
        return SimAttempt(self._worker, item, before, max(0.0, seconds - before))

    def _happens(self, kind: str) -> bool:
        return self._place.dice.happens(
            kind, self._place.loop.time(), f"worker {self._worker.number} ({self.step.name})"
        )

    def _die(self) -> None:
        self._place.worker_died(self._worker, "its process was killed")

    async def _once(self, attempt: SimAttempt, function: Callable[..., Any], /, **arguments: Any) -> Any:
        await asyncio.sleep(attempt.before_seconds)
        self._place.code_started(attempt)
        emitted: int | None = None
        try:
            result = function(**arguments)
            if inspect.isawaitable(result):
                result = await result
            await asyncio.sleep(attempt.after_seconds)
            emitted = _count(result)
        finally:
            self._place.code_ended(attempt, emitted)
        return result

    async def _stream(
        self, attempt: SimAttempt, function: Callable[..., Any], /, **arguments: Any
    ) -> AsyncIterator[Any]:
        await asyncio.sleep(attempt.before_seconds)
        self._place.code_started(attempt)
        count = 0
        emitted: int | None = None
        try:
            async with aclosing(_iterate(function(**arguments))) as events:
                async for event in events:
                    count += event is not None
                    yield event
                    await asyncio.sleep(self._random.expovariate(1 / _YIELD_SECONDS))
            await asyncio.sleep(attempt.after_seconds)
            emitted = count
        finally:
            self._place.code_ended(attempt, emitted)


async def _iterate(events: Any) -> AsyncGenerator[Any, None]:
    """The events of a generator of either kind."""
    if not hasattr(events, "__aiter__"):
        for event in events:
            yield event
        return
    async with aclosing(events):
        async for event in events:
            yield event


def _count(result: Any) -> int:
    if result is None:
        return 0
    return len(cast("list[Any]", result)) if isinstance(result, list | tuple) else 1
