"""WorkerPool: the workers of an engine: it starts them, carries out what the keeper reports, and sends it orders.

Rules: the first worker of each slot is started at once, and its supervisor finds it there; from then on the supervisors
decide who is started and ended, and see who is gone. The pool opens and closes the lanes, and tells the partition which
workers come up and are gone. It kills workers that no keeper can kill. One thread does all of it, told by messages.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, assert_never

from ...cluster.clock import SystemClock
from ...cluster.ray.exit_reasons import first_line, how_it_ended
from ...cluster.ray.session import Session
from ...events.decide.announcement import announcement
from ...events.decide.inputs import Input, StepBroken
from ...events.model.codec import pack
from ...events.pipelines.pipeline import Pipeline
from ...events.state.rows import Fact
from ...events.supervision.tree import Broken, Escalated, Restarted, StepPolicy, StepSupervisorNode
from ...events.views.health_tree import TreeNode
from ..supervision import orders
from ..transport.ray_links import RayLinks
from .health_tree import supervised_nodes
from .keeper_client import KeeperClient
from .notices import notice_of
from .worker_factory import WorkerFactory
from .worker_processes import WorkerProcesses
from .worker_table import Place, WorkerEntry, WorkerTable

__all__ = ["WorkerPool"]

logger = logging.getLogger("ensue.pool")
_CHECK_SECONDS = 2.0
_NO_PROGRESS_SECONDS = 20.0
_POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
_STUCK_SECONDS = 2.0


class WorkerPool:
    """All workers of an engine. `post` tells the partition of those that come up and are gone."""

    def __init__(
        self,
        links: RayLinks,
        keeper: KeeperClient,
        factory: WorkerFactory,
        pipelines: Iterable[Pipeline],
        post: Callable[[Input], None],
    ) -> None:
        self._post = post
        self._links = links
        self.keeper = keeper
        self._clock = SystemClock()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.table = WorkerTable(pipelines)
        self._processes = WorkerProcesses(
            links, factory, self.table, post, soon=self._soon, end=self.end, comes_up=self._comes_up
        )
        self._is_stopping = False
        self._has_lost_ray = False
        self._is_over = False
        self._checked_at = 0.0
        self._thread: threading.Thread | None = None
        self.ray_lost: Callable[[], None] | None = None
        links.kill_worker = self.end
        links.on_first_completion = partial(self._soon, self._worked)

    def start(self, session: Session) -> None:
        """Start every worker, in parallel, and then the keeper."""
        self._soon(self._begin, session)
        self._start_thread()

    def begin_again(self, session: Session) -> None:
        """Start them in another Ray, once `lose` has seen that nothing of the old one is left."""
        self._soon(self._begin, session)

    def lose(self, timeout_seconds: float) -> bool:
        """Ray is lost, and all workers with it: see that they are gone. False if one is not in time."""
        self._soon(self._lose)
        if not self.table.wait_for(lambda: self._has_lost_ray, _STUCK_SECONDS):
            logger.warning("the worker pool waits for an answer of the lost Ray: another thread takes its place")
            self._start_thread()
        return self.table.wait_for(lambda: self._has_lost_ray and not self.table.entries, timeout_seconds)

    def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until all workers are up; False if some are not in time, or cannot be (`lacking` tells which).

        Those that come up later, when Ray has room for them, are used too.
        """
        return self.table.wait_ready(timeout_seconds, _NO_PROGRESS_SECONDS)

    def end(self, worker: int, reason: str) -> None:
        """Kill a worker's process; from any thread."""
        self._soon(self._end, worker, reason)

    def end_all(self, reason: str) -> None:
        """Kill every worker's process; each is replaced."""
        self._soon(self._end_everyone, reason)

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until the processes of all workers that were told to end are gone; False if one is not in time."""
        done = threading.Event()
        self._soon(done.set)
        return done.wait(timeout_seconds) and self.table.wait_for(
            lambda: not any(entry.is_ending for entry in self.table.entries), timeout_seconds
        )

    def introduce_all(self) -> None:
        """Tell a restarted partition of the workers that are up, and of the histories: it recorded none meanwhile."""
        self._soon(self._processes.introduce_all)
        self._soon(self._record_all)

    def restart(self, pipeline: str) -> None:
        """Replace all workers of a pipeline, also if it was given up, and forget its history."""
        self._soon(self._restart, pipeline)

    def abandon(self) -> None:
        """Kill every worker's process, and replace none: this engine does not own the log any more."""
        self._is_stopping = True
        self._soon(self.keeper.stop_replacing)
        self.end_all("its engine was fenced off")

    def stop(self, grace_seconds: float) -> None:
        """Stop all workers: what runs gets its grace, then their processes are killed. A second call does nothing."""
        if self._is_over:
            return
        self._is_stopping = True
        self.table.close()
        self._soon(self._stop_workers)
        deadline = time.monotonic() + grace_seconds
        self.table.wait_for(lambda: not any(entry.is_up for entry in self.table.entries), grace_seconds)
        self._soon(self._kill_all)
        if self._thread is not None:
            self._thread.join(max(_STOP_SECONDS, deadline - time.monotonic()))

    def tree(self) -> list[TreeNode]:
        """The root, and the pipelines with their steps and workers."""
        return supervised_nodes(self.keeper, self.table)

    def up(self, worker: int) -> None:
        """A worker's lane is open; from any thread."""
        self._soon(self._processes.opened, worker)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        """Start the pool's thread, also in place of one that hangs in a call to a Ray without a control store."""
        self._thread = threading.Thread(target=self._serve, name="ensue-pool", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._is_over and self._thread is threading.current_thread():
            try:
                work = self._queue.get(timeout=_POLL_SECONDS if self._processes.has_killed else _CHECK_SECONDS / 4)
            except queue.Empty:
                work = self._processes.forget_killed
            for each in (work, self._processes.forget_killed, self._replace_early, self._check):
                self._try(each)

    def _try(self, work: Callable[..., None], *arguments: Any) -> None:
        """Log an exception, so that one bad message does not end the loop."""
        try:
            work(*arguments)
        except Exception:
            logger.exception("the worker pool could not process a message: %.500r", arguments)

    def _soon(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the pool's thread call this; from any thread."""
        self._queue.put(partial(work, *arguments))

    def _begin(self, session: Session) -> None:
        self._has_lost_ray = False
        self._processes.begin(session)
        self.keeper.start(session, self._soon, self._live_workers, self._take_all, self._keeper_lost)
        for place, step in self.table.steps.items():
            if not self._give_up_if_failed(place[0]):
                for slot in range(step.replicas):
                    self._try(self._start_first, session, place, slot)

    def _check(self) -> None:
        now = time.monotonic()
        settled = self._processes.is_settled
        if now - self._checked_at < _CHECK_SECONDS and not self.keeper.is_due(settled=settled):
            return
        since, self._checked_at = self._checked_at, now
        if any(heard > since for heard in list(self._links.last_message_at.values())):
            self.keeper.clock.heard()
        for worker, reason, is_blamed in self._processes.silent():
            self._end(worker, reason, is_blamed=is_blamed)
        if not self._is_stopping and not self.keeper.check(settled=settled) and self.ray_lost is not None:
            self.ray_lost()

    # -- what the keeper reports ---------------------------------------------------------------------------------------

    def _take_all(self, reports: Iterable[orders.Report]) -> None:
        for report in reports:
            self._try(self._take, report)
        for pipeline in {pipeline for pipeline, _ in self.table.steps}:
            self._give_up_if_failed(pipeline)

    def _take(self, report: orders.Report) -> None:
        match report:
            case orders.WorkerWanted():
                self._start_wanted(report)
            case orders.WorkerGone():
                self._gone(report)
            case orders.EndWorkers(path, worker):
                entries = [entry for entry in self.table.entries if orders.step_path(*entry.place) == path]
                self._processes.kill(entry for entry in entries if worker in (None, entry.worker))
            case orders.PipelineReport(pipeline, event):
                self._announce(pipeline, event)
            case orders.HistoryChanged(path, history):
                self._record(self.keeper.histories.change(path, history))
            case orders.RootHistoryChanged(pipeline, history):
                self._record(self.keeper.histories.change_root(pipeline, history))
            case orders.StandingChanged(path, standing):
                self.keeper.standings[path] = standing
                self.table.note_progress()
            case orders.RestartConfirmed(pipeline):
                self.keeper.confirm_restart(pipeline)
            case orders.SupervisorStarted(path):
                self.keeper.missing.pop(path, None)
                self.table.note_progress()
            case orders.SupervisorRestarts(path, reason, wait_seconds):
                self.keeper.missing[path] = reason
                logger.warning("%s: %s; starting another in %.1f s", path, reason, wait_seconds)
            case _:
                assert_never(report)

    def _announce(self, pipeline: str, event: Restarted | Escalated | Broken) -> None:
        if isinstance(event, Broken):
            self._post(StepBroken(pipeline, event.step, event.message))
            self.table.give_up([(pipeline, event.step)], event.message)
        elif not self._is_stopping:
            if isinstance(event, Escalated) and event.failed and event.step:
                self.table.give_up([(pipeline, event.step)], event.reason)
            self._post(announcement(notice_of(pipeline, event)))

    def _record(self, facts: Iterable[tuple[str, Any]]) -> None:
        for name, body in facts:
            self._post(Fact("supervision", name, pack(body)))

    def _record_all(self) -> None:
        self._record(self.keeper.histories.facts())

    def _give_up_if_failed(self, pipeline: str) -> bool:
        failed = self.keeper.histories.failed(pipeline)
        if failed:
            self.table.give_up(self.table.of(pipeline), f"the pipeline has failed, restart it: {failed}")
        return bool(failed)

    def _keeper_lost(self) -> None:
        """Workers continue without a keeper. Those that it was to kill are killed from here."""
        self._processes.kill(entry for entry in self.table.entries if entry.is_ending)

    # -- workers -------------------------------------------------------------------------------------------------------

    def _start_first(self, session: Session, place: Place, slot: int) -> None:
        """If Ray refuses, the supervisor finds nothing there, and wants another."""
        if self._processes.is_in(session):
            self._processes.start(place, slot)

    def _start_wanted(self, wanted: orders.WorkerWanted) -> None:
        if self._is_stopping:
            return
        pipeline, _, step = wanted.path.partition("/")
        try:
            entry = self._processes.start((pipeline, step), wanted.slot)
        except Exception as error:  # Ray may refuse with any: a failed start like any other
            logger.exception("a worker of step %s cannot be started", step)
            self.keeper.order(wanted.path, orders.WorkerRefused(wanted.slot, wanted.start, how_it_ended(error)))
            self.table.broken[pipeline, step] = first_line(error)
            return
        if not self.keeper.order(wanted.path, orders.WorkerMade(wanted.slot, wanted.start, entry.worker, entry.actor)):
            self._processes.kill([entry])  # the keeper that wanted it is gone, and the next one asks again

    def _replace_early(self) -> None:
        """Before the keeper is up, replace a worker that crashed, if its supervisor could do nothing but that."""
        if self._is_stopping or not self.keeper.is_coming:
            return
        for entry in self._processes.crashed:
            if entry.has_worked and not self.keeper.histories.failed(entry.pipeline):
                self._replace(entry)

    def _replace(self, entry: WorkerEntry) -> None:
        """Restart a worker, with the history that its supervisor would have recorded."""
        path, step, now_us = orders.step_path(*entry.place), self.table.steps[entry.place], self._clock.now_us()
        rules = StepSupervisorNode(entry.pipeline, StepPolicy(entry.step, step.replicas, step.supervision))
        rules.node.restore(self.keeper.histories.of(path), now_us)
        restarted = rules.ended_early(entry.slot, "its process was gone", now_us)
        if restarted is not None:
            entry.is_blamed = True
            self._processes.kill([entry])
            self._record(self.keeper.histories.change(path, rules.node.history()))
            self._announce(entry.pipeline, restarted)
            self._processes.start(entry.place, entry.slot)

    def _live_workers(self) -> list[orders.LiveWorker]:
        """The workers that a new keeper finds."""
        return [
            orders.LiveWorker(orders.step_path(*e.place), e.slot, e.worker, e.actor, e.process, e.is_up, e.has_worked)
            for e in self.table.entries
            if not e.is_killed_here
        ]

    def _gone(self, gone: orders.WorkerGone) -> None:
        pipeline, _, step = gone.path.partition("/")
        if not gone.was_up:
            self.table.broken[pipeline, step] = gone.message
        entry = self.table.get(gone.worker)
        if entry is not None:
            message = f"worker of step {step} ended: {gone.message}"
            self._processes.forget(entry, message, expected=self._is_stopping or not gone.is_blamed)

    def _end(self, worker: int, reason: str, *, is_blamed: bool = False) -> None:
        entry = self.table.get(worker)
        if entry is None:
            return
        entry.mark_ending()
        entry.is_blamed = is_blamed
        if not self.keeper.order(orders.step_path(*entry.place), orders.EndWorker(worker, reason, is_blamed)):
            self._processes.kill([entry])

    def _end_everyone(self, reason: str) -> None:
        for entry in self.table.entries:
            self._end(entry.worker, reason)

    def _comes_up(self, entry: WorkerEntry) -> None:
        """Tell its supervisor: if the worker ends from now on, that is not a failed start."""
        self.keeper.order(orders.step_path(*entry.place), orders.WorkerOpened(entry.worker))

    def _worked(self, worker: int) -> None:
        entry = self.table.get(worker)
        if entry is not None:
            entry.has_worked = True
            self.keeper.order(orders.step_path(*entry.place), orders.WorkerWorked(worker))

    def _lose(self) -> None:
        self.keeper.forget()
        self._processes.lose()
        self._has_lost_ray = True
        self.table.note_progress()

    def _restart(self, pipeline: str) -> None:
        self.table.given_up -= self.table.of(pipeline)
        self._record(self.keeper.restart(pipeline))

    def _stop_workers(self) -> None:
        """The keeper first, so that it replaces none; from now on the engine sees the end of the workers."""
        self.keeper.stop_replacing()
        self._processes.stop()

    def _kill_all(self) -> None:
        self._is_over = True
        try:
            self.keeper.end()
        finally:
            self._processes.kill(self.table.entries)
