"""A decider without an engine: fake workers answer at once, so only `decide` takes time.

Rules: it decides what an engine would decide; the records can be committed to a real log, and read back.
"""

import time
from collections.abc import Callable

from ensue.actors.client.admission import EngineAdmission
from ensue.cluster.clock import IdSource, SystemClock
from ensue.cluster.log.protocol import Batch, Entry, RunChange, RunStart
from ensue.events.decide.commands import Decision
from ensue.events.decide.core import Decider
from ensue.events.decide.decision_builder import DecisionBuilder
from ensue.events.decide.inputs import Completed, CompletionKind, Emit, Input, WorkerUp
from ensue.events.model.codec import encode
from ensue.events.pipelines.plan import Plan, compile_plan
from ensue.events.pipelines.version import version_of

from .pipelines import LOADS, PAYLOAD, Booked, Done, Priced, chain

__all__ = ["CoreDrive", "batch_of", "chain_plan"]

_WINDOW = 512
_DURATION_US = 5
_OUTPUTS = {
    "price": Priced(order_id=1, amount=9.5, payload=PAYLOAD),
    "book": Booked(order_id=1, amount=9.5, payload=PAYLOAD),
    "confirm": Done(order_id=1, amount=9.5, payload=PAYLOAD),
}


def chain_plan() -> Plan:
    """W1, as the loop sees it."""
    return compile_plan(chain.declaration, version_of(chain.declaration))


class CoreDrive:
    """W1 on a decider alone.

    seconds: the time spent in `decide`.
    decided: called with each decision, in the place of a commit.
    """

    def __init__(self, decided: Callable[[Decision], None] | None = None, next_offset: int = 1) -> None:
        plan = chain_plan()
        self.decider = Decider({plan.pipeline: plan}, DecisionBuilder(next_offset))
        self.seconds = 0.0
        self._decided = decided
        self._clock = SystemClock()
        self._intake = EngineAdmission({plan.pipeline: chain}, IdSource(self._clock))
        self._number = 0
        self._steps = {number: step.name for number, step in enumerate(plan.steps, 1)}
        self.turn([WorkerUp(number, plan.pipeline, name, _WINDOW) for number, name in self._steps.items()])

    def emits(self, count: int) -> list[Emit]:
        """Emit new triggers."""
        first, self._number = self._number, self._number + count
        return [self._intake.emit(LOADS["W1"].event(number)) for number in range(first, self._number)]

    def turn(self, inputs: list[Input]) -> Decision:
        """Decide once."""
        begin = time.perf_counter()
        decision = self.decider.decide(inputs, self._clock.now_us())
        self.seconds += time.perf_counter() - begin
        if self._decided is not None:
            self._decided(decision)
        return decision

    def answers(self, decision: Decision) -> list[Input]:
        """The answers of the fake workers: all deliveries have succeeded."""
        return [Completed(d.worker, [self._done(d.worker, item[0]) for item in d.items]) for d in decision.deliver]

    def run(self, count: int, in_flight: int) -> None:
        """Run this many runs from trigger to result."""
        inputs: list[Input] = []
        left = count
        while True:
            more = min(left, in_flight - len(self.decider.state.runs))
            left -= more
            decision = self.turn([*inputs, *self.emits(more)])
            inputs = self.answers(decision)
            if not inputs and not left:
                return

    def _done(self, worker: int, token: int) -> list[object]:
        event = _OUTPUTS[self._steps[worker]]
        output = [event.__event_type__, event.__event_version__, encode(event), None]
        return [CompletionKind.DONE, token, _DURATION_US, [output], False]


def batch_of(decision: Decision, epoch: int) -> Batch:
    """A decision as a commit."""
    started = [
        RunStart(run.number, run.run_id, run.plan.pipeline, run.plan.version, run.trigger_type, run.started_us)
        for run in decision.started
    ]
    changed = [RunChange(run, int(status), at) for run, status, at in decision.changed]
    return Batch(epoch, [Entry(*entry) for entry in decision.entries], started, changed)
