"""Crew: the engine's end of the supervision tree: it starts the supervisors, hears their reports and passes on orders.

Rules: who starts and ends workers is their supervisor; the crew opens and closes their lanes, and tells the partition of
those that come and go. It knows their processes, so that where a supervisor dies it can see for itself that the workers
are gone too. One thread does all of it, told by messages.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, cast

from ..cluster.processes import end, is_gone
from ..cluster.session import Session
from ..events.codec import pack
from ..events.inputs import Input, Note, StepBroken, WorkerDown, WorkerUp
from ..events.notices import announcement
from ..events.pipeline import Pipeline
from ..events.supervisors import Broken, Escalated, Restarted
from .announcing import notice_of
from .branches import Branches
from .links import RayLinks
from .ray_lane import RemoteLane
from .root import SupervisorGaveUp, SupervisorGone, SupervisorUp
from .roster import Member, Roster
from .supervising import Reports
from .supervisor import WorkerGone, WorkerUpAt
from .tree import TreeNode, pipeline_node
from .wire import Tag

__all__ = ["Crew"]

logger = logging.getLogger("ensue.crew")
_SILENT_SECONDS = 10.0
_CHECK_SECONDS = 2.0
_NO_PROGRESS_SECONDS = 20.0
_LOOK_SECONDS = 0.02
_STOP_SECONDS = 5.0


class Crew:
    """All workers of an engine. `post` tells the partition of those that come and go."""

    def __init__(
        self, links: RayLinks, branches: Branches, pipelines: Iterable[Pipeline], post: Callable[[Input], None]
    ) -> None:
        self._links = links
        self._post = post
        self._branches = branches
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.roster = Roster(pipelines)
        self._stopping = False
        self._lost = False
        self._over = False
        self._checked = 0.0
        self._thread = threading.Thread(target=self._serve, name="ensue-crew", daemon=True)
        self.ray_lost: Callable[[], None] | None = None
        links.ender = self.end
        links.worked_first = partial(self._soon, self._worked)

    def start(self, session: Session) -> None:
        """Start the supervisors, and with them every worker, in parallel."""
        self._session = session
        self._soon(self._begin, session)
        self._thread.start()

    def begin_again(self, session: Session) -> None:
        """Start them in another Ray, once `lose` has seen that nothing of the old one is left."""
        self._session = session
        self._soon(self._begin, session)

    def lose(self, timeout_seconds: float) -> bool:
        """Ray is lost, and all workers with it: see that they are gone. False where one is not in time."""
        self._soon(self._lose)
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
        self._soon(self._order_all, "end_all", reason)

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until those that were to end are seen to be gone; False where one is not in time."""
        done = threading.Event()
        self._soon(done.set)
        return done.wait(timeout_seconds) and self.roster.wait_for(
            lambda: not any(m.ended for m in self.roster.members), timeout_seconds
        )

    def introduce_all(self) -> None:
        """Tell a partition that begins again of the workers that are up."""
        self._soon(self._introduce_all)

    def restart(self, pipeline: str) -> None:
        """Begin anew with a pipeline that was given up."""
        self._soon(self._restart, pipeline)

    def abandon(self) -> None:
        """End every worker's process, and replace none: this engine owns the log no more."""
        self._stopping = True
        self._soon(self._branches.end_root)
        self._soon(self._order_all, "stop")
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
        self._thread.join(max(_STOP_SECONDS, deadline - time.monotonic()))

    def tree(self) -> list[TreeNode]:
        """The root, and the pipelines with their steps and workers."""
        pipelines = [
            pipeline_node(name, branch.mark.pid if branch.mark else 0, branch.standing, branch.missing)
            for name, branch in list(self._branches.branches.items())
        ]
        return [self._branches.root_node(), *pipelines]

    def up(self, worker: int) -> None:
        """A worker's lane is open; from any thread."""
        self._soon(self._opened, worker)

    def _opened(self, worker: int) -> None:
        member = self.roster.get(worker)
        if member is None or member.up:
            return
        self._links.heard[worker] = time.monotonic()
        self._introduce(member)
        self.roster.came_up(member)

    def _introduce(self, member: Member) -> None:
        step = self.roster.steps[member.place]
        self._post(WorkerUp(member.worker, member.pipeline, step.name, step.concurrency))

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._over:
            try:
                work = self._queue.get(timeout=_LOOK_SECONDS if self._seeing else _CHECK_SECONDS / 4)
            except queue.Empty:
                work = self._see
            for each in (work, self._see, self._check):
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
            for item in self._branches.heard_root(key, error, value):
                self._try(self._take_of_root, item)
        elif error is not None:
            self._branch_lost(key, error)
        elif what == "reports":
            self._take_all(key, value)
        else:
            self._branches.met_process(key, value)
            self.roster.progress()

    def _take_all(self, key: tuple[str, int], reports: Reports) -> None:
        pipeline = key[0]
        before = self._branches.branches[pipeline].standing
        for item in self._branches.heard(key, reports):
            self._try(self._take, pipeline, item)
        if self._branches.branches[pipeline].standing != before:
            self.roster.progress()
        if failed := self._branches.failed(pipeline):
            self.roster.give_up(self.roster.of(pipeline), f"the pipeline has failed, restart it: {failed}")

    def _begin(self, session: Session) -> None:
        self._lost = False
        self._branches.start(session, lambda *outcome: self._soon(self._heard, *outcome))

    def _order_all(self, *order: Any) -> None:
        for member in self.roster.members:
            member.ended = member.ended or order[0] == "end_all"
        self._branches.order_all(*order)

    def _introduce_all(self) -> None:
        for member in self.roster.members:
            if member.up and not member.ended:
                self._introduce(member)

    def _take(self, pipeline: str, item: Any) -> None:
        """Something that a pipeline's supervisor reports."""
        if isinstance(item, WorkerUpAt):
            self._came_up(pipeline, item)
        elif isinstance(item, WorkerGone):
            self._gone(pipeline, item)
        elif isinstance(item, Broken):
            self._post(StepBroken(pipeline, item.step, item.message))
            self.roster.give_up([(pipeline, item.step)], item.message)
        elif isinstance(item, dict):
            self._remember(pipeline, cast("dict[str, Any]", item))
        elif not self._stopping:
            self._announce(pipeline, item)

    def _remember(self, pipeline: str, histories: dict[str, Any]) -> None:
        for name, body in self._branches.remember(pipeline, histories):
            self._post(Note("supervision", name, pack(body)))

    def _announce(self, pipeline: str, item: Restarted | Escalated) -> None:
        self._post(announcement(notice_of(pipeline, item)))

    def _take_of_root(self, item: Any) -> None:
        if isinstance(item, SupervisorUp):
            self._branches.met(item.pipeline, item.incarnation, item.actor)
        elif isinstance(item, SupervisorGone):
            self._post(Note("supervision", "engine", pack(self._branches.remember_root(item.pipeline, item.history))))
            logger.warning("pipeline %s: %s; starting another in %.1f s", item.pipeline, item.reason, item.wait_seconds)
        elif isinstance(item, SupervisorGaveUp):
            self._post(Note("supervision", "engine", pack(self._branches.remember_root(item.pipeline, item.history))))
            branch = self._branches.branches[item.pipeline]
            branch.standing = (item.reason, branch.standing[1] if branch.standing else {})
            period = branch.charter.policy.period_seconds
            self.roster.give_up(self.roster.of(item.pipeline), item.reason)
            self._announce(item.pipeline, Escalated("engine", "", "", item.reason, item.restarts, period, failed=True))

    # -- workers -------------------------------------------------------------------------------------------------------

    def _came_up(self, pipeline: str, item: WorkerUpAt) -> None:
        worker, actor = item.worker, item.actor
        member = Member(worker, pipeline, item.step, actor, item.mark, time.monotonic())
        member.local = _is_here(item.node, self._session)
        self.roster.add(member)
        if member.local:
            actor.serve.remote(self._links.address)  # how that ends, its supervisor says
            return
        lane = RemoteLane(
            actor,
            lambda message: self._links.take_remote(worker, message),
            lambda: self.end(worker, "a call to it failed"),
        )
        self._links.add_remote(worker, lane)
        lane.start()
        self._opened(worker)

    def _gone(self, pipeline: str, item: WorkerGone) -> None:
        member = self.roster.get(item.worker)
        if member is None:
            if not item.was_up:
                self.roster.broken[pipeline, item.step] = item.message
            return
        message = f"worker of step {item.step} ended: {item.message}"
        self._forget(member, message, expected=self._stopping or not item.blamed)

    def _forget(self, member: Member, message: str, *, expected: bool) -> None:
        self._links.forget(member.worker)
        self._post(WorkerDown(member.worker, message, expected))
        self.roster.remove(member)

    def _end(self, worker: int, reason: str, *, blamed: bool = False) -> None:
        member = self.roster.get(worker)
        if member is not None:
            member.ended = True
            self._branches.order(member.pipeline, "end", worker, reason, blamed)

    def _worked(self, worker: int) -> None:
        member = self.roster.get(worker)
        if member is not None:
            self._branches.order(member.pipeline, "worked", worker)

    def _branch_lost(self, key: tuple[str, int], error: BaseException | None) -> None:
        """Its workers go with it. What they ran is not to blame."""
        if self._branches.lost(key, error) is not None:
            self._end_members(lambda member: member.pipeline == key[0])

    def _end_members(self, which: Callable[[Member], bool]) -> None:
        for member in self.roster.members:
            if which(member):
                member.ended = member.lost = True
                end(member.mark)

    def _see(self) -> None:
        """Of those whose supervisor is gone: which of them are gone too? On another node Ray ends them, and says so late."""
        for member in self.roster.members:
            if member.lost and (not member.mark.pid or is_gone(member.mark)):
                self._forget(member, "its supervisor ended", expected=True)

    @property
    def _seeing(self) -> bool:
        return any(member.lost for member in self.roster.members)

    def _lose(self) -> None:
        self._branches.forget_all()
        self._end_members(lambda _member: True)
        self._see()
        self._lost = True
        self.roster.progress()

    def _restart(self, pipeline: str) -> None:
        self.roster.given_up -= self.roster.of(pipeline)
        self._branches.restart(pipeline)

    def _wind_down(self) -> None:
        """Supervisors first, so that they replace nobody; then what runs is let finish."""
        self._branches.order_all("stop")
        for member in self.roster.members:
            if member.up and member.local:
                self._links.send_soon(member.worker, pack([int(Tag.STOP), None]))
            elif member.up:
                member.actor.stop.remote()

    def _end_all(self) -> None:
        self._over = True
        self._branches.end_all()
        for member in self.roster.members:
            end(member.mark)

    def _check(self) -> None:
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return
        self._checked = now
        listened = self._links.listened  # while the partition itself was busy nobody was silent
        self._links.wake()
        for member in self.roster.members:
            silent = listened - self._links.heard.get(member.worker, listened)
            if member.up and not member.ended and silent > _SILENT_SECONDS:
                self._end(member.worker, f"it was silent for {silent:.0f} s", blamed=True)
            elif not member.up and not member.ended and now - member.since > _SILENT_SECONDS:
                self._end(member.worker, "its lane did not open")
        if not self._stopping and not self._branches.tend() and self.ray_lost is not None:
            self.ray_lost()


def _is_here(node: str, session: Session) -> bool:
    return node == session.node_id
