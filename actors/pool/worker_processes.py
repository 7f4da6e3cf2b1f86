"""WorkerProcesses: the workers of an engine as its processes: starts them, opens their lanes, and ends those whom nobody else ends.

Rules: who is to start and to end is decided elsewhere. Only the crew's thread comes in here; what Ray says comes back to
it through `soon`. A worker is gone when its process is; on another node Ray's word has to do.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...cluster.processes import end, is_gone, mark_of
from ...cluster.ray.session import Session, ray_module
from ...events.decide.inputs import Input, WorkerDown, WorkerUp
from ...events.model.codec import pack
from ..supervision.long_poll import SUPERSEDED
from ..transport.messages import Tag
from ..transport.ray_lane import RemoteLane
from ..transport.ray_links import RayLinks
from .worker_factory import WorkerFactory
from .worker_table import Place, WorkerEntry, WorkerTable

__all__ = ["WorkerProcesses"]

_SILENT_SECONDS = 10.0


class WorkerProcesses:
    """Starts and ends workers. `post` tells the partition of those that come and go.

    end: has one of them ended. comes_up: is told of each whose lane is open, before anything is sent to it.
    """

    def __init__(
        self,
        links: RayLinks,
        maker: WorkerFactory,
        roster: WorkerTable,
        post: Callable[[Input], None],
        *,
        soon: Callable[..., None],
        end: Callable[[int, str], None],
        comes_up: Callable[[WorkerEntry], None],
    ) -> None:
        self._links = links
        self._maker = maker
        self._roster = roster
        self._post = post
        self._soon = soon
        self._end = end
        self._comes_up = comes_up
        self._ray_is_there = False
        self._coming: set[int] = set()

    def begin(self, session: Session) -> None:
        """Start workers in this Ray from now on."""
        self._session = session
        self._ray_is_there = True

    def is_in(self, session: Session) -> bool:
        """Whether this is the Ray that workers are started in."""
        return self._ray_is_there and self._session is session

    def make(self, place: Place, slot: int) -> WorkerEntry:
        """Start a worker. Raises whatever Ray refuses it for."""
        worker, actor = self._maker.make(place, self._roster.steps[place])
        member = WorkerEntry(worker, *place, slot, actor)
        self._roster.add(member)
        self._coming.add(worker)

        def told(outcome: Any) -> None:
            self._soon(self._met, worker, outcome)

        actor.hello.remote().future().add_done_callback(told)
        return member

    @property
    def is_settled(self) -> bool:
        """Whether no worker is being started: each is up, or is known to have failed."""
        return not self._coming

    def opened(self, worker: int) -> None:
        """A worker's lane is open."""
        member = self._roster.get(worker)
        if member is None or member.up:
            return
        self._coming.discard(worker)
        self._links.last_message_at[worker] = time.monotonic()
        self._comes_up(member)
        self._introduce(member)
        self._roster.came_up(member)

    def introduce_all(self) -> None:
        """Tell a partition that begins again of the workers that are up."""
        for member in self._roster.members:
            if member.up and not member.ended:
                self._introduce(member)

    def forget(self, member: WorkerEntry, message: str, *, expected: bool) -> None:
        """A worker is seen to be gone."""
        self._coming.discard(member.worker)
        self._links.forget(member.worker)
        self._post(WorkerDown(member.worker, message, expected))
        self._roster.remove(member)

    def end_here(self, members: Iterable[WorkerEntry]) -> None:
        """End these from here: there is no supervisor to do it."""
        for member in members:
            member.end()
            member.lost = True
            end(member.mark)
            if self._ray_is_there:
                ray_module().kill(member.actor, no_restart=True)

    @property
    def is_seeing(self) -> bool:
        """Whether some are ended from here, and not seen to be gone."""
        return any(member.lost for member in self._roster.members)

    def see(self) -> None:
        """Look which of those that are ended from here are gone."""
        for member in self._roster.members:
            if member.lost and (not member.mark.pid or is_gone(member.mark)):
                self.forget(member, "it was ended without a supervisor", expected=not member.blamed)

    @property
    def gone(self) -> list[WorkerEntry]:
        """Workers whose process has ended though nobody told it to, and that are not forgotten."""
        return [m for m in self._roster.members if m.mark.pid and not m.ended and is_gone(m.mark)]

    def silent(self) -> Iterator[tuple[int, str, bool]]:
        """Workers that say nothing: number, reason, and whether what they run is to blame."""
        now = time.monotonic()
        listened = self._links.last_receive_at  # while the partition itself was busy nobody was silent
        self._links.wake()
        for member in self._roster.members:
            silent = listened - self._links.last_message_at.get(member.worker, listened)
            if member.ended and not member.lost and now - member.ended_at > _SILENT_SECONDS:
                self.end_here([member])  # whoever was told to end it has not
            if member.ended or not member.is_met:
                continue
            if member.up and silent > _SILENT_SECONDS:
                yield member.worker, f"it was silent for {silent:.0f} s", True
            elif not member.up and now - member.since > _SILENT_SECONDS:
                yield member.worker, "its lane did not open", False

    def wind_down(self) -> None:
        """What runs is let finish; then each is ended."""
        for member in self._roster.members:
            if not member.up:
                continue
            self._attend(member)
            if member.local:
                self._links.send_soon(member.worker, pack([int(Tag.STOP), None]))
            else:
                member.actor.stop.remote()

    def lose(self) -> None:
        """Ray is gone, and all workers with it."""
        self._ray_is_there = False
        self.end_here(self._roster.members)
        self.see()

    def _introduce(self, member: WorkerEntry) -> None:
        step = self._roster.steps[member.place]
        self._post(WorkerUp(member.worker, member.pipeline, step.name, step.concurrency))

    def _met(self, worker: int, outcome: Any) -> None:
        """A worker is ready to talk; of one that never is, its supervisor hears."""
        member = self._roster.get(worker)
        if outcome.exception() is not None:
            self._coming.discard(worker)
            return
        if member is None:
            return
        node, pid = outcome.result()
        member.since = time.monotonic()
        member.local = _is_here(node, self._session)
        if member.local:
            member.mark = mark_of(pid)
            if member.lost:
                end(member.mark)
            member.actor.serve.remote(self._links.address)  # how that ends, its supervisor says
        else:
            self._open_remote(member)

    def _open_remote(self, member: WorkerEntry) -> None:
        worker = member.worker
        lane = RemoteLane(
            member.actor,
            lambda message: self._links.receive_remote(worker, message),
            lambda: self._end(worker, "a call to it failed"),
        )
        self._links.add_remote(worker, lane)
        lane.start()
        self.opened(worker)

    def _attend(self, member: WorkerEntry) -> None:
        def ended(outcome: Any) -> None:
            if outcome.exception() is not None or outcome.result() != SUPERSEDED:
                self._soon(self.end_here, [member])

        member.actor.attend.remote().future().add_done_callback(ended)


def _is_here(node: str, session: Session) -> bool:
    return node == session.node_id
