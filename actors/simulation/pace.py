"""The pace of steps in a simulation: how long calls take, and which of them hang or lose their process.

Rules: every attempt takes a drawn time around the step's own. A step that is not async runs at one moment of it, and
cannot be stopped before its time is over, as in a thread.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from ...events.model.context import Host
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import CallStyle, Step
from ..worker.async_executor import TaskExecutor
from ..worker.executor import Running
from ..worker.invoke import Call, Invoker, Item
from ..worker.outbox import Outbox
from ..worker.step_logger import LogSink
from .faults import Dice
from .loop import VirtualLoop

__all__ = ["AttemptPlace", "PacedInvoker", "SimAttempt", "SimExecutor"]

_MEAN_SECONDS = 0.02
_SLOW_SECONDS = 10.0
_HUNG_SECONDS = 3600.0
_YIELD_SECONDS = 0.002


class SimAttempt(NamedTuple):
    """An attempt in a worker, and how much time passes around the step's own code."""

    worker: int
    step: str
    item: Item
    before_seconds: float
    after_seconds: float


class AttemptPlace(Protocol):
    """The simulated world as an attempt sees it."""

    loop: VirtualLoop
    dice: Dice

    def code_started(self, attempt: SimAttempt) -> None:
        """A step's own code begins."""
        ...

    def code_ended(self, attempt: SimAttempt, emitted: int | None) -> None:
        """A step's own code ended; `emitted` counts its events, None if it raised."""
        ...

    def process_killed(self, worker: int) -> None:
        """A worker's process is gone, by its own fault."""
        ...


class SimExecutor(TaskExecutor):
    """Runs every step as a task of the virtual loop; a sync step cannot be interrupted, as in a thread."""

    def __init__(self, invoker: Invoker, outbox: Outbox, loop: VirtualLoop) -> None:
        super().__init__(invoker, outbox, loop)
        self._is_async = invoker.step.style in (CallStyle.ASYNC, CallStyle.ASYNC_STREAM)

    def interrupt(self, running: Running) -> bool:
        """Cancel the task of an async step; a sync generator can be stopped where it waits for the log."""
        return super().interrupt(running) if self._is_async or running.paused else False

    def _grace_seconds(self, running: Running) -> float:
        return super()._grace_seconds(running) if self._is_async else 0.0


class PacedInvoker(Invoker):
    """An invoker whose calls take a drawn time, and report their beginning and their end."""

    def __init__(
        self, worker: int, pipeline: Pipeline, step: Step, place: AttemptPlace, *, host: Host, sink: LogSink
    ) -> None:
        super().__init__(step, pipeline.registry, host, sink)
        self._worker = worker
        self._place = place
        self._random = place.dice.stream("durations")
        self._streams = step.style.endswith("stream")

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
        return SimAttempt(self._worker, self.step.name, item, before, max(0.0, seconds - before))

    def _happens(self, kind: str) -> bool:
        return self._place.dice.happens(kind, self._place.loop.time(), f"worker {self._worker} ({self.step.name})")

    def _die(self) -> None:
        self._place.process_killed(self._worker)

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
