"""WorkerProcesses: the processes of an engine's workers: starts them, opens lanes, kills those without a keeper.

Rules: who is started and ended is decided elsewhere. Only the pool's thread calls these methods; Ray's answers come
back to it through `soon`. A worker is gone when its process is; on another node Ray's word has to do.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ...cluster.processes import handle_of, is_gone, kill
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

_MAX_SILENCE_SECONDS = 10.0


class WorkerProcesses:
    """Starts and kills workers. `post` tells the partition of those that come up and are gone.

    end: has one of them ended. comes_up: is called with each whose lane is open, before anything is sent to it.
    """

    def __init__(
        self,
        links: RayLinks,
        factory: WorkerFactory,
        table: WorkerTable,
        post: Callable[[Input], None],
        *,
        soon: Callable[..., None],
        end: Callable[[int, str], None],
        comes_up: Callable[[WorkerEntry], None],
    ) -> None:
        self._links = links
        self._factory = factory
        self._table = table
        self._post = post
        self._soon = soon
        self._end = end
        self._comes_up = comes_up
        self._has_ray = False
        self._starting: set[int] = set()

    def begin(self, session: Session) -> None:
        """Start workers in this Ray from now on."""
        self._session = session
        self._has_ray = True

    def is_in(self, session: Session) -> bool:
        """Whether workers are started in this Ray."""
        return self._has_ray and self._session is session

    def start(self, place: Place, slot: int) -> WorkerEntry:
        """Start a worker. Raises what Ray raises if it refuses."""
        worker, actor = self._factory.make(place, self._table.steps[place])
        entry = WorkerEntry(worker, *place, slot, actor)
        self._table.add(entry)
        self._starting.add(worker)

        def told(outcome: Any) -> None:
            self._soon(self._ready, worker, outcome)

        actor.hello.remote().future().add_done_callback(told)
        return entry

    @property
    def is_settled(self) -> bool:
        """Whether no worker is being started: each is up, or has failed."""
        return not self._starting

    def opened(self, worker: int) -> None:
        """The lane of a worker is open."""
        entry = self._table.get(worker)
        if entry is None or entry.is_up:
            return
        self._starting.discard(worker)
        self._links.last_message_at[worker] = time.monotonic()
        self._comes_up(entry)
        self._introduce(entry)
        self._table.mark_up(entry)

    def introduce_all(self) -> None:
        """Tell a restarted partition of the workers that are up."""
        for entry in self._table.entries:
            if entry.is_up and not entry.is_ending:
                self._introduce(entry)

    def forget(self, entry: WorkerEntry, message: str, *, expected: bool) -> None:
        """A worker is seen to be gone."""
        self._starting.discard(entry.worker)
        self._links.forget(entry.worker)
        self._post(WorkerDown(entry.worker, message, expected))
        self._table.remove(entry)

    def kill(self, entries: Iterable[WorkerEntry]) -> None:
        """Kill these from here, without the keeper."""
        killed = list(entries)
        for entry in killed:
            entry.mark_ending()
            entry.is_killed_here = True
            kill(entry.process)
        if self._has_ray:  # last, since Ray may not answer
            for entry in killed:
                ray_module().kill(entry.actor, no_restart=True)

    @property
    def has_killed(self) -> bool:
        """Whether some were killed from here, and are not seen to be gone."""
        return any(entry.is_killed_here for entry in self._table.entries)

    def forget_killed(self) -> None:
        """Forget those that were killed from here and are gone."""
        for entry in self._table.entries:
            if entry.is_killed_here and (not entry.process.pid or is_gone(entry.process)):
                self.forget(entry, "it was ended without a supervisor", expected=not entry.is_blamed)

    @property
    def crashed(self) -> list[WorkerEntry]:
        """Workers whose process has ended without an order."""
        return [e for e in self._table.entries if e.process.pid and not e.is_ending and is_gone(e.process)]

    def silent(self) -> Iterator[tuple[int, str, bool]]:
        """Workers that do not answer: number, reason, and whether the step is to blame."""
        now = time.monotonic()
        listened = self._links.last_receive_at  # the time in which the partition itself was busy does not count
        self._links.wake()
        for entry in self._table.entries:
            silence = listened - self._links.last_message_at.get(entry.worker, listened)
            if entry.is_ending and not entry.is_killed_here and now - entry.ended_at > _MAX_SILENCE_SECONDS:
                self.kill([entry])  # the keeper has not carried out the order
            if entry.is_ending or not entry.is_ready:
                continue
            if entry.is_up and silence > _MAX_SILENCE_SECONDS:
                yield entry.worker, f"it was silent for {silence:.0f} s", True
            elif not entry.is_up and now - entry.since > _MAX_SILENCE_SECONDS:
                yield entry.worker, "its lane did not open", False

    def stop(self) -> None:
        """Have each worker finish its running attempts and end."""
        for entry in self._table.entries:
            if not entry.is_up:
                continue
            self._attend(entry)
            if entry.is_local:
                self._links.send_soon(entry.worker, pack([int(Tag.STOP), None]))
            else:
                entry.actor.stop.remote()

    def lose(self) -> None:
        """Ray is gone, and all workers with it."""
        self._has_ray = False
        self.kill(self._table.entries)
        self.forget_killed()

    def _introduce(self, entry: WorkerEntry) -> None:
        step = self._table.steps[entry.place]
        self._post(WorkerUp(entry.worker, entry.pipeline, step.name, step.concurrency))

    def _ready(self, worker: int, outcome: Any) -> None:
        """Connect a worker that has started. Its supervisor gets the same answer, and handles a failed start."""
        entry = self._table.get(worker)
        if outcome.exception() is not None:
            self._starting.discard(worker)
            return
        if entry is None:
            return
        node, pid = outcome.result()
        entry.since = time.monotonic()
        entry.is_local = _is_here(node, self._session)
        if entry.is_local:
            entry.process = handle_of(pid)
            if entry.is_killed_here:
                kill(entry.process)
            entry.actor.serve.remote(self._links.address)  # its supervisor tells how that ends
        else:
            self._open_remote(entry)

    def _open_remote(self, entry: WorkerEntry) -> None:
        worker = entry.worker
        lane = RemoteLane(
            entry.actor,
            lambda message: self._links.receive_remote(worker, message),
            lambda: self._end(worker, "a call to it failed"),
        )
        self._links.add_remote(worker, lane)
        lane.start()
        self.opened(worker)

    def _attend(self, entry: WorkerEntry) -> None:
        def ended(outcome: Any) -> None:
            if outcome.exception() is not None or outcome.result() != SUPERSEDED:
                self._soon(self.kill, [entry])

        entry.actor.attend.remote().future().add_done_callback(ended)


def _is_here(node: str, session: Session) -> bool:
    return node == session.node_id
