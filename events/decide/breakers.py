"""Breakers: the circuit breakers of a partition. They count the results of calls and say what may be leased.

Rules: every transition is a fact in the commit that follows from it, so it survives a crash, and a notice that
pipelines can subscribe to. Steps that name the same dependency share a breaker. A probe is one delivery: it is open
until it leaves its worker, and until then nothing else of its breaker is leased.
"""

from collections.abc import Iterable, Mapping

from ..errors import BreakerUnknown
from ..model.notices import BreakerClosed, BreakerHalfOpen, BreakerOpened
from ..pipelines.plan import Plan, StepPlan
from ..policies.breaker import BreakerSignal, BreakerSnapshot, BreakerState, BreakerStatus
from ..state.rows import Fact
from ..state.state import Delivery
from .commands import Answer, Recall
from .decision_builder import DecisionBuilder
from .dispatch import StepQueue
from .inputs import Force

__all__ = ["BREAKER_FACT", "Breakers", "breaker_name"]

BREAKER_FACT = "breaker"
Queues = Mapping[tuple[str, str], StepQueue]


def breaker_name(pipeline: str, step: StepPlan) -> str:
    """The name of a step's breaker: that of the dependency, or `pipeline/step`."""
    breaker = step.step.breaker
    return breaker.name if breaker is not None and breaker.name is not None else f"{pipeline}/{step.name}"


class Breakers:
    """The breakers of all steps. facts: their states in the log, by name."""

    def __init__(
        self, plans: Iterable[Plan], queues: Queues, builder: DecisionBuilder, facts: Mapping[str, bytes]
    ) -> None:
        self._builder = builder
        self._by_name: dict[str, BreakerState] = {}
        self._queues: dict[str, list[StepQueue]] = {}
        self._moving: set[str] = set()
        for plan in plans:
            for step in plan.steps:
                self._guard(queues[plan.pipeline, step.name], breaker_name(plan.pipeline, step), step)
        for name, body in facts.items():
            breaker = self._by_name.get(name)
            if breaker is not None:
                breaker.restore(body)
                self._watch(breaker)

    def _guard(self, queue: StepQueue, name: str, step: StepPlan) -> None:
        breaker = self._by_name.get(name)
        if breaker is None:
            breaker = self._by_name[name] = BreakerState(name, step.step.breaker)
        queue.breaker = breaker
        queue.slow_us = breaker.policy.slow_seconds * 1e6
        self._queues.setdefault(name, []).append(queue)

    @property
    def due_us(self) -> int | None:
        """When the next open breaker becomes half-open."""
        if not self._moving:
            return None
        return min((at for name in self._moving if (at := self._by_name[name].until_us) is not None), default=None)

    @property
    def moving(self) -> bool:
        """Whether any is open or half-open."""
        return bool(self._moving)

    def is_probe(self, delivery: Delivery | None) -> bool:
        """Whether this delivery is the probe of a breaker."""
        return delivery is not None and any(self._by_name[name].probe is delivery for name in self._moving)

    def expire(self) -> None:
        """Make those half-open whose pause is over."""
        if not self._moving:
            return
        for name in sorted(self._moving):
            breaker = self._by_name[name]
            signal = breaker.due(self._builder.now_us)
            if signal is not None:
                self._move(breaker, signal)

    def succeeded(self, breaker: BreakerState, calls: int, slow: int) -> None:
        """Count calls that succeeded (while half-open: the probe)."""
        signal = breaker.succeeded(calls, slow, self._builder.now_us)
        if signal is not None:
            self._move(breaker, signal)

    def failed(self, breaker: BreakerState, delivery: Delivery, reason: str) -> None:
        """Count a call that failed; while half-open only the probe counts."""
        if breaker.status is BreakerStatus.HALF_OPEN and breaker.probe is not delivery:
            return
        signal = breaker.failed(reason, self._builder.now_us)
        if signal is not None:
            self._move(breaker, signal)

    def force(self, entry: Force) -> None:
        """Open or close a breaker, as an operator asks."""
        breaker = self._by_name.get(entry.breaker)
        error = None
        if breaker is None:
            known = ", ".join(sorted(self._by_name)) or "none"
            error = BreakerUnknown(f"no breaker is named {entry.breaker!r} (known: {known})")
        else:
            signal = BreakerSignal.FORCED_OPEN if entry.opens else BreakerSignal.FORCED_CLOSED
            breaker.reason = f"opened by {entry.who}" if entry.opens else ""
            self._move(breaker, signal, by=entry.who, seconds=entry.seconds)
            action = "breaker open" if entry.opens else "breaker close"
            detail = f"for {entry.seconds:g} s" if entry.opens and entry.seconds is not None else ""
            self._builder.audit(entry.who, action, breaker.name, detail)
        if entry.reply is not None:
            self._builder.decision.answers.append(Answer(entry.reply, error))

    def snapshots(self) -> tuple[BreakerSnapshot, ...]:
        """All breakers at this moment, by name; for any thread."""
        return tuple(
            breaker.snapshot(
                tuple(f"{queue.pipeline}/{queue.step}" for queue in self._queues[name]),
                sum(queue.waiting for queue in self._queues[name]),
            )
            for name, breaker in sorted(self._by_name.items())
        )

    def _move(
        self, breaker: BreakerState, signal: BreakerSignal, *, by: str = "engine", seconds: float | None = None
    ) -> None:
        now_us = self._builder.now_us
        if not breaker.move(signal, now_us, seconds=seconds):
            return
        self._watch(breaker)
        self._builder.decision.facts.append(Fact(BREAKER_FACT, breaker.name, breaker.pack(), now_us))
        queue = self._queues[breaker.name][0]
        about = [(guarded.pipeline, guarded.step) for guarded in self._queues[breaker.name]]
        where = {"pipeline": queue.pipeline, "step": queue.step, "breaker": breaker.name}
        if breaker.status is BreakerStatus.OPEN:
            self._recall(breaker)
            pause = (breaker.until_us - now_us) / 1e6 if breaker.until_us is not None else 0.0
            self._builder.announce(BreakerOpened(**where, reason=breaker.reason, open_seconds=pause, by=by), about)
        elif breaker.status is BreakerStatus.HALF_OPEN:
            self._builder.announce(BreakerHalfOpen(**where), about)
        else:
            self._builder.announce(BreakerClosed(**where, by=by), about)

    def _recall(self, breaker: BreakerState) -> None:
        """Ask workers to hand back what they have not begun; such an attempt does not count."""
        for queue in self._queues[breaker.name]:
            for slot in queue.workers:
                if slot.leases:
                    self._builder.decision.recall.append(Recall(slot.worker, list(slot.leases)))

    def _watch(self, breaker: BreakerState) -> None:
        if breaker.status is BreakerStatus.CLOSED:
            self._moving.discard(breaker.name)
        else:
            self._moving.add(breaker.name)
