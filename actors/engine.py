"""Engine: the one place that wires log, core, partition, Ray and workers together.

Rules: the partition has a thread of its own; callers live in an event loop, and the two meet in bulk. An engine that
loses its log, its partition or its Ray begins again from the log; one that was fenced off stays down.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from ..cluster.clock import SystemClock
from ..cluster.log.open import open_log
from ..cluster.ray import session as ray_session
from ..events.decide.announcement import announcement
from ..events.decide.core import Limits
from ..events.decide.inputs import Audit, Input, Note
from ..events.errors import EnsueError, RayUnavailable, StaleEpoch
from ..events.model.codec import pack, unpack
from ..events.model.notices import PartitionTakenOver
from ..events.pipelines.pipeline import Pipeline
from ..events.views.health_tree import TreeNode, node
from .client.engine_api import EngineApi
from .client.run_queries import finished_run
from .partition.gc_tuning import GcTuning
from .partition.loop import Partition
from .partition.recovery import recover
from .partition.thread import PartitionThread
from .pool.reconciler import Reconciler
from .pool.supervisor_clients import SupervisorClients, family_name, forgiven
from .pool.worker_factory import WorkerFactory, pack_steps
from .pool.worker_pool import WorkerPool
from .supervision.orders import PARTITION_HISTORY
from .supervision.supervisor_actor import SupervisionTimeouts
from .transport.messages import Tag
from .transport.ray_links import RayLinks
from .worker.log_queries import answer
from .worker.step_logger import format_line

__all__ = ["Engine"]

T = TypeVar("T")
logger = logging.getLogger("ensue")
steps_logger = logging.getLogger("ensue.steps")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_READY_SECONDS = 120.0
_JOIN_SECONDS = 10.0
_MENDS = 3


class Engine(EngineApi):
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
        super().__init__(pipelines, store, SystemClock())
        self._address = address
        self._num_cpus = num_cpus
        self._limits = limits
        self._outgoing: list[Input] = []
        self._exits = ExitStack()
        self._grace_seconds = 0.0
        self._patience = SupervisionTimeouts()
        self._early: list[Input] | None = []
        self._gate = threading.Lock()
        self._trouble = ""
        self._failed_mends = 0
        self._hangs = False

    async def start(self) -> None:
        """Open the log, resume what it holds, connect to Ray and start all workers."""
        self._state = "starting"
        self._hangs = False
        self._early = []
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._open)
            await asyncio.to_thread(self._connect)
            await self._await_workers()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._shut, 0.0))
            self._state = "stopped"
            raise
        if self._state == "starting":
            self._state = "ready"

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept nothing more, let what runs finish in its grace, and end. What is left goes on at the next start."""
        if self._state in ("new", "stopped"):
            return
        self._state = "draining"
        self._drain()
        await asyncio.to_thread(self._shut, grace_seconds)
        self._fail_waiting(EnsueError("the engine has stopped; the run goes on when it starts again"))
        self._state = "stopped"

    @property
    def session(self) -> ray_session.Session:
        """The Ray that this engine uses."""
        return self._session

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now: number, pipeline, step, process id, whether they are up."""
        return [
            {"worker": m.worker, "pipeline": m.pipeline, "step": m.step, "pid": m.mark.pid, "up": m.up}
            for m in self._crew.roster.members
        ]

    def state(self) -> str:
        """As `EngineApi.state`; `recovering: ...` while events are taken in and the workers are not there."""
        return f"recovering: {self._trouble}" if self._state == "ready" and self._trouble else self._state

    def tree(self) -> TreeNode:
        """Everything that is supervised, as it stands now."""
        if self._state in ("new", "stopped"):
            return node("engine", "engine", "down")
        state = self.state()
        status = "up" if state == "ready" else "failed" if state.startswith("failed") else "starting"
        reason = "" if state == "ready" else state
        children = [self._turning.tree(), *self._crew.tree()] if self._early is None else []
        return node("engine", "engine", status, pid=os.getpid(), reason=reason, children=children)

    async def restart_pipeline(self, name: str, *, who: str = "python") -> None:
        """Begin anew with a pipeline that was given up, or that is to be given new workers; its history is forgotten."""
        if name not in self.pipelines:
            raise EnsueError(f"no pipeline {name!r} is served here")
        logger.warning("pipeline %s is restarted by %s", name, who)
        self._post(Audit(who, "pipeline restart", name))
        self._crew.restart(name)

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """Called by the partition with what a worker says besides completions."""
        if tag == Tag.HELLO:
            self._crew.up(worker)
        elif tag == Tag.LOG:
            steps_logger.log(_LEVELS.get(body[0], logging.INFO), "%s", format_line(body))
        elif tag == Tag.PROGRESS:
            self._note_progress(worker, body)
        elif tag == Tag.ASK:
            self._links.send(worker, answer(self._reader, self._plans, body))

    def _post_all(self, entries: Sequence[Input]) -> None:
        """Coalesced: all that callers emit in one turn of the event loop becomes one batch."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.extend(entries)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self._partition.post_all(outgoing)

    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(function, *arguments)

    def _post(self, entry: Input) -> None:
        """Tell the partition; before there is one, it is kept."""
        with self._gate:
            if self._early is not None:
                self._early.append(entry)
                return
        self._partition.post(entry)

    def _open(self) -> None:
        self._log = open_log(self.store)
        self._exits.callback(self._close, self._log.close)

    def _connect(self) -> None:
        GcTuning.begin()
        self._exits.callback(GcTuning.end)
        self._session = ray_session.start(self._address, num_cpus=self._num_cpus)
        self._exits.callback(lambda: ray_session.stop(self._session))
        self._loop.call_soon_threadsafe(self.on_ray_started)
        codes = pack_steps(self.pipelines.values())
        owner = f"{os.uname().nodename}:{os.getpid()}"
        _, previous = self._log.owner()
        self._epoch = self._take_over(self._log, owner)
        self._exits.callback(self._close, self._reader.close)
        self._links = RayLinks(self._session.folder)
        self._exits.callback(self._close, self._links.close)
        histories = self._histories(after_crash=bool(previous))
        self._crew = self._make_crew(codes, histories)
        self._crew.start(self._session)
        self._exits.callback(self._crew.stop, 0.0)  # for a start that fails before there is a partition
        self._turn(previous, owner, histories.get(PARTITION_HISTORY))
        self._exits.callback(lambda: self._crew.stop(self._grace_seconds))
        self._reconciler = Reconciler(
            {"Ray": self._mend_ray, "the owner of the log": self._see_owner, "the partition": self._see_partition}
        )
        self._exits.callback(lambda: self._reconciler.end(_JOIN_SECONDS))
        self._crew.ray_lost = self._reconciler.hurry
        self._reconciler.start()

    def _make_crew(self, codes: dict[tuple[str, str], bytes], histories: dict[str, Any]) -> WorkerPool:
        pipelines = list(self.pipelines.values())
        store = self.store if self._log.durability != "memory" else f"{self.store}{os.getpid()}-{id(self._log)}"
        family = family_name(store, self._epoch)
        branches = SupervisorClients(pipelines, family, histories, self._patience)
        return WorkerPool(self._links, branches, WorkerFactory(codes, family), pipelines, self._post)

    def _histories(self, *, after_crash: bool) -> dict[str, Any]:
        """What supervisors have to remember; that one gave up only where nobody has stopped the engine in order since."""
        found: dict[str, Any] = {f.name: unpack(f.body) for f in self._log.facts("supervision") if f.body is not None}
        return found if after_crash else {name: forgiven(history) for name, history in found.items()}

    def _turn(self, previous: str, owner: str, history: list[Any] | None) -> None:
        """Start the thread of the partition."""
        self._partition, resumed = self._recover()
        self._turning = PartitionThread(self._partition, self._begin_again, self._failed, self._going, history)
        with self._gate:
            early, self._early = self._early or [], None
            self._partition.post_all(early)
        if previous:
            logger.warning("took over %s from %s, which ended without giving it back", self.store, previous)
            notice = PartitionTakenOver(epoch=self._epoch, previous=previous, owner=owner, resumed_runs=resumed)
            self._post(announcement(notice))
        self._exits.callback(self._end_partition)
        self._turning.start()

    def _recover(self) -> tuple[Partition, int]:
        recovered = recover(self._log, self._epoch, self._plans, self._limits)
        if recovered.alive:
            logger.info("resuming %d runs from %s", recovered.alive, self.store)
        if recovered.stranded:
            logger.warning("%d runs are of pipeline versions that are not loaded: needs_migration", recovered.stranded)
        recovered.decider.draining = self._state == "draining"
        partition = Partition(
            recovered.decider, self._log, self._epoch, links=self._links, watcher=self, clock=self._clock
        )
        return partition, recovered.alive

    async def _await_workers(self) -> None:
        if not await asyncio.to_thread(self._crew.wait_ready, _READY_SECONDS):
            for (pipeline, step), message in self._crew.roster.lacking().items():
                logger.error(
                    "step %s of pipeline %s lacks workers, and goes on without them: %s", step, pipeline, message
                )
        await asyncio.to_thread(ray_session.check_listeners, self._session)

    def _begin_again(self) -> Partition:
        """What was being said when the partition failed is void: workers are ended, and their work is given out anew."""
        self._crew.end_all("the partition begins again from the log")
        if not self._crew.wait_ended(_JOIN_SECONDS):
            raise EnsueError("workers of the partition that failed have not ended yet: it does not begin beside them")
        self.progress.clear()
        self._partition, _ = self._recover()
        return self._partition

    def _going(self, history: list[Any]) -> None:
        self._post(Note("supervision", PARTITION_HISTORY, pack(history)))
        self._crew.introduce_all()
        self._loop.call_soon_threadsafe(self._recheck)
        if self._state.startswith("failed"):
            self._state = "ready"

    def _mend_ray(self) -> None:
        """An embedded Ray that is lost is replaced by another in this process; accepted events wait in the log."""
        if self._state == "draining" or ray_session.alive(self._session):
            return
        self._trouble = "Ray was lost; another one is being started"
        logger.error("Ray was lost: its control store or its raylet ended; starting another")
        self._crew.lose(_JOIN_SECONDS)
        try:
            self._session = ray_session.renew(self._session)
        except RayUnavailable as error:
            self._cannot_mend(error)
            return
        self._failed_mends = 0
        self._loop.call_soon_threadsafe(self.on_ray_started)
        self._links.move(self._session.folder)
        self._crew.begin_again(self._session)
        self._crew.wait_ready(_READY_SECONDS)
        self._trouble = ""
        ray_session.check_listeners(self._session)

    def _cannot_mend(self, error: RayUnavailable) -> None:
        """A new process may succeed where this one does not; Ray itself ends a process that has lost it."""
        self._failed_mends += 1
        logger.error("%s", error)
        if self._failed_mends >= _MENDS:
            logger.critical(
                "Ray cannot be started again in this process, which ends; the log has all that was accepted"
            )
            os._exit(os.EX_UNAVAILABLE)

    def _see_owner(self) -> None:
        """An engine with nothing to commit would never learn that another one has taken its log."""
        epoch, owner = self._reader.owner()
        if epoch > self._epoch and not self._state.startswith("failed"):
            logger.warning("%s has taken over the log", owner or "another engine")
            self._failed(StaleEpoch(f"{self.store} is at epoch {epoch}, this owner at {self._epoch}: it must stop"))

    def _see_partition(self) -> None:
        if self._turning.hung_seconds:
            logger.error("the partition has not turned for %.0f s, and inputs wait", self._turning.hung_seconds)

    def _recheck(self) -> None:
        """Handles of runs that ended in the commit whose outcome nobody heard."""
        alive = self._partition.decider.state.runs
        for handle in list(self._handles.values()):
            if handle.raw_id in alive:
                continue
            try:
                found = finished_run(self._reader, self._plans, handle.raw_id)
            except EnsueError:
                continue  # it was never committed, and whoever emitted it knows
            if found is not None:
                handle.finish(*found)

    def _failed(self, error: Exception) -> None:
        logger.error("the partition stopped: %s", error)
        if isinstance(error, StaleEpoch):
            self._crew.abandon()
        if self._state != "draining":
            self._state = f"failed: {error}"
        self._loop.call_soon_threadsafe(self._fail_waiting, error)

    def _shut(self, grace_seconds: float) -> None:
        """Undo what `start` did, in reverse, as far as it came."""
        self._grace_seconds = grace_seconds
        self._exits.close()

    def _end_partition(self) -> None:
        self._hangs = not self._turning.end(_JOIN_SECONDS, self._links.wake)
        if self._hangs:
            logger.error(
                "the partition did not end within %.0f s: its log is left open, and not given back", _JOIN_SECONDS
            )
            return
        if self._partition.decider.state.runs:
            self._partition.try_snapshot()
        try:
            if not self._state.startswith("failed"):
                self._log.release(self._epoch)
        except EnsueError as error:
            logger.warning("the log was not given back: %s", error)

    def _close(self, close: Callable[[], None]) -> None:
        """Close what the partition's thread uses, unless that hangs: it may yet wake up in there."""
        if not self._hangs:
            close()

    def _drain(self) -> None:
        """From now on new events are refused, here and in a partition that begins again."""
        self._partition.decider.draining = True
