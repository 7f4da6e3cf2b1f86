"""Owner: an owner of the log in a simulation: the real partition, for one epoch, on a log that fails at commits.

Rules: a crash at a commit is an exception out of the log, before or after the batch was written; it ends the owner.
Between two turns the time of a commit passes, and what arrives meanwhile is the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from ...cluster.log.memory.log import MemoryLog, MemoryStore
from ...cluster.log.protocol import Batch
from ...events.decide.commands import Answer, RunEnded
from ...events.decide.inputs import Input
from ...events.decide.limits import Limits
from ...events.errors import EnsueError
from ...events.pipelines.plan import Plan
from ...events.state.run_status import LIVE, Status
from ..partition.loop import Partition
from ..partition.recovery import recover
from .faults import Dice
from .history import BreakerMoved, Committed, History, RunOver
from .loop import ProcessClock, VirtualLoop, WallClock

__all__ = ["Crashed", "Owner", "OwnerPlace"]

_MEAN_COMMIT_SECONDS = 0.001
_LEAST_WAIT_SECONDS = 1e-6


class Crashed(Exception):
    """The simulated process ended in the middle of a commit."""


class OwnerPlace(Protocol):
    """The simulated world as an owner sees it."""

    loop: VirtualLoop
    dice: Dice
    wall: WallClock
    history: History

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        ...

    def kill_worker(self, owner: "Owner", worker: int, reason: str) -> None:
        """Kill a worker's process."""
        ...

    def settle(self, owner: "Owner", answers: list[Answer], ended: list[RunEnded]) -> None:
        """Callers to answer, and runs that ended."""
        ...

    def letter_blocked(self, letter_id: bytes) -> None:
        """A compensation gave up: an operator has to decide."""
        ...

    def owner_ended(self, owner: "Owner", error: Exception) -> None:
        """The owner's loop ended."""
        ...

    def turned(self, owner: "Owner") -> None:
        """The owner's loop turned."""
        ...


class WitnessLog(MemoryLog):
    """A log that notes its commits; the process may end before or after each."""

    def __init__(self, store: MemoryStore, place: OwnerPlace) -> None:
        super().__init__(store)
        self._place = place

    def commit(self, batch: Batch) -> None:
        place = self._place
        at = place.loop.time()
        about = f"commit {len(place.history.commits)}"
        if place.dice.happens("crash_before_commit", at, about):
            raise Crashed("before a commit")
        first = self.store.next_offset
        super().commit(batch)
        place.history.commits.append(list(batch.entries))
        observations = place.history.observations
        observations.append(Committed(at, batch.epoch, self.store.epoch, first, self.store.next_offset))
        number = len(place.history.commits) - 1
        observations += [BreakerMoved(at, number, fact.kind, fact.name, fact.body) for fact in batch.facts]
        for letter in batch.dead:
            if letter.blocked:
                place.letter_blocked(letter.letter_id)
        for change in batch.changed:
            if Status(change.status) not in LIVE:
                observations.append(RunOver(at, self.store.runs[change.run].run_id, int(change.status)))
        if place.dice.happens("crash_after_commit", at, about):
            raise Crashed("after a commit")


class Owner:
    """One epoch of the partition. It is the `Links` and the `Watcher` of its partition.

    is_dead: its process is gone. is_frozen: its process stands still, and another owner may have taken over.
    """

    def __init__(self, number: int, place: OwnerPlace, plans: Mapping[str, Plan], limits: Limits) -> None:
        self.number = number
        self.place = place
        self.is_dead = False
        self.is_frozen = False
        self.log = WitnessLog(place.history.store, place)
        self.epoch = self.log.acquire(f"simulated-{number}")
        self.clock = ProcessClock(place.wall)
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._random = place.dice.stream("commits")
        self._scheduled = False
        self._busy_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        decider = recover(self.log, self.epoch, plans, limits).decider
        self.state = decider.state
        """All live runs, for the laws of the simulation to look at."""
        self.partition = Partition(decider, self.log, self.epoch, links=self, watcher=self, clock=self.clock)

    def begin(self) -> None:
        """Go on where the log ends."""
        self._attempt(self.partition.resume)

    def post(self, entry: Input) -> None:
        """Tell the partition something."""
        if not self.is_dead:
            self.partition.post(entry)
            self.wake()

    def take(self, worker: int, message: bytes) -> None:
        """A message of a worker has arrived."""
        if not self.is_dead:
            self._arrived.append((worker, message))
            self.wake()

    def save_snapshot(self) -> None:
        """Keep the state as it is between two turns."""
        if not (self.is_dead or self.is_frozen):
            self.partition.save_snapshot()

    def die(self) -> None:
        """The process is gone, and with it all that it held in memory."""
        self.is_dead = True
        if self._timer is not None:
            self._timer.cancel()

    def thaw(self) -> None:
        """Go on as if no time had passed."""
        self.is_frozen = False
        self.wake()

    # -- Links and Watcher of the partition ---------------------------------------------------------------------------

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        self.place.send(worker, message)

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent."""
        messages = list(self._arrived)
        self._arrived.clear()
        return messages

    def kill(self, worker: int, reason: str) -> None:
        """Kill a worker's process."""
        self.place.kill_worker(self, worker, reason)

    def wait(self, timeout_seconds: float | None) -> None:
        """The virtual loop waits."""

    def wake(self) -> None:
        """Turn soon."""
        if not (self._scheduled or self.is_dead or self.is_frozen):
            self._scheduled = True
            self.place.loop.call_at(max(self._busy_until, self.place.loop.time() + _LEAST_WAIT_SECONDS), self._turn)

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Callers to answer, and runs that ended."""
        self.place.settle(self, answers, ended)

    def on_progress(self, run_id: bytes, step: str, done: float, total: float) -> None:
        """Progress is shown to nobody here."""

    def on_message(self, worker: int, tag: int, body: Any) -> None:
        """Log lines are shown to nobody here."""

    # -- inside -------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._scheduled = False
        if self.is_dead or self.is_frozen:
            return
        self._attempt(self.partition.turn)

    def _check_refused(self) -> None:
        """Nothing in a simulation is invalid, so an input that is refused is a fault of ours."""
        if self.partition.refused:
            raise EnsueError(self.partition.refused[0])

    def _attempt(self, action: Callable[[], object]) -> None:
        now = self.place.loop.time()
        self._busy_until = now + self._random.expovariate(1 / _MEAN_COMMIT_SECONDS)
        try:
            action()
            self._check_refused()
        except Exception as error:  # noqa: BLE001 - it tells a crash from a fault of ours
            self.place.owner_ended(self, error)
            return
        if self.partition.has_inputs or self._arrived:
            self.wake()
        self._set_timer()
        self.place.turned(self)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_us = self.partition.due_us
        if due_us is not None:
            wait = max(0, due_us - self.clock.now_us()) / 1e6 + _LEAST_WAIT_SECONDS
            self._timer = self.place.loop.call_later(wait, self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.wake()
