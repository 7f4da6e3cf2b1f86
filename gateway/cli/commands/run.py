"""`ensue run`: one event, from the command line to the end of its run, on an engine that lives as long.

1. Everything that can be wrong with the words is found before Ray is started.
2. The store is a file unless another is named, so an interrupted run goes on when the next engine starts on it.
3. stdout has the outcome, and with --json one document and nothing else; what happens meanwhile goes to stderr.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..exit_codes import FAILED, INTERRUPTED, OK, TERMINATED, Stopped, complain

if TYPE_CHECKING:
    from ....actors.client.handles import Outcome, RunHandle
    from ....actors.engine import Engine
    from ....events.model.event import Event
    from ....events.pipelines.pipeline import Pipeline
    from ...schemas.runs import RunDetailOut
    from ..signals import Interrupt
    from ..terminal.view import View

__all__ = ["RunOptions", "run"]

_POLL_SECONDS = 0.1
_GRACE_SECONDS = {INTERRUPTED: 3.0, TERMINATED: 30.0}
"""Ctrl-C is somebody who waits, SIGTERM a machine that asks for an end in order."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `ensue run` was told."""

    target: str
    event: str | None
    data: str | None
    store: str
    address: str | None
    timeout_seconds: float | None
    as_json: bool
    is_debug: bool


def run(order: RunOptions) -> int:
    """Carry the order out; the exit code."""
    from ..event_data import read_event
    from ..store_lock import hold
    from ..target import load
    from ..terminal.log import LogLines
    from .check import refuse_errors

    pipeline = load(order.target)
    refuse_errors(pipeline)
    event = read_event(pipeline, order.event, order.data)
    LogLines(is_timed=False, is_debug=order.is_debug).install()
    with hold(order.store, "`ensue run`"):
        return asyncio.run(_Run(order, pipeline, event).go())


class _Run:
    """One run, from the start of its engine to the end of it."""

    def __init__(self, order: RunOptions, pipeline: "Pipeline", event: "Event") -> None:
        self._order = order
        self._pipeline = pipeline
        self._event = event
        self._run_id: str | None = None
        self._document: RunDetailOut | None = None

    async def go(self) -> int:
        from ..signals import interruptible
        from ..terminal.output import print_document, print_outcome
        from ..terminal.view import view

        with view(quiet=self._order.as_json) as shown:
            task = asyncio.ensure_future(self._work(shown))
            with interruptible(task) as interrupt:
                self._interrupt: Interrupt = interrupt
                with suppress(asyncio.CancelledError):
                    await task
        if interrupt.code is not None and self._document is None:
            self._say_interrupted()
            raise Stopped(interrupt.code)
        document = task.result()
        if self._order.as_json:
            print_document(document)
        else:
            print_outcome(document)
        return OK if document.status == "completed" else FAILED

    async def _work(self, shown: "View") -> "RunDetailOut":
        workers = sum(step.replicas for step in self._pipeline.steps.values())
        shown.say(f"starting Ray and {workers} worker{'' if workers == 1 else 's'}")
        async with self._engine(shown) as engine:
            handle = await engine.emit(self._event)
            self._run_id = handle.id
            self._document = await self._watch(engine, handle, shown)
            shown.say("stopping")
        return self._document

    @asynccontextmanager
    async def _engine(self, shown: "View") -> "AsyncGenerator[Engine]":
        from ....actors.engine import Engine

        engine = Engine(self._pipeline, store=self._order.store, address=self._order.address)
        engine.on_ray_started = self._interrupt.take
        try:
            await engine.start()
            yield engine
        finally:
            if self._interrupt.code is not None:
                shown.say("interrupted: stopping, Ctrl-C again ends it at once")
                await engine.stop(_GRACE_SECONDS[self._interrupt.code])
            else:
                await engine.stop()

    async def _watch(self, engine: "Engine", handle: "RunHandle", shown: "View") -> "RunDetailOut":
        from ..sources.store import LogWatch

        watch = LogWatch(engine.reader(), handle.raw_id, self._pipeline, engine.progress)
        ended = asyncio.ensure_future(handle.result(self._order.timeout_seconds))
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_POLL_SECONDS)
                shown.show(await asyncio.to_thread(watch.frame))
            self._check_time(ended)
            return await asyncio.to_thread(watch.document)
        finally:
            ended.cancel()
            watch.close()

    def _check_time(self, ended: "asyncio.Future[Outcome]") -> None:
        try:
            ended.result()
        except TimeoutError:
            complain(f"run {self._run_id} has not ended within {self._order.timeout_seconds:g} s; {self._goes_on()}")
            raise Stopped(FAILED) from None

    def _say_interrupted(self) -> None:
        from ..terminal.output import say, stderr

        if self._run_id is None:
            text = "interrupted: the event was not accepted yet"
        else:
            text = f"interrupted: run {self._run_id}: {self._goes_on()}"
        say(stderr(), text)

    def _goes_on(self) -> str:
        from ..store_lock import is_durable

        if not is_durable(self._order.store):
            return "it is lost with its memory store; a --store in a file would have kept it"
        return f"it goes on when an engine starts on {self._order.store}, such as ensue serve {self._order.target}"
