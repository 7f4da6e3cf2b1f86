"""The command `ensue run`: one event, on an engine that is started for its run.

Rules: the options are checked before Ray is started. The default store is a file, so an interrupted run continues when
the next engine starts on it. stdout has the outcome, with --json exactly one document; progress goes to stderr.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..exit_codes import FAILED, INTERRUPTED, OK, TERMINATED, Stopped, report_error

if TYPE_CHECKING:
    from ....actors.client.handles import Outcome, RunHandle
    from ....actors.engine import Engine
    from ....events.model.event import Event
    from ....events.pipelines.pipeline import Pipeline
    from ...schemas.runs import RunDetailOut
    from ..signals import Interrupt
    from ..terminal.view import View

__all__ = ["RunOptions", "run_event"]

_POLL_SECONDS = 0.1
_GRACE_SECONDS = {INTERRUPTED: 3.0, TERMINATED: 30.0}
"""How long running steps may continue: a person waits after Ctrl-C, a service manager after SIGTERM."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `ensue run`."""

    target: str
    event: str | None
    data: str | None
    store: str
    address: str | None
    timeout_seconds: float | None
    as_json: bool
    is_debug: bool


def run_event(options: RunOptions) -> int:
    """Run the event; returns the exit code."""
    from ..event_data import read_event
    from ..store_lock import hold
    from ..target import load
    from ..terminal.log import LogLines
    from .check import refuse_errors

    pipeline = load(options.target)
    refuse_errors(pipeline)
    event = read_event(pipeline, options.event, options.data)
    LogLines(is_timed=False, is_debug=options.is_debug).install()
    with hold(options.store, "`ensue run`"):
        return asyncio.run(_Run(options, pipeline, event).go())


class _Run:
    """One run, from the start of its engine to the stop of the engine."""

    def __init__(self, options: RunOptions, pipeline: "Pipeline", event: "Event") -> None:
        self._options = options
        self._pipeline = pipeline
        self._event = event
        self._run_id: str | None = None
        self._document: RunDetailOut | None = None

    async def go(self) -> int:
        from ..signals import interruptible
        from ..terminal.view import view

        with view(quiet=self._options.as_json) as shown:
            task = asyncio.ensure_future(self._work(shown))
            with interruptible(task) as interrupt:
                self._interrupt: Interrupt = interrupt
                with suppress(asyncio.CancelledError):
                    await task
        if interrupt.code is not None and self._document is None:
            self._print_interrupted()
            raise Stopped(interrupt.code)
        return OK if task.result().status == "completed" else FAILED

    async def _work(self, shown: "View") -> "RunDetailOut":
        workers = sum(step.replicas for step in self._pipeline.steps.values())
        shown.say(f"starting Ray and {workers} worker{'' if workers == 1 else 's'}")
        async with self._engine(shown) as engine:
            handle = await engine.emit(self._event)
            self._run_id = handle.id
            self._document = await self._watch(engine, handle, shown)
            shown.finish()
            self._print(self._document)
        return self._document

    def _print(self, document: "RunDetailOut") -> None:
        """Print the outcome at once: stopping Ray takes half a second more."""
        from ..terminal.output import print_document, print_outcome

        if self._options.as_json:
            print_document(document)
        else:
            print_outcome(document)
        sys.stdout.flush()

    @asynccontextmanager
    async def _engine(self, shown: "View") -> "AsyncGenerator[Engine]":
        from ....actors.engine import Engine

        engine = Engine(self._pipeline, store=self._options.store, address=self._options.address)
        engine.on_ray_started = self._interrupt.install
        try:
            await engine.start()
            yield engine
        finally:
            if self._interrupt.code is not None:
                shown.say("interrupted: stopping; press Ctrl-C again to end at once")
                await engine.stop(_GRACE_SECONDS[self._interrupt.code])
            else:
                await engine.stop()

    async def _watch(self, engine: "Engine", handle: "RunHandle", shown: "View") -> "RunDetailOut":
        from ..sources.store import LogWatch

        watch = LogWatch(engine.reader(), handle.raw_id, self._pipeline, engine.progress)
        ended = asyncio.ensure_future(handle.result(self._options.timeout_seconds))
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=_POLL_SECONDS)
                shown.show(await asyncio.to_thread(watch.frame))
            self._check_timeout(ended)
            return await asyncio.to_thread(watch.document)
        finally:
            ended.cancel()
            watch.close()

    def _check_timeout(self, ended: "asyncio.Future[Outcome]") -> None:
        try:
            ended.result()
        except TimeoutError:
            report_error(
                f"run {self._run_id} has not ended within {self._options.timeout_seconds:g} s; {self._what_next()}"
            )
            raise Stopped(FAILED) from None

    def _print_interrupted(self) -> None:
        from ..terminal.output import say, stderr

        if self._run_id is None:
            text = "interrupted before the event was accepted"
        else:
            text = f"interrupted: run {self._run_id}: {self._what_next()}"
        say(stderr(), text)

    def _what_next(self) -> str:
        from ..store_lock import is_durable

        if not is_durable(self._options.store):
            return "it is lost with its memory store; use a --store in a file to keep runs"
        serve = f"ensue serve {self._options.target}"
        return f"it continues when an engine starts on {self._options.store}, for example: {serve}"
