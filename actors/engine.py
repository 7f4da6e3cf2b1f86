"""Engine: connects log, partition, Ray and workers, and starts and stops them.

Rules: the partition has a thread of its own; callers live in an event loop. An engine that loses its log, its partition
or its Ray recovers from the log; an engine that another one has replaced stays down.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from typing import Any

from ..cluster.clock import SystemClock
from ..cluster.log.open import open_log
from ..cluster.ray import session as ray_session
from ..events.decide.announcement import announcement
from ..events.decide.core import Limits
from ..events.decide.inputs import Audit
from ..events.errors import EnsueError, RayUnavailable, StaleEpoch
from ..events.model.codec import pack, unpack
from ..events.model.notices import PartitionTakenOver
from ..events.pipelines.pipeline import Pipeline
from ..events.state.rows import Fact
from ..events.supervision.restart_history import RestartHistory
from ..events.views.health_tree import TreeNode, node
from .client.engine_api import EngineApi
from .client.lifecycle import Phase
from .client.run_queries import finished_run
from .client.threaded_backend import ThreadedBackend
from .partition.gc_tuning import GcTuning
from .partition.runner import PartitionRunner
from .pool.keeper_client import KeeperClient, actor_prefix
from .pool.reconciler import Reconciler
from .pool.restart_histories import RestartHistories
from .pool.worker_factory import WorkerFactory, pack_steps
from .pool.worker_pool import WorkerPool
from .supervision.orders import PARTITION_HISTORY, SupervisionTimeouts
from .transport.messages import Tag
from .transport.ray_links import RayLinks
from .worker.log_queries import answer
from .worker.step_logger import format_line

__all__ = ["Engine"]

logger = logging.getLogger("ensue")
steps_logger = logging.getLogger("ensue.steps")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_READY_SECONDS = 120.0
_JOIN_SECONDS = 10.0
_RAY_RESTARTS = 3


class Engine(EngineApi):
    """Runs pipelines on Ray, durably.

    store: a URL as in SQLAlchemy (`sqlite:///ensue.db`, four slashes for an absolute path, `memory://`), or the path of
        a SQLite file.
    address: an existing Ray ("auto", "host:port"); None starts an embedded one that only this machine can reach.

    `async with Engine(pipeline) as engine:` resumes what the store holds, starts all workers, and stops them at the
    end. Raises `PipelineInvalid`, `LogUnavailable`, `RayUnavailable`.
    """

    def __init__(
        self,
        *pipelines: Pipeline,
        store: str | PathLike[str] = "sqlite:///ensue.db",
        address: str | None = None,
        num_cpus: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        clock = SystemClock()
        self._callers = ThreadedBackend(clock)
        super().__init__(pipelines, store, clock, backend=self._callers, on_message=self._on_message)
        self._address = address
        self._num_cpus = num_cpus
        self._limits = limits
        self._exits = ExitStack()
        self._grace_seconds = 0.0
        self._supervision_timeouts = SupervisionTimeouts()
        self._runner: PartitionRunner | None = None
        self._failed_restarts = 0

    async def start(self) -> None:
        """Open the log, resume what it holds, connect to Ray and start all workers.

        Raises `LogUnavailable`, `RayUnavailable`.
        """
        self._lifecycle.phase = Phase.STARTING
        self._runner = None
        self._lifecycle.loop = asyncio.get_running_loop()
        self._callers.open(self._lifecycle.loop)
        try:
            await _complete(self._open)
            await _complete(self._connect)
            await self._await_workers()
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._shut, 0.0))
            self._lifecycle.phase = Phase.STOPPED
            raise
        if self._lifecycle.phase is Phase.STARTING:
            self._lifecycle.phase = Phase.READY

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """Accept nothing more, let running steps finish within the grace, and end; the rest waits in the log."""
        if self._lifecycle.phase in (Phase.NEW, Phase.STOPPED):
            return
        self._lifecycle.phase = Phase.DRAINING
        if self._runner is not None:
            self._runner.drain()
        await asyncio.to_thread(self._shut, grace_seconds)
        self._fail_pending(EnsueError("the engine has stopped; the run continues when it starts again"), runs=True)
        self._lifecycle.phase = Phase.STOPPED

    @property
    def session(self) -> ray_session.Session:
        """The Ray that this engine uses."""
        return self._session

    def workers(self) -> list[dict[str, Any]]:
        """The workers as they are now: number, pipeline, step, process id, whether they are up."""
        return [
            {"worker": m.worker, "pipeline": m.pipeline, "step": m.step, "pid": m.process.pid, "up": m.is_up}
            for m in self._pool.table.entries
        ]

    def tree(self) -> TreeNode:
        """Everything that is supervised, with its status."""
        if self._lifecycle.phase in (Phase.NEW, Phase.STOPPED):
            return node("engine", "engine", "down")
        state = self.state()
        status = "up" if state == "ready" else "failed" if self._lifecycle.phase is Phase.FAILED else "starting"
        reason = "" if state == "ready" else state
        runner = self._runner
        children = [] if runner is None else [*runner.tree(), *self._pool.tree()]
        return node("engine", "engine", status, pid=os.getpid(), reason=reason, children=children)

    async def restart_pipeline(self, name: str, *, who: str = "python") -> None:
        """Restart the workers of a pipeline, also of one that was given up; its restart history is forgotten.

        Raises `EnsueError` if no pipeline has this name.
        """
        self._served.check_served(name)
        logger.warning("pipeline %s is restarted by %s", name, who)
        self._callers.post(Audit(who, "pipeline restart", name))
        self._pool.restart(name)

    # -- start -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        self._log.log = log = open_log(self.store)
        self._exits.callback(self._close, log.close)

    def _connect(self) -> None:
        GcTuning.apply()
        self._exits.callback(GcTuning.restore)
        self._session = ray_session.start(self._address, num_cpus=self._num_cpus)
        self._exits.callback(lambda: ray_session.stop(self._session))
        self._callers.call_soon(self.on_ray_started)
        codes = pack_steps(self.pipelines.values())
        owner = f"{os.uname().nodename}:{os.getpid()}"
        _, previous = self._log.log.owner()
        self._log.take_over(owner, lambda log: self._served.define_in(log, self._clock.now_us()))
        self._exits.callback(self._close, self._log.reader.close)
        self._links = RayLinks(self._session.folder)
        self._exits.callback(self._close, self._links.close)
        histories = self._histories(after_crash=bool(previous))
        self._pool = self._make_pool(codes, histories)
        self._pool.start(self._session)
        self._exits.callback(self._pool.stop, 0.0)  # for a start that fails before there is a partition
        self._start_partition(previous, owner, histories.partition)
        self._exits.callback(lambda: self._pool.stop(self._grace_seconds))
        self._start_reconciler()

    def _make_pool(self, codes: dict[tuple[str, str], bytes], histories: RestartHistories) -> WorkerPool:
        pipelines = list(self.pipelines.values())
        log = self._log.log
        store = self.store if log.durability != "memory" else f"{self.store}{os.getpid()}-{id(log)}"
        prefix = actor_prefix(store, self._log.epoch)
        keeper = KeeperClient(pipelines, prefix, histories, self._supervision_timeouts)
        return WorkerPool(self._links, keeper, WorkerFactory(codes, prefix), pipelines, self._callers.post)

    def _histories(self, *, after_crash: bool) -> RestartHistories:
        """The restart histories in the log; after an orderly stop, without that a supervisor gave up."""
        facts = self._log.log.facts("supervision")
        histories = RestartHistories({fact.name: unpack(fact.body) for fact in facts if fact.body is not None})
        if not after_crash:
            histories.forgive()
        return histories

    def _start_partition(self, previous: str, owner: str, history: RestartHistory) -> None:
        runner = self._runner = self._make_runner()
        if previous:
            logger.warning("took over %s from %s, which ended without giving it back", self.store, previous)
            notice = PartitionTakenOver(
                epoch=self._log.epoch, previous=previous, owner=owner, resumed_runs=runner.resumed_runs
            )
            self._callers.post(announcement(notice))
        self._exits.callback(self._end_partition)
        if self._lifecycle.phase is Phase.DRAINING:
            runner.drain()
        runner.start(self._void_workers, self._on_failure, self._on_recovery, history)

    def _make_runner(self) -> PartitionRunner:
        return PartitionRunner(
            self._log,
            self._served.plans,
            self._limits,
            links=self._links,
            watcher=self._relay,
            clock=self._clock,
            on_new=self._callers.connect,
        )

    def _start_reconciler(self) -> None:
        reconciler = Reconciler(
            {"Ray": self._check_ray, "the owner of the log": self._check_owner, "the partition": self._check_partition}
        )
        self._exits.callback(lambda: reconciler.end(_JOIN_SECONDS))
        self._pool.ray_lost = reconciler.hurry
        reconciler.start()

    async def _await_workers(self) -> None:
        if not await asyncio.to_thread(self._pool.wait_ready, _READY_SECONDS):
            for (pipeline, step), message in self._pool.table.lacking().items():
                logger.error(
                    "step %s of pipeline %s lacks workers; the engine starts without them: %s", step, pipeline, message
                )
        await asyncio.to_thread(ray_session.check_listeners, self._session)

    # -- partition: called in its thread -----------------------------------------------------------------------------

    def _on_message(self, worker: int, tag: int, body: Any) -> None:
        if tag == Tag.HELLO:
            self._pool.up(worker)
        elif tag == Tag.LOG:
            steps_logger.log(_LEVELS.get(body[0], logging.INFO), "%s", format_line(body))
        elif tag == Tag.ASK:
            self._links.send(worker, answer(self._log.reader, self._served.plans, body))

    def _void_workers(self) -> None:
        """End the workers of a partition that failed; the next partition leases their deliveries again."""
        self._pool.end_all("the partition restarts from the log")
        if not self._pool.wait_ended(_JOIN_SECONDS):
            raise EnsueError("workers of the partition that failed have not ended yet: it is not restarted beside them")
        self.progress.clear()

    def _on_recovery(self, history: RestartHistory) -> None:
        self._callers.post(Fact("supervision", PARTITION_HISTORY, pack(history)))
        self._pool.introduce_all()
        if self._runner is not None:
            self._callers.call_soon(self._finish_ended, self._runner.partition.live_run_ids())
        self._lifecycle.recover()

    def _on_failure(self, error: Exception) -> None:
        logger.error("the partition stopped: %s", error)
        if isinstance(error, StaleEpoch):
            self._pool.abandon()
        self._lifecycle.fail(error)
        self._callers.call_soon(self._fail_callers, error)

    def _fail_callers(self, error: Exception) -> None:
        """Fail callers that wait for an answer; those that wait for a result only if this engine will not recover."""
        ends = self._lifecycle.phase in (Phase.DRAINING, Phase.STOPPED) or isinstance(error, StaleEpoch)
        self._fail_pending(error, runs=ends)

    def _finish_ended(self, live: frozenset[bytes]) -> None:
        """Finish the handles of runs that ended in a commit whose outcome was lost; called in the event loop."""
        for handle in self._handles.all():
            if handle.raw_id in live:
                continue
            try:
                ended = finished_run(self._log.reader, self._served.plans, handle.raw_id)
            except EnsueError:
                continue  # it was never committed, and its caller was told
            if ended is not None:
                handle.finish(*ended)

    # -- reconciler: called in its thread ----------------------------------------------------------------------------

    def _check_ray(self) -> None:
        """Replace an embedded Ray that was lost by another in this process; accepted events wait in the log."""
        if self._lifecycle.phase is Phase.DRAINING or ray_session.alive(self._session):
            return
        self._lifecycle.recovering = "Ray was lost; another one is being started"
        logger.error("Ray was lost: its control store or its raylet ended; starting another")
        self._pool.lose(_JOIN_SECONDS)
        try:
            self._session = ray_session.renew(self._session)
        except RayUnavailable as error:
            self._count_failed_restart(error)
            return
        self._failed_restarts = 0
        self._callers.call_soon(self.on_ray_started)
        self._links.move(self._session.folder)
        self._pool.begin_again(self._session)
        self._pool.wait_ready(_READY_SECONDS)
        self._lifecycle.recovering = ""
        ray_session.check_listeners(self._session)

    def _count_failed_restart(self, error: RayUnavailable) -> None:
        """A new process may succeed if this one does not; Ray itself ends a process that has lost it."""
        self._failed_restarts += 1
        logger.error("%s", error)
        if self._failed_restarts >= _RAY_RESTARTS:
            logger.critical(
                "Ray cannot be started again in this process, which ends; the log has all that was accepted"
            )
            os._exit(os.EX_UNAVAILABLE)

    def _check_owner(self) -> None:
        if self._runner is None or self._lifecycle.phase is Phase.FAILED:
            return
        error = self._runner.check_owner()
        if error is not None:
            self._on_failure(error)

    def _check_partition(self) -> None:
        if self._runner is not None:
            self._runner.check_turning()

    # -- stop --------------------------------------------------------------------------------------------------------

    def _shut(self, grace_seconds: float) -> None:
        """Reverse the steps of `start` that were done, the last one first."""
        self._grace_seconds = grace_seconds
        self._exits.close()

    def _end_partition(self) -> None:
        if self._runner is not None:
            self._runner.stop(_JOIN_SECONDS, release=self._lifecycle.phase is not Phase.FAILED)

    def _close(self, close: Callable[[], None]) -> None:
        """Close what the partition's thread uses, unless that thread hangs: it may still wake up in there."""
        if self._runner is None or not self._runner.is_hung:
            close()


async def _complete(work: Callable[[], None]) -> None:
    """Run this in a thread. A cancel waits for its end, since only then is all known that has to be closed."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        running.exception()  # it is not reported: the caller has cancelled
        raise
