"""The face of an engine: what callers can do with one, whichever way it runs its steps.

Rules: what an `await` here returns is committed. Answers come back in bulk: `settle` is called once a commit.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from weakref import WeakValueDictionary

from ...cluster.clock import Clock, IdSource
from ...cluster.log.protocol import Log, Reader, RunRow
from ...events.decide.commands import Answer, RunEnded
from ...events.decide.inputs import Accepted, Emit, Input
from ...events.errors import Overloaded, RunUnknown, StaleEpoch
from ...events.ids import format_id
from ...events.model.event import Event
from ...events.model.registry import Registry
from ...events.pipelines.check import Finding
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.plan import Plan, compile_plan
from ...events.pipelines.version import version_of
from ...events.state.run_status import LIVE
from .admission import EngineAdmission, check_pipelines
from .handles import Outcome, RunHandle, outcome_of
from .operator_api import OperatorApi, raw_id
from .run_queries import finished_run

__all__ = ["EngineApi"]

T = TypeVar("T")


class EngineApi(OperatorApi):
    """The caller's side of an engine. `Engine` runs steps under Ray, `LocalEngine` in this process.

    on_ray_started: called in the event loop each time this process has started or joined a Ray, also in place of a lost
    one; that takes the process's signals, and whoever wants them takes them back.
    """

    _log: Log

    def __init__(self, pipelines: Sequence[Pipeline], store: str, clock: Clock, ids: IdSource | None = None) -> None:
        super().__init__()
        self.pipelines = check_pipelines(tuple(pipelines))
        self.store = store
        self._clock = clock
        self._ids = ids or IdSource(clock)
        self._intake = EngineAdmission(self.pipelines, self._ids)
        self._versions = {name: version_of(pipeline.declaration) for name, pipeline in self.pipelines.items()}
        self._plans: dict[str, Plan] = {
            name: compile_plan(pipeline.declaration, self._versions[name]) for name, pipeline in self.pipelines.items()
        }
        self._state = "new"
        self._handles = WeakValueDictionary()
        self._waiting: set[asyncio.Future[Any]] = set()
        self.on_ray_started: Callable[[], None] = lambda: None
        self.progress: dict[tuple[bytes, str], tuple[float, float]] = {}

    @abstractmethod
    async def start(self) -> None:
        """Open the log, resume what it holds, and get ready."""

    @abstractmethod
    async def stop(self) -> None:
        """Accept nothing more, let what runs finish, and end."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @abstractmethod
    def _post_all(self, entries: Sequence[Input]) -> None:
        """Tell the partition."""

    def result_awaited(self) -> None:
        """A caller begins to wait for a result."""

    def state(self) -> str:
        """`new`, `starting`, `ready`, `recovering: ...`, `draining`, `stopped`, or `failed: ...`, with the reason."""
        return self._state

    @property
    def durability(self) -> str:
        """What survives when an event is accepted: `full` a power cut, `relaxed` a crash, `memory` nothing."""
        return self._log.durability

    def versions(self) -> Mapping[str, str]:
        """The version of each pipeline."""
        return dict(self._versions)

    def findings(self) -> dict[str, list[Finding]]:
        """What the checks say of each pipeline."""
        return {name: pipeline.check() for name, pipeline in self.pipelines.items()}

    def registry_of(self, pipeline: str) -> Registry:
        """The event types of a pipeline."""
        return self.pipelines[pipeline].registry

    async def emit(self, event: Event, *, pipeline: str | None = None, key: str | None = None) -> RunHandle:
        """Start a run; returns when the event is committed. Waits while the engine is at its high-water mark."""
        entry = self._intake.emit(event, pipeline, key=key)
        handle = self._handles[entry.run_id] = RunHandle(self, entry.run_id)
        while True:
            future: asyncio.Future[Accepted] = self._loop.create_future()
            entry.reply = future
            self._post_waiting(entry, future)
            try:
                await future
            except Overloaded as error:
                await self._pause(error)
            else:
                return handle

    async def emit_many(self, events: Iterable[Event], *, pipeline: str | None = None) -> list[RunHandle]:
        """Start a run for each event, in one go: the cheapest way to start many. Waits as `emit` does."""
        entries = [self._intake.emit(event, pipeline) for event in events]
        handles = [RunHandle(self, entry.run_id) for entry in entries]
        self._handles.update((handle.raw_id, handle) for handle in handles)
        while entries:
            bundle = Bundle(entries, self._loop.create_future())
            self._check_running()
            self._waiting.add(bundle.future)
            self._post_all(entries)
            await bundle.future
            entries = bundle.refused
            if entries:
                await self._pause(Overloaded("the engine is at its high-water mark"))
        return handles

    async def accept(
        self,
        pipeline: str,
        event: Event,
        *,
        key: str | None = None,
        source: str = "",
        sender_id: str | None = None,
        digest: bytes = b"",
    ) -> Accepted:
        """Accept an event for a gateway: `source` and `sender_id` tell a repeated one, `digest` an altered one.

        Raises `DeliveryConflict`, `Overloaded`, `LogUnavailable`.
        """
        future: asyncio.Future[Accepted] = self._loop.create_future()
        entry = self._intake.emit(
            event, pipeline, key=key, source=source, sender_id=sender_id, digest=digest, reply=future
        )
        self._post_waiting(entry, future)
        return await future

    async def run(self, run_id: bytes | str) -> RunHandle:
        """The handle of a run that was started before. Raises `RunUnknown`."""
        raw = raw_id(run_id)
        await self._aside(self._known_run, raw)
        handle = self._handles.get(raw)
        if handle is None:
            handle = self._handles[raw] = RunHandle(self, raw, duplicate=True)
        return handle

    async def finished_outcome(self, raw_id: bytes) -> Outcome | None:
        """The outcome of a run from the log, or None while it goes on."""
        found = await self._aside(finished_run, self._reader, self._plans, raw_id)
        return None if found is None else outcome_of(*found, self.registry_of(found[0].plan.pipeline))

    def reader(self) -> Reader:
        """A reader of the log, for queries."""
        return self._log.reader()

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Called by the partition after each commit."""
        handles = self._handles
        if self.progress:
            self._forget_progress(ended)
        watched = [(handle, *end) for end in ended if (handle := handles.get(end.run.run_id)) is not None]
        if answers or watched:
            self._settle_soon(self._settle, answers, watched)

    def _settle_one(self, reply: asyncio.Future[Any], value: object) -> None:
        self._waiting.discard(reply)
        if reply.done():
            return
        if isinstance(value, Exception):
            reply.set_exception(value)
        else:
            reply.set_result(value)

    def _settle_bundled(self, bundle: "Bundle", entry: Emit, value: object) -> None:
        if bundle.take(entry, value):
            self._waiting.discard(bundle.future)

    def _settle_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon_threadsafe(callback, *arguments)

    def _settle(self, answers: list[Answer], ended: list[tuple[RunHandle, Any, Any]]) -> None:
        for reply, value in answers:
            if type(reply) is tuple:
                self._settle_bundled(*cast("tuple[Bundle, Emit]", reply), value)
            else:
                self._settle_one(reply, value)
        for handle, run, status in ended:
            handle.finish(run, status)

    def _note_progress(self, worker: int, body: list[Any]) -> None:
        """Only of a run that is alive: a step may go on, and say so, when its run is over."""
        decider = self._partition.decider
        slot = decider.workers.get(worker)
        delivery = slot[0].leases.get(body[0]) if slot else None
        if delivery is not None and delivery.run.run_id in decider.state.runs:
            self.progress[delivery.run.run_id, delivery.step.name] = (body[1], body[2])

    def _forget_progress(self, ended: list[RunEnded]) -> None:
        for run, _ in ended:
            for step in run.plan.steps:
                self.progress.pop((run.run_id, step.name), None)

    async def _pause(self, error: Overloaded) -> None:
        """Wait before an event is offered again, or raise where that is in vain."""
        if self._state != "ready":
            raise error
        await asyncio.sleep(error.retry_after_seconds)

    def _post_waiting(self, entry: Input, future: asyncio.Future[Any]) -> None:
        self._check_running()
        self._waiting.add(future)
        self._post_all([entry])

    def _check_running(self) -> None:
        if self._state not in ("ready", "starting"):
            raise Overloaded(f"the engine is {self._state}: send it again", retry_after_seconds=2.0)

    def _make_handle(self, raw: bytes) -> RunHandle:
        return RunHandle(self, raw)

    def _known_run(self, raw: bytes) -> RunRow:
        row = self._reader.run(raw)
        if row is None:
            raise RunUnknown(f"no run has the id {format_id(raw)}")
        if row.status in LIVE and row.pipeline not in self._plans:
            raise RunUnknown(f"run {format_id(raw)} is of pipeline {row.pipeline}, which is not served here")
        return row

    def _take_over(self, log: Log, owner: str) -> int:
        """Become the owner of the log: the epoch that our commits name."""
        self._log = log
        epoch = log.acquire(owner)
        now_us = self._clock.now_us()
        for name, pipeline in self.pipelines.items():
            log.define(name, self._versions[name], pipeline.graph().to_json().encode(), now_us)
        self._reader = log.reader()
        return epoch

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        if self._state in ("draining", "stopped") or isinstance(error, StaleEpoch):
            for handle in list(self._handles.values()):
                handle.fail(error)


class Bundle:
    """Events that are emitted together, and one future for the answers to all of them."""

    __slots__ = ("_left", "future", "refused")

    def __init__(self, entries: Sequence[Emit], future: asyncio.Future[None]) -> None:
        self.future = future
        self.refused: list[Emit] = []
        self._left = len(entries)
        for entry in entries:
            entry.reply = (self, entry)

    def take(self, entry: Emit, value: object) -> bool:
        """The answer to one of them; True where it was the last."""
        self._left -= 1
        if isinstance(value, Overloaded):
            self.refused.append(entry)
        elif isinstance(value, Exception) and not self.future.done():
            self.future.set_exception(value)
        if self._left == 0 and not self.future.done():
            self.future.set_result(None)
        return self._left == 0
