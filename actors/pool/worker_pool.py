"""WorkerPool: the engine's end of the supervision tree: it starts workers, hears the supervisors' reports, and passes on orders.

Rules: the first worker of each place is started at once, and its supervisor finds it there; from then on the supervisors
say who is started and who is ended, and who is gone. The crew opens and closes the lanes, and tells the partition of those
that come and go. Whom no supervisor is there to end, it ends itself. One thread does all of it, told by messages.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from ...cluster.clock import SystemClock
from ...cluster.ray.exit_reasons import first_line
from ...cluster.ray.session import Session
from ...events.decide.announcement import announcement
from ...events.decide.inputs import Input, StepBroken
from ...events.model.codec import pack
from ...events.pipelines.pipeline import Pipeline
from ...events.state.rows import Fact
from ...events.supervision.tree import Broken, Escalated, Restarted, StepPolicy, StepSupervisorNode
from ...events.views.health_tree import TreeNode
from ..supervision.orders import (
    ROOT_HISTORY,
    LiveWorker,
    StepEnds,
    SupervisorGaveUp,
    SupervisorGone,
    SupervisorUp,
    WorkerGone,
    WorkerWanted,
    step_path,
)
from ..supervision.supervisor_actor import Reports
from ..transport.ray_links import RayLinks
from .health_tree import supervised_nodes
from .notices import notice_of
from .supervisor_clients import SupervisorClients
from .worker_factory import WorkerFactory
from .worker_processes import WorkerProcesses
from .worker_table import Place, WorkerEntry, WorkerTable

__all__ = ["WorkerPool"]

logger = logging.getLogger("ensue.crew")
_CHECK_SECONDS = 2.0
_NO_PROGRESS_SECONDS = 20.0
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 5.0
_STUCK_SECONDS = 2.0


class WorkerPool:
    """All workers of an engine. `post` tells the partition of those that come and go."""

    def __init__(
        self,
        links: RayLinks,
        branches: SupervisorClients,
        maker: WorkerFactory,
        pipelines: Iterable[Pipeline],
        post: Callable[[Input], None],
    ) -> None:
        self._post = post
        self._branches = branches
        self._clock = SystemClock()
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.roster = WorkerTable(pipelines)
        self._hands = WorkerProcesses(
            links, maker, self.roster, post, soon=self._soon, end=self.end, comes_up=self._comes_up
        )
        self._stopping = False
        self._lost = False
        self._over = False
        self._checked = 0.0
        self._thread: threading.Thread | None = None
        self.ray_lost: Callable[[], None] | None = None
        links.kill_worker = self.end
        links.on_first_completion = partial(self._soon, self._worked)

    def start(self, session: Session) -> None:
        """Start every worker, in parallel, and then the supervisors."""
        self._soon(self._begin, session)
        self._start_thread()

    def begin_again(self, session: Session) -> None:
        """Start them in another Ray, once `lose` has seen that nothing of the old one is left."""
        self._soon(self._begin, session)

    def lose(self, timeout_seconds: float) -> bool:
        """Ray is lost, and all workers with it: see that they are gone. False where one is not in time."""
        self._soon(self._lose)
        if not self.roster.wait_for(lambda: self._lost, _STUCK_SECONDS):
            logger.warning("the crew waits for an answer of the Ray that is lost: another thread takes its place")
            self._start_thread()
        return self.roster.wait_for(lambda: self._lost and not self.roster.members, timeout_seconds)

    def wait_ready(self, timeout_seconds: float) -> bool:
        """Wait until all workers are up; False where some are not in time, or cannot be (`lacking` says which).

        Those that come up later, when Ray has room for them, are as welcome.
        """
        return self.roster.wait_ready(timeout_seconds, _NO_PROGRESS_SECONDS)

    def end(self, worker: int, reason: str) -> None:
        """End a worker's process for certain; from any thread."""
        self._soon(self._end, worker, reason)

    def end_all(self, reason: str) -> None:
        """End every worker's process; each is replaced."""
        self._soon(self._end_everyone, reason)

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until those that were to end are seen to be gone; False where one is not in time."""
        done = threading.Event()
        self._soon(done.set)
        return done.wait(timeout_seconds) and self.roster.wait_for(
            lambda: not any(m.ended for m in self.roster.members), timeout_seconds
        )

    def introduce_all(self) -> None:
        """Tell a partition that begins again of the workers that are up."""
        self._soon(self._hands.introduce_all)

    def restart(self, pipeline: str) -> None:
        """Begin anew with a pipeline that was given up."""
        self._soon(self._restart, pipeline)

    def abandon(self) -> None:
        """End every worker's process, and replace none: this engine owns the log no more."""
        self._stopping = True
        self._soon(self._branches.root.end)
        self._soon(self._branches.stop)
        self.end_all("its engine was fenced off")

    def stop(self, grace_seconds: float) -> None:
        """Wind all workers down: what runs gets its grace, then their processes end. A second call does nothing."""
        if self._over:
            return
        self._stopping = True
        self._soon(self._wind_down)
        deadline = time.monotonic() + grace_seconds
        self.roster.wait_for(lambda: not any(m.up for m in self.roster.members), grace_seconds)
        self._soon(self._end_all)
        if self._thread is not None:
            self._thread.join(max(_STOP_SECONDS, deadline - time.monotonic()))

    def tree(self) -> list[TreeNode]:
        """The root, and the pipelines with their steps and workers."""
        return supervised_nodes(self._branches, self.roster)

    def up(self, worker: int) -> None:
        """A worker's lane is open; from any thread."""
        self._soon(self._hands.opened, worker)

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        """Start the crew's thread, in place of one that Ray keeps: without its control store, calls hang for a minute."""
        self._thread = threading.Thread(target=self._serve, name="ensue-crew", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._over and self._thread is threading.current_thread():
            try:
                work = self._queue.get(timeout=_LOOK_SECONDS if self._hands.is_seeing else _CHECK_SECONDS / 4)
            except queue.Empty:
                work = self._hands.see
            for each in (work, self._hands.see, self._replace_early, self._check):
                self._try(each)

    def _try(self, work: Callable[..., None], *arguments: Any) -> None:
        """One bad item neither ends the loop nor takes others along."""
        try:
            work(*arguments)
        except Exception:
            logger.exception("the crew could not do what it was told: %.500r", arguments)

    def _soon(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the crew's thread do this; from any thread."""
        self._queue.put(partial(work, *arguments))

    def _heard(self, what: str, key: Any, error: BaseException | None, value: Any) -> None:
        """The outcome of a call to a supervisor."""
        if what == "root":
            for item in self._branches.root.heard(key, error, value):
                self._try(self._take_of_root, item)
        elif what == "root pid":
            if error is None:  # else the call that waits on it says so
                self._branches.root.met(key, value)
        elif error is not None:
            self._branch_lost(key, error)
        elif what == "reports":
            self._take_all(key, value)
        else:
            self._branches.met_process(key, value)
            self.roster.progress()

    def _take_all(self, key: tuple[str, int], reports: Reports) -> None:
        name = key[0]
        pipeline, _, step = name.partition("/")
        before = self._standing(name)
        for item in self._branches.heard(key, reports):
            self._try(self._take, pipeline, step, item)
        if self._standing(name) != before:
            self.roster.progress()
        self._see_failed(pipeline)

    def _standing(self, name: str) -> Any:
        branch = self._branches.branch(name)
        return branch and branch.standing

    def _see_failed(self, pipeline: str) -> bool:
        failed = self._branches.failed(pipeline)
        if failed:
            self.roster.give_up(self.roster.of(pipeline), f"the pipeline has failed, restart it: {failed}")
        return bool(failed)

    def _begin(self, session: Session) -> None:
        self._lost = False
        self._hands.begin(session)
        self._branches.start(session, lambda *outcome: self._soon(self._heard, *outcome), self._living_of)
        for place, step in self.roster.steps.items():
            if not self._see_failed(place[0]):
                for slot in range(step.replicas):
                    self._try(self._make_first, session, place, slot)

    def _take(self, pipeline: str, step: str, item: Any) -> None:
        """Something that a pipeline's supervisor reports, or that of a step."""
        if isinstance(item, WorkerWanted):
            self._make_as_wanted((pipeline, step), item)
        elif isinstance(item, WorkerGone):
            self._gone((pipeline, step), item)
        elif isinstance(item, Broken):
            self._post(StepBroken(pipeline, item.step, item.message))
            self.roster.give_up([(pipeline, item.step)], item.message)
        elif isinstance(item, dict):
            self._note(self._branches.remember(cast("dict[str, Any]", item)))
        elif isinstance(item, SupervisorUp):
            self._branches.met(item.name, item.incarnation, item.actor)
        elif isinstance(item, SupervisorGone):
            _warn(item)
        elif isinstance(item, StepEnds):
            self._hands.end_here(m for m in self.roster.members if m.place == (pipeline, item.step))
        elif not self._stopping:
            if isinstance(item, Escalated) and item.failed and item.step:
                self.roster.give_up([(pipeline, item.step)], item.reason)
            self._announce(pipeline, item)

    def _note(self, changed: Iterable[tuple[str, Any]]) -> None:
        for name, body in changed:
            self._post(Fact("supervision", name, pack(body)))

    def _announce(self, pipeline: str, item: Restarted | Escalated) -> None:
        self._post(announcement(notice_of(pipeline, item)))

    def _take_of_root(self, item: Any) -> None:
        if isinstance(item, SupervisorUp):
            self._branches.met(item.name, item.incarnation, item.actor)
        elif isinstance(item, SupervisorGone):
            self._note([(ROOT_HISTORY, self._branches.remember_root(item.name, item.history))])
            _warn(item)
        elif isinstance(item, SupervisorGaveUp):
            self._note([(ROOT_HISTORY, self._branches.remember_root(item.name, item.history))])
            self._branches.end_steps(item.name)
            self._hands.end_here(m for m in self.roster.members if m.pipeline == item.name)
            self._see_failed(item.name)
            branch = self._branches.branch(item.name)
            period = branch.charter.policy.period_seconds if branch else 0.0
            self._announce(item.name, Escalated("engine", "", "", item.reason, item.restarts, period, failed=True))

    # -- workers -------------------------------------------------------------------------------------------------------

    def _make_first(self, session: Session, place: Place, slot: int) -> None:
        """Where Ray refuses, the supervisor will find nobody there, and want another."""
        if self._hands.is_in(session):
            self._hands.make(place, slot)

    def _make_as_wanted(self, place: Place, item: WorkerWanted) -> None:
        name = step_path(*place)
        try:
            member = self._hands.make(place, item.slot)
        except Exception as error:  # whatever Ray refuses it for: a start that failed as any other
            logger.exception("a worker of step %s cannot be started", place[1])
            self._branches.order(name, "refused", item.slot, item.start, error)
            self.roster.broken[place] = first_line(error)
            return
        if not self._branches.order(name, "made", item.slot, item.start, member.worker, member.actor):
            self._hands.end_here([member])  # whoever wanted it is gone, and who comes next asks anew

    def _replace_early(self) -> None:
        """Workers do not wait for a supervisor that is on its way, where it could do nothing but replace them."""
        coming = self._branches.coming if not self._stopping else set[str]()
        for member in self._hands.gone if coming else ():
            if member.worked and step_path(*member.place) in coming:
                self._replace(member)

    def _replace(self, member: WorkerEntry) -> None:
        """Its supervisor finds the history as if it had seen to it itself."""
        name, step, now_us = step_path(*member.place), self.roster.steps[member.place], self._clock.now_us()
        early = StepSupervisorNode(member.pipeline, StepPolicy(member.step, step.replicas, step.supervision))
        early.node.restore(self._branches.history(name), now_us)
        told = early.ended_early(member.slot, "its process was gone", now_us)
        if told is not None:
            member.blamed = True
            self._hands.end_here([member])
            self._note(self._branches.remember({name: early.node.history()}))
            self._announce(member.pipeline, told)
            self._hands.make(member.place, member.slot)

    def _living_of(self, name: str) -> list[LiveWorker]:
        """The workers that a new supervisor of a step finds."""
        return [
            LiveWorker(m.slot, m.worker, m.actor, m.mark, m.up, m.worked)
            for m in self.roster.members
            if step_path(*m.place) == name and not m.lost
        ]

    def _gone(self, place: Place, item: WorkerGone) -> None:
        member = self.roster.get(item.worker)
        if not item.was_up:
            self.roster.broken[place] = item.message
        if member is not None:
            message = f"worker of step {place[1]} ended: {item.message}"
            self._hands.forget(member, message, expected=self._stopping or not item.blamed)

    def _end(self, worker: int, reason: str, *, blamed: bool = False) -> None:
        member = self.roster.get(worker)
        if member is None:
            return
        member.end()
        member.blamed = blamed
        if not self._branches.order(step_path(*member.place), "end", worker, reason, blamed):
            self._hands.end_here([member])

    def _end_everyone(self, reason: str) -> None:
        for member in self.roster.members:
            self._end(member.worker, reason)

    def _comes_up(self, member: WorkerEntry) -> None:
        """What ends it from now on is no failed start, also where its supervisor has not heard of it itself."""
        self._branches.order(step_path(*member.place), "opened", member.worker)

    def _worked(self, worker: int) -> None:
        member = self.roster.get(worker)
        if member is not None:
            member.worked = True
            self._branches.order(step_path(*member.place), "worked", worker)

    def _branch_lost(self, key: tuple[str, int], error: BaseException | None) -> None:
        """Its workers go on. Those that it was to end are ended from here."""
        if self._branches.lost(key, error):
            self._hands.end_here(m for m in self.roster.members if m.ended and step_path(*m.place) == key[0])

    def _lose(self) -> None:
        self._branches.forget_all()
        self._hands.lose()
        self._lost = True
        self.roster.progress()

    def _restart(self, pipeline: str) -> None:
        self.roster.given_up -= self.roster.of(pipeline)
        self._note(self._branches.restart(pipeline))

    def _wind_down(self) -> None:
        """Supervisors first, so that they replace nobody; from now on the end of the workers is seen from here."""
        self._branches.stop()
        self._hands.wind_down()

    def _end_all(self) -> None:
        self._over = True
        self._branches.end_all()
        self._hands.end_here(self.roster.members)

    def _check(self) -> None:
        now = time.monotonic()
        due = self._branches.is_due(settled=self._hands.is_settled)
        if now - self._checked < _CHECK_SECONDS and not due:
            return
        self._checked = now
        for worker, reason, blamed in self._hands.silent():
            self._end(worker, reason, blamed=blamed)
        if not self._stopping and not self._branches.tend(settled=self._hands.is_settled) and self.ray_lost is not None:
            self.ray_lost()


def _warn(item: SupervisorGone) -> None:
    logger.warning("%s: %s; starting another in %.1f s", item.name, item.reason, item.wait_seconds)
