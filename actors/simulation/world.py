"""World: one simulation: a log, its owners one after another, their workers, the senders and the operators.

Rules: everything that happens follows from the seed. An owner that ended is followed by another; the supervisors of
each owner replace workers that died. When the faults are over, everything has to end.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...cluster.log.memory.log import MemoryLog, MemoryReader, MemoryStore
from ...events.decide.commands import Answer, RunEnded
from ...events.decide.inputs import Input, WorkerDown, WorkerUp
from ...events.decide.limits import Limits
from ...events.errors import StaleEpoch
from ...events.model.event import Event
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.plan import compile_plan
from ...events.pipelines.step import Step
from ...events.pipelines.version import version_of
from ...events.state.run_status import LIVE, Status
from ...events.views.earlier_events import Packed
from ..client.admission import EngineAdmission
from ..client.run_queries import earlier_events
from ..partition.recovery import recover
from ..transport.messages import Tag
from .clients import Clients, SimIds
from .faults import Dice, Faults
from .history import CodeEnded, CodeStarted, Compared, History, Observation, Surprise, WorkerSeenGone
from .loop import VirtualLoop, WallClock
from .net import Network
from .operators import SimOperators
from .owner import Crashed, Owner
from .pace import SimAttempt
from .picture import difference, pending
from .supervisor import SimSupervisor
from .worker import SimWorker

__all__ = ["World"]

_START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
_MOST_TURNS = 2_000_000
_JUMP_SECONDS = (-5.0, 10_800.0)
_SNAPSHOTS_A_SECOND = 0.1


class World:
    """One simulation. `run` runs it; `history` is what is left."""

    def __init__(
        self,
        pipeline: Pipeline,
        events: Sequence[tuple[int, Event]],
        faults: Faults,
        seed: int,
        *,
        keep: Collection[str] | None,
        within_seconds: float,
    ) -> None:
        self.pipeline = pipeline
        self.faults = faults
        self.dice = Dice(seed, faults, keep)
        self.loop = VirtualLoop(faults.lasting_seconds + within_seconds, _MOST_TURNS)
        self.wall = WallClock(self.loop, _START_US)
        self.network = Network(self.loop, self.dice)
        plans = {pipeline.name: compile_plan(pipeline.declaration, version_of(pipeline.declaration))}
        self.history = History(MemoryStore(), plans, pipeline)
        admission = EngineAdmission({pipeline.name: pipeline}, SimIds(self.wall, self.dice))
        self.clients = Clients(self, admission, pipeline.name, events)
        self.operators = SimOperators(self)
        self._random = self.dice.stream("world")
        self._owner: Owner | None = None
        self._frozen: set[int] = set()
        self._supervisors: dict[int, SimSupervisor] = {}
        self._epochs = itertools.count(1)
        self._numbers = itertools.count(1)
        self._workers: dict[int, tuple[SimWorker, Owner]] = {}
        self._size = len(events)
        self._started: dict[int, SimWorker] = {}
        self.attempts = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Run the simulation to its end; what went wrong is in the history."""
        lasting = self.faults.lasting_seconds
        self.loop.set_exception_handler(self._surprised)
        self._begin()
        lively = self.clients.start(lasting)
        self.operators.start(lasting, lively)
        self._plan(lasting, lively)
        self.loop.call_at(lasting, self._end_faults)
        try:
            self.loop.run_forever()
            self._close()
        finally:
            self.loop.close()

    # -- owners -------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        number = next(self._epochs)
        full = self.dice.happens("full", self.loop.time(), f"owner {number}")
        limits = Limits(runs=max(1, self._size // 4)) if full else Limits()
        try:
            owner = Owner(number, self, self.history.plans, limits)
        except Crashed:
            self._begin_later()
            return
        self._owner = owner
        self._supervisors[owner.number] = SimSupervisor(self, owner)
        self._supervisors[owner.number].start()
        owner.begin()

    def _begin_later(self) -> None:
        self.loop.call_later(0.1 + self._random.expovariate(1.0), self._begin)

    def owner_ended(self, owner: Owner, error: Exception) -> None:
        """An owner's loop ended: by a crash, because another owner took over, or by a fault of ours."""
        if not isinstance(error, Crashed | StaleEpoch):
            self._surprise("nothing surprises", f"the partition raised {type(error).__name__}: {error}")
            self.loop.stop()
        self._end_owner(owner)

    def _end_owner(self, owner: Owner) -> None:
        owner.die()
        self._frozen.discard(owner.number)
        lag = self._random.random() * self._random.choice((0.0, 2.0))
        for worker, belongs in list(self._workers.values()):
            if belongs is owner:
                self._unwanted(worker, "its partition ended", lag * self._random.random())
        if self._owner is owner:
            self._owner = None
            self.operators.forget()
            self._begin_later()
        self.maybe_over()

    def _crash(self, name: str) -> None:
        owner = self._owner
        if owner is None or not self.dice.strike(name, self.loop.time(), f"owner {owner.number}"):
            return
        self._compare(owner)
        self._end_owner(owner)

    def _take_over(self, name: str) -> None:
        owner = self._owner
        if owner is None or not self.dice.strike(name, self.loop.time(), f"owner {owner.number}"):
            return
        owner.is_frozen = True
        self._frozen.add(owner.number)
        for worker, belongs in list(self._workers.values()):
            if belongs is owner:
                self._unwanted(worker, "its partition lost the log", self._random.random())
        self.loop.call_later(0.1 + self._random.expovariate(0.5), self._thaw, owner)
        self._begin()

    def _thaw(self, owner: Owner) -> None:
        self.clients.send_stale(owner.post)
        owner.thaw()
        self.loop.call_later(1.0, self._end_owner, owner)

    def _compare(self, owner: Owner) -> None:
        """Compare the state that the log alone leads to with the state in memory."""
        log = _NoSnapshots(self.history.store)
        replayed = recover(log, owner.epoch, self.history.plans).decider.state
        self._note(Compared(self.loop.time(), difference(owner.state, replayed)))

    # -- workers ------------------------------------------------------------------------------------------------------

    def start_worker(self, supervisor: SimSupervisor, step: Step, slot: int, start: int) -> None:
        """Start a worker for a supervisor, which takes a while."""
        self.loop.call_later(0.05 + self._random.expovariate(5.0), self._worker_up, supervisor, step, slot, start)

    def stop_worker(self, worker: SimWorker) -> None:
        """Kill a worker for its supervisor."""
        if worker.number in self._workers:
            self._unwanted(worker, "its supervisor ended it", self._random.random() * 0.1)

    def _worker_up(self, supervisor: SimSupervisor, step: Step, slot: int, start: int) -> None:
        if not supervisor.is_wanted(step.name, slot, start):
            return
        owner, number = supervisor.owner, next(self._numbers)
        try:
            worker = SimWorker(number, self.pipeline, step, self)
        except Exception as error:  # noqa: BLE001 - the author's `__init__`
            self._surprise("nothing surprises", f"step {step.name} does not start: {error!r}")
            self.loop.stop()
            return
        self._started[number] = worker
        self._workers[number] = (worker, owner)
        self.network.later(owner.post, WorkerUp(number, self.pipeline.name, step.name, step.concurrency))
        supervisor.came_up(worker, slot)

    def send(self, worker: int, message: bytes) -> None:
        """Send a message to a worker."""
        found = self._workers.get(worker)
        if found is not None:
            about = f"{_tag(message)} to worker {worker} ({found[0].step.name})"
            self.network.carry(("to", worker), about, found[0].handle, message)

    def arrived(self, worker: SimWorker, message: bytes) -> None:
        """Carry a worker's message to the owner of the log."""
        about = f"{_tag(message)} from worker {worker.number} ({worker.step.name})"
        self.network.carry(("from", worker.number), about, lambda m: self._take(worker, m), message)

    def kill_worker(self, owner: Owner, worker: int, reason: str) -> None:
        """The partition wants a worker's process killed."""
        found = self._workers.get(worker)
        if found is not None and found[1] is owner:
            self._unwanted(found[0], reason, self._random.random() * 0.1, expected=True)

    def process_killed(self, worker: int) -> None:
        """A worker's process died by its own fault."""
        found = self._workers.pop(worker, None)
        if found is not None:
            self._die(*found, "its process was killed", expected=False)

    def _unwanted(self, worker: SimWorker, why: str, after_seconds: float, *, expected: bool = True) -> None:
        _, owner = self._workers.pop(worker.number)
        self._note(WorkerSeenGone(self.loop.time(), worker.number, worker.step.name, why))
        self.loop.call_later(after_seconds, lambda: self._die(worker, owner, why, expected=expected))

    def _die(self, worker: SimWorker, owner: Owner, why: str, *, expected: bool) -> None:
        self._note(WorkerSeenGone(self.loop.time(), worker.number, worker.step.name, why))
        worker.die()
        notice = self._random.expovariate(20.0) + 10.0 * (self._random.random() < 0.1)  # noqa: PLR2004 - or 10 s of silence
        self.loop.call_later(notice, owner.post, WorkerDown(worker.number, why, expected))
        supervisor = self._supervisors[owner.number]
        self.loop.call_later(notice, lambda: supervisor.ended(worker, why, expected=expected))

    def _take(self, worker: SimWorker, message: bytes) -> None:
        if self._owner is not None:
            self._owner.take(worker.number, message)

    def code_started(self, attempt: SimAttempt) -> None:
        """A step's own code begins."""
        self.attempts += 1
        worker, step, item = attempt.worker, attempt.step, attempt.item
        end = self.history.store.next_offset
        self._note(CodeStarted(self.loop.time(), worker, step, item[0], item[1], item[2], item[3], end))

    def code_ended(self, attempt: SimAttempt, emitted: int | None) -> None:
        """A step's own code ended."""
        number, step, item = attempt.worker, attempt.step, attempt.item
        worker = self._started[number]
        worker.worked = worker.worked or emitted is not None
        self._note(CodeEnded(self.loop.time(), number, step, item[0], item[1], item[2], item[3], emitted))

    def reader(self) -> MemoryReader:
        """A reader of the log."""
        return MemoryReader(self.history.store)

    def earlier_events(self, run_id: bytes, type_: str) -> list[Packed]:
        """Earlier events of a run."""
        return earlier_events(self.reader(), self.history.plans, run_id, type_)

    # -- senders and operators ------------------------------------------------------------------------------------

    def post(self, entry: Input) -> bool:
        """Tell the owner of the log something; False if there is none."""
        owner = self._owner
        if owner is not None:
            owner.post(entry)
        return owner is not None

    def settle(self, owner: Owner, answers: list[Answer], ended: list[RunEnded]) -> None:  # noqa: ARG002 - as the watcher of a partition
        """Callers to answer."""
        for reply, value in answers:
            if isinstance(reply, int):
                self.clients.answer(reply, value)
            else:
                self.operators.answered(reply)

    def letter_blocked(self, letter_id: bytes) -> None:
        """A compensation gave up: an operator has to decide."""
        self.operators.letter_blocked(letter_id)

    def turned(self, owner: Owner) -> None:
        """An owner's loop turned; the simulation may be over."""
        if self.dice.is_over and owner is self._owner and not owner.state.runs:
            self.maybe_over()

    def maybe_over(self) -> None:
        """Stop if the faults are over and nothing is left to wait for."""
        if not self.dice.is_over or self._frozen or self.clients.waiting:
            return
        owner = self._owner
        if owner is not None and not owner.state.runs and not self.history.store.live:
            self.loop.stop()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _plan(self, lasting_seconds: float, lively_seconds: float) -> None:
        for kind, act in (("crash", self._crash), ("takeover", self._take_over), ("clock_jump", self._jump)):
            for name, at in self.dice.times(kind, lasting_seconds, lively_seconds):
                self.loop.call_at(at, act, name)
        self._snapshot_later()

    def _snapshot_later(self) -> None:
        self.loop.call_later(self.dice.stream("snapshots").expovariate(_SNAPSHOTS_A_SECOND), self._snapshot)

    def _snapshot(self) -> None:
        if self._owner is not None:
            self._owner.save_snapshot()
        if not self.dice.is_over:
            self._snapshot_later()

    def _jump(self, name: str) -> None:
        back, on = _JUMP_SECONDS
        seconds = back * self._random.random() if self._random.random() < 0.5 else on * self._random.random() ** 4  # noqa: PLR2004 - either is as likely
        if self.dice.strike(name, self.loop.time(), f"{seconds:+.1f} s"):
            self.wall.jump(seconds)

    def _end_faults(self) -> None:
        """From now on nothing goes wrong."""
        self.dice.is_over = True
        self.maybe_over()

    def _close(self) -> None:
        if self.loop.ended is not None:
            self._surprise("everything ends", self._unfinished())
        elif self._owner is not None:
            self._compare(self._owner)
        self.seconds = self.loop.time()
        for worker in self._started.values():
            worker.die()
        self.loop.drain()

    def _unfinished(self) -> str:
        why = {
            "idle": "nothing is left to do, but not everything has ended",
            "late": f"not everything has ended {self.loop.time():,.0f} s after the start",
            "busy": "the simulation is in an endless loop",
        }[self.loop.ended or "idle"]
        lines = [f"event {number} was never accepted" for number in sorted(self.clients.waiting)]
        lines += pending(self._owner.state) if self._owner is not None else ["the log has no owner"]
        live = [row.run_id.hex() for row in self.history.store.runs.values() if Status(row.status) in LIVE]
        lines += [f"run {run_id} is not over in the log" for run_id in live]
        return "\n".join([why, *lines[:30]])

    def _note(self, observation: Observation) -> None:
        self.history.observations.append(observation)

    def _surprise(self, law: str, text: str) -> None:
        self._note(Surprise(self.loop.time(), law, text))

    def _surprised(self, loop: Any, context: Mapping[str, Any]) -> None:
        """An exception in a callback is a fault of ours; that of a task which nobody awaits is the author's."""
        error = context.get("exception")
        if "handle" in context and error is not None:
            self._surprise("nothing surprises", f"{context['message']}: {error!r}")
            loop.stop()


def _tag(message: bytes) -> str:
    """What a packed message is about: its second byte, as a pair of tag and body is packed."""
    return Tag(message[1]).name


class _NoSnapshots(MemoryLog):
    """The log without its snapshots."""

    def snapshots(self) -> Any:
        return iter(())
