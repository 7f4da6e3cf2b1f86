"""Engine: the one place that wires log, core, partition, Ray and workers together, and the caller's way in.

Rules: what an `await` here returns is committed. The partition has a thread of its own; callers live in an event
loop, and the two meet in bulk: many answers cross in one call.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any
from weakref import WeakValueDictionary

from ..cluster import session as ray_session
from ..cluster.clock import IdSource, SystemClock
from ..cluster.log import Log, Reader
from ..cluster.stores import open_log
from ..events.check import Finding
from ..events.codec import pack
from ..events.commands import Answer, RunEnded
from ..events.decide import Limits
from ..events.errors import EnsueError, LogUnavailable, Overloaded, RunFinished, RunUnknown, StaleEpoch
from ..events.event import Event
from ..events.graph import version_of
from ..events.ids import format_id, parse_id
from ..events.inputs import Accepted, Cancel, Emit, Input, Revive
from ..events.pipeline import Pipeline
from ..events.plan import Plan, compile_plan
from ..events.registry import Registry
from ..events.status import LIVE
from .crew import Crew
from .handles import Outcome, RunHandle, outcome_of
from .past import earlier_events, finished_run, revive_input
from .intake import Intake, check_pipelines
from .links import RayLinks
from .partition import Partition
from .recovery import recover
from .steplog import format_line
from .wire import Tag

__all__ = ["Engine"]

logger = logging.getLogger("ensue")
steps_logger = logging.getLogger("ensue.steps")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_READY_SECONDS = 120.0
_DEDUP_US = 7 * 86_400 * 1_000_000
_RETRY_SECONDS = 1.0


class Engine:
    """Runs pipelines on Ray, durably.

    store: a URL as in SQLAlchemy (`sqlite:///ensue.db`, four slashes for an absolute path, `memory://`).
    address: an existing Ray ("auto", "host:port"); None starts an embedded one that only this machine can reach.

    `async with Engine(pipeline) as engine:` resumes what the store holds, starts all workers, and stops them at the
    end. Raises `PipelineInvalid`, `LogUnavailable`, `RayUnavailable`.
    """

    def __init__(
        self,
        *pipelines: Pipeline,
        store: str = "sqlite:///ensue.db",
        address: str | None = None,
        num_cpus: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.pipelines: Mapping[str, Pipeline] = check_pipelines(pipelines)
        self.store = store
        self._address = address
        self._num_cpus = num_cpus
        self._limits = limits
        self._clock = SystemClock()
        self._ids = IdSource(self._clock)
        self._intake = Intake(self.pipelines, self._ids)
        self._versions = {name: version_of(pipeline) for name, pipeline in self.pipelines.items()}
        self._plans: dict[str, Plan] = {
            name: compile_plan(pipeline, self._versions[name]) for name, pipeline in self.pipelines.items()
        }
        self._state = "new"
        self._handles: WeakValueDictionary[bytes, RunHandle] = WeakValueDictionary()
        self._waiting: set[asyncio.Future[Any]] = set()
        self.progress: dict[tuple[bytes, str], tuple[float, float]] = {}

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "Engine":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the log, resume what it holds, connect to Ray and start all workers."""
        self._state = "starting"
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._open)
        try:
            self._session = await asyncio.to_thread(ray_session.start, self._address, num_cpus=self._num_cpus)
        except BaseException:
            self._log.close()
            self._state = "stopped"
            raise
        self._links = RayLinks()
        self._crew = Crew(self._session, self._links, self._post)
        self._stopping = False
        self._partition = self._recover()
        self._thread = threading.Thread(target=self._turn, name="ensue-partition", daemon=True)
        self._thread.start()
        self._crew.start(self.pipelines.values())
        await self._await_workers()
        self._state = "ready"

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept nothing more, let what runs finish in its grace, and end. What is left goes on at the next start."""
        if self._state in ("new", "stopped"):
            return
        self._state = "draining"
        self._partition.core.draining = True
        await asyncio.to_thread(self._shut, grace_seconds)
        self._fail_waiting(EnsueError("the engine has stopped; the run goes on when it starts again"))
        self._state = "stopped"

    def state(self) -> str:
        """`starting`, `ready`, `draining`, `stopped`, or `failed: ...` with the reason."""
        return self._state

    @property
    def durability(self) -> str:
        """What survives when an event is accepted: `full`, `relaxed` or `memory`."""
        return self._log.durability

    @property
    def session(self) -> ray_session.Session:
        """The Ray that this engine uses."""
        return self._session

    def versions(self) -> Mapping[str, str]:
        """The version of each pipeline."""
        return dict(self._versions)

    def findings(self) -> dict[str, list[Finding]]:
        """What the checks say of each pipeline."""
        return {name: pipeline.check() for name, pipeline in self.pipelines.items()}

    def registry_of(self, pipeline: str) -> Registry:
        """The event types of a pipeline."""
        return self.pipelines[pipeline].registry

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now: number, pipeline, step, process id, whether they are up."""
        return [
            {"worker": m.worker, "pipeline": m.pipeline.name, "step": m.step.name, "pid": m.pid, "up": m.up}
            for m in self._crew.members
        ]

    # -- events ------------------------------------------------------------------------------------------------------

    async def emit(self, event: Event, *, pipeline: str | None = None, key: str | None = None) -> RunHandle:
        """Start a run; returns when the event is committed. Waits while the engine is at its high-water mark."""
        while True:
            try:
                return (await self._submit([self._intake.emit(event, pipeline, key=key)]))[0]
            except Overloaded as error:
                if self._state != "ready":
                    raise
                await asyncio.sleep(error.retry_after_seconds)

    async def emit_many(self, events: Iterable[Event], *, pipeline: str | None = None) -> list[RunHandle]:
        """Start a run for each event, in one go: the cheapest way to start many."""
        return await self._submit([self._intake.emit(event, pipeline) for event in events])

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

    async def cancel(self, run_id: bytes | str) -> None:
        """End a run. Raises `RunUnknown`, or `RunFinished` where it is over."""
        raw = _raw(run_id)
        future: asyncio.Future[None] = self._loop.create_future()
        self._post_waiting(Cancel(raw, future), future)
        try:
            await future
        except RunUnknown:
            await asyncio.to_thread(self._known_run, raw)
            raise RunFinished(f"run {format_id(raw)} is over: there is nothing to cancel") from None

    async def retry(self, run_id: bytes | str) -> RunHandle:
        """Retry what failed of a run that failed or was cancelled. Raises `RunUnknown`, `RunFinished`."""
        raw = _raw(run_id)
        entry: Revive = await asyncio.to_thread(revive_input, self._reader, raw)
        future: asyncio.Future[None] = self._loop.create_future()
        entry.reply = future
        handle = RunHandle(self, raw)
        self._handles[raw] = handle
        self._post_waiting(entry, future)
        await future
        return handle

    async def run(self, run_id: bytes | str) -> RunHandle:
        """The handle of a run that was started before. Raises `RunUnknown`."""
        raw = _raw(run_id)
        await asyncio.to_thread(self._known_run, raw)
        handle = self._handles.get(raw)
        if handle is None:
            handle = self._handles[raw] = RunHandle(self, raw, duplicate=True)
        return handle

    async def finished_outcome(self, raw_id: bytes) -> Outcome | None:
        """The outcome of a run from the log, or None while it goes on."""
        found = await asyncio.to_thread(finished_run, self._reader, self._plans, raw_id)
        return None if found is None else outcome_of(*found, self.registry_of(found[0].plan.pipeline))

    def reader(self) -> Reader:
        """A reader of the log, for queries."""
        return self._log.reader()

    # -- the partition's side ----------------------------------------------------------------------------------------

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Called by the partition after each commit."""
        handles = self._handles
        watched = [(handle, *end) for end in ended if (handle := handles.get(end.run.run_id)) is not None]
        if answers or watched:
            self._loop.call_soon_threadsafe(self._settle, answers, watched)

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """Called by the partition with what a worker says besides completions."""
        if tag == Tag.HELLO:
            self._crew.up(worker)
        elif tag == Tag.LOG:
            steps_logger.log(_LEVELS.get(body[0], logging.INFO), "%s", format_line(body))
        elif tag == Tag.PROGRESS:
            self._note_progress(worker, body)
        elif tag == Tag.ASK:
            events = earlier_events(self._reader, self._plans, body[1], body[2])
            self._links.send(worker, pack([int(Tag.ANSWER), [body[0], events]]))

    def _settle(self, answers: list[Answer], ended: list[tuple[RunHandle, Any, Any]]) -> None:
        for future, value in answers:
            self._waiting.discard(future)
            if future.done():
                continue
            if isinstance(value, Exception):
                future.set_exception(value)
            else:
                future.set_result(value)
        for handle, run, status in ended:
            handle.finish(run, status)

    def _note_progress(self, worker: int, body: list[Any]) -> None:
        slot = self._partition.core.workers.get(worker)
        delivery = slot[0].leases.get(body[0]) if slot else None
        if delivery is not None:
            self.progress[delivery.run.run_id, delivery.step.name] = (body[1], body[2])

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _submit(self, entries: list[Emit]) -> list[RunHandle]:
        self._check_running()
        handles = [RunHandle(self, entry.run_id) for entry in entries]
        last: asyncio.Future[Accepted] | None = None
        for entry, handle in zip(entries, handles, strict=True):
            self._handles[entry.run_id] = handle
            entry.reply = last = self._loop.create_future()
            self._waiting.add(last)
        self._partition.post_all(entries)
        for entry in entries:
            await entry.reply
        return handles

    def _post_waiting(self, entry: Input, future: asyncio.Future[Any]) -> None:
        self._check_running()
        self._waiting.add(future)
        self._partition.post(entry)

    def _check_running(self) -> None:
        if self._state not in ("ready", "starting"):
            raise Overloaded(f"the engine is {self._state}: send it again", retry_after_seconds=2.0)

    def _post(self, entry: Input) -> None:
        self._partition.post(entry)

    def _known_run(self, raw: bytes) -> None:
        row = self._reader.run(raw)
        if row is None:
            raise RunUnknown(f"no run has the id {format_id(raw)}")
        if row.status in LIVE and row.pipeline not in self._plans:
            raise RunUnknown(f"run {format_id(raw)} is of pipeline {row.pipeline}, which is not served here")

    def _open(self) -> None:
        self._log: Log = open_log(self.store)
        self._epoch = self._log.acquire(f"{os.uname().nodename}:{os.getpid()}")
        now_us = self._clock.now_us()
        for name, pipeline in self.pipelines.items():
            self._log.define(name, self._versions[name], pipeline.graph().to_json().encode(), now_us)
        self._log.forget(now_us - _DEDUP_US)
        self._reader = self._log.reader()

    def _recover(self) -> Partition:
        recovered = recover(self._log, self._epoch, self._plans, self._limits)
        if recovered.alive:
            logger.info("resuming %d runs from %s", recovered.alive, self.store)
        if recovered.stranded:
            logger.warning("%d runs are of pipeline versions that are not loaded: needs_migration", recovered.stranded)
        return Partition(recovered.core, self._log, self._epoch, self._links, self, self._clock)

    async def _await_workers(self) -> None:
        ready = await asyncio.to_thread(self._crew.wait_ready, _READY_SECONDS)
        if not ready:
            for step, message in self._crew.broken.items():
                logger.error("no worker of step %s could start: %s", step, message)
        await asyncio.to_thread(ray_session.check_listeners, self._session)

    def _turn(self) -> None:
        """The partition's thread: turns the loop, and begins again from the log where the log could not be written."""
        while not self._stopping:
            try:
                self._partition.resume()
                self._partition.run(lambda: self._stopping)
            except StaleEpoch as error:
                self._failed(error)
                return
            except LogUnavailable as error:
                self._failed(error)
                self._begin_again()
            except Exception as error:
                logger.exception("the partition failed")
                self._failed(error)
                self._begin_again()

    def _begin_again(self) -> None:
        self._crew.end_all("the partition begins again from the log")
        while not self._stopping:
            time.sleep(_RETRY_SECONDS)
            try:
                self._partition = self._recover()
            except EnsueError as error:
                self._state = f"failed: {error}"
            else:
                self._state = "ready"
                return

    def _failed(self, error: Exception) -> None:
        logger.error("the partition stopped: %s", error)
        self._state = f"failed: {error}"
        self._loop.call_soon_threadsafe(self._fail_waiting, error)

    def _fail_waiting(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
        if isinstance(error, StaleEpoch) or self._state in ("draining", "stopped"):
            for handle in list(self._handles.values()):
                handle.fail(error)

    def _shut(self, grace_seconds: float) -> None:
        self._crew.stop(grace_seconds)
        self._stopping = True
        self._links.wake()
        self._thread.join(10.0)
        self._links.close()
        if not self._state.startswith("failed") and self._partition.core.state.runs:
            self._partition.save_snapshot()
        self._reader.close()
        self._log.close()
        ray_session.stop(self._session)


def _raw(run_id: bytes | str) -> bytes:
    return run_id if isinstance(run_id, bytes) else parse_id(run_id)

