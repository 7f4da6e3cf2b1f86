"""A driver for the core: workers that answer as told, and the log that the core wrote."""

from typing import Any

from ensue.events.decide.commands import Decision
from ensue.events.decide.core import Decider
from ensue.events.decide.decision_builder import DecisionBuilder
from ensue.events.decide.inputs import Completed, CompletionKind, Emit, Input, WorkerDown, WorkerUp
from ensue.events.ids import uuid7
from ensue.events.model.codec import encode, unpack
from ensue.events.model.event import Event
from ensue.events.pipelines.pipeline import Pipeline
from ensue.events.pipelines.plan import Plan, compile_plan
from ensue.events.state.records import Entry, Record, unpack_records
from ensue.events.state.replay import fold
from ensue.events.state.rows import DeadLetter
from ensue.events.state.snapshot import dump, load
from ensue.events.state.state import DeliveryStatus, Run, State


class CoreDriver:
    """One pipeline's core, with one worker a step; `held` are the items that workers have and have not answered."""

    def __init__(self, pipeline: Pipeline, concurrency: int = 4) -> None:
        self.pipeline = pipeline
        self.plans: dict[str, Plan] = {pipeline.name: compile_plan(pipeline.declaration, "v1")}
        self.builder = DecisionBuilder(1)
        self.decider = Decider(self.plans, self.builder)
        self.now_us = 1_000_000
        self.log: list[Entry] = []
        self.held: dict[int, list[list[Any]]] = {}
        self.ended: list[tuple[Run, str]] = []
        self.dead: list[DeadLetter] = []
        self.facts: dict[str, bytes] = {}
        self.steps: dict[int, str] = {}
        self._next_worker = 0
        self._ids = 0
        self._concurrency = concurrency
        for step in pipeline.steps:
            self.add_worker(step)

    def add_worker(self, step: str) -> int:
        """A worker of a step comes up."""
        self._next_worker += 1
        self.steps[self._next_worker] = step
        self.held[self._next_worker] = []
        self.tell(WorkerUp(self._next_worker, self.pipeline.name, step, self._concurrency))
        return self._next_worker

    def tell(self, *inputs: Input, seconds: float = 0.0) -> Decision:
        """Give the core inputs, after some time."""
        self.now_us += int(seconds * 1e6)
        return self._note(self.decider.decide(inputs, self.now_us))

    def _note(self, decision: Decision) -> Decision:
        self.log += decision.entries
        for deliver in decision.deliver:
            self.held[deliver.worker] += deliver.items
        self.ended += [(end.run, end.status.wire) for end in decision.ended]
        self.dead += decision.dead
        self.facts |= {fact.name: fact.body for fact in decision.facts if fact.body is not None}
        return decision

    def emit(self, event: Event, key: str | None = None) -> bytes:
        """An event from outside; the id of its run."""
        self._ids += 1
        run_id = uuid7(self._ids, self._ids.to_bytes(10, "big"))
        event_id = uuid7(self._ids, (self._ids + 1_000_000).to_bytes(10, "big"))
        model = type(event)
        data = encode(event)
        self.tell(Emit(self.pipeline.name, run_id, event_id, model.__event_type__, 1, data, key))
        return run_id

    def answer(self, worker: int, item: list[Any], *completion: Any) -> Decision:
        """A worker says what became of an item it holds."""
        if completion[0] != CompletionKind.STREAM:
            self.held[worker].remove(item)
        return self.tell(Completed(worker, [[completion[0], item[0], *completion[1:]]]))

    def done(self, worker: int, item: list[Any], outputs: list[Event], *, many: bool) -> Decision:
        """A worker's step returned."""
        packed = [[type(e).__event_type__, 1, encode(e), None] for e in outputs]
        return self.answer(worker, item, CompletionKind.DONE, 10, packed, many)

    def die(self, worker: int) -> None:
        """A worker's process dies, and another takes its place."""
        step = self.steps[worker]
        self.held[worker] = []
        self.tell(WorkerDown(worker, "died"))
        del self.held[worker]
        self.add_worker(step)

    def number_of(self, run_id: bytes) -> int:
        """The number of a run that is or was there."""
        return next(entry.run for entry in self.log if unpack_records(entry.body)[0][1] == run_id)

    def entries_of(self, run_id: bytes) -> list[list[Record]]:
        """The records of a run, as an engine would read them from the log."""
        number = self.number_of(run_id)
        return [unpack_records(entry.body) for entry in self.log if entry.run == number]

    def replayed(self) -> State:
        """The state as the log alone gives it."""
        state = State()
        runs: dict[int, Run] = {}
        for entry in self.log:
            assert fold(state, self.plans, runs, entry.run, unpack_records(entry.body))
        return state

    def restart(self) -> None:
        """The engine ends at once, and begins again from the log."""
        state = self.replayed()
        self.builder = DecisionBuilder(self.decider.next_offset)
        self.builder.state = state
        self.decider = Decider(self.plans, self.builder, facts=self.facts)
        self.held = {}
        self.steps = {}
        self._note(self.decider.resume(self.now_us))
        for step in self.pipeline.steps:
            self.add_worker(step)


def picture(state: State) -> list[Any]:
    """A state as plain data, without what time alone changes: a due retry is ready, and a run with one is running."""
    body = unpack(dump(state))
    for run in body[2]:
        run[6][2] = 0
        for delivery in run[10]:
            delivery[1] = 0
            delivery[13] = 0
            if delivery[7] == DeliveryStatus.WAITING:
                delivery[7] = int(DeliveryStatus.READY)
    return [sorted(body[2]), sorted(body[3])]


def reloaded(state: State, plans: dict[str, Plan]) -> State:
    """A state that went through a snapshot."""
    return load(unpack(dump(state)), plans)[0]
