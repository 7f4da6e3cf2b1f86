"""Breakers: the breakers of a partition, told of what became of calls, and asked before new ones are made.

Rules: every transition is remembered in the commit that follows from it, so a crash closes nothing, and pipelines can
hear of it. Steps that name the same dependency share a circuit. A probe is one delivery, under way until it leaves its
worker, whatever it emits before; until then nothing else of that circuit is started.
"""

from collections.abc import Iterable, Mapping

from ..errors import BreakerUnknown
from ..model.notices import BreakerClosed, BreakerHalfOpen, BreakerOpened
from ..pipelines.plan import Plan, StepPlan
from ..policies.breaker import BreakerSignal, BreakerState, BreakerStatus, BreakerView
from ..state.state import Delivery
from .commands import Answer, Audited, Recall, Remembered
from .decision_builder import DecisionBuilder
from .dispatch import StepQueue
from .inputs import Force

__all__ = ["FACT", "Breakers", "circuit_name"]

FACT = "breaker"
Pools = Mapping[tuple[str, str], StepQueue]


def circuit_name(pipeline: str, step: StepPlan) -> str:
    """The name of the circuit that guards a step: the dependency's, or `pipeline/step`."""
    breaker = step.step.breaker
    return breaker.name if breaker is not None and breaker.name is not None else f"{pipeline}/{step.name}"


class Breakers:
    """All circuits by name. `facts`: what the log remembers of them."""

    def __init__(self, plans: Iterable[Plan], pools: Pools, book: DecisionBuilder, facts: Mapping[str, bytes]) -> None:
        self._book = book
        self._by_name: dict[str, BreakerState] = {}
        self._pools: dict[str, list[StepQueue]] = {}
        self._moving: set[str] = set()
        for plan in plans:
            for step in plan.steps:
                self._guard(pools[plan.pipeline, step.name], circuit_name(plan.pipeline, step), step)
        for name, body in facts.items():
            circuit = self._by_name.get(name)
            if circuit is not None:
                circuit.restore(body)
                self._watch(circuit)

    def _guard(self, pool: StepQueue, name: str, step: StepPlan) -> None:
        circuit = self._by_name.get(name)
        if circuit is None:
            circuit = self._by_name[name] = BreakerState(name, step.step.breaker)
        pool.circuit = circuit
        pool.slow_us = circuit.policy.slow_seconds * 1e6
        self._pools.setdefault(name, []).append(pool)

    @property
    def due_us(self) -> int | None:
        """When the next open circuit wants to let a probe through."""
        if not self._moving:
            return None
        return min((at for name in self._moving if (at := self._by_name[name].until_us) is not None), default=None)

    @property
    def moving(self) -> bool:
        """Whether any is open or half-open."""
        return bool(self._moving)

    def is_probe(self, delivery: Delivery | None) -> bool:
        """Whether this goes through a half-open circuit."""
        return delivery is not None and any(self._by_name[name].probe is delivery for name in self._moving)

    def expire(self) -> None:
        """Let those whose pause is over try."""
        if not self._moving:
            return
        for name in sorted(self._moving):
            circuit = self._by_name[name]
            signal = circuit.due(self._book.now_us)
            if signal is not None:
                self._move(circuit, signal)

    def succeeded(self, circuit: BreakerState, calls: int, slow: int) -> None:
        """Calls came back (while half-open: the probe)."""
        signal = circuit.succeeded(calls, slow, self._book.now_us)
        if signal is not None:
            self._move(circuit, signal)

    def failed(self, circuit: BreakerState, delivery: Delivery, reason: str) -> None:
        """A call failed in a way that counts; while half-open only that of the probe does."""
        if circuit.status is BreakerStatus.HALF_OPEN and circuit.probe is not delivery:
            return
        signal = circuit.failed(reason, self._book.now_us)
        if signal is not None:
            self._move(circuit, signal)

    def force(self, entry: Force) -> None:
        """An operator opens or closes one."""
        circuit = self._by_name.get(entry.breaker)
        error = None
        if circuit is None:
            known = ", ".join(sorted(self._by_name)) or "none"
            error = BreakerUnknown(f"no breaker is named {entry.breaker!r} (known: {known})")
        else:
            signal = BreakerSignal.FORCED_OPEN if entry.opens else BreakerSignal.FORCED_CLOSED
            circuit.reason = f"opened by {entry.who}" if entry.opens else ""
            self._move(circuit, signal, by=entry.who, seconds=entry.seconds)
            action = "breaker open" if entry.opens else "breaker close"
            detail = f"for {entry.seconds:g} s" if entry.opens and entry.seconds is not None else ""
            self._book.decision.audit.append(Audited(entry.who, action, circuit.name, detail))
        if entry.reply is not None:
            self._book.decision.answers.append(Answer(entry.reply, error))

    def views(self, now_us: int) -> list[BreakerView]:
        """All circuits as operators see them, by name."""
        return [
            circuit.view(
                tuple(f"{pool.pipeline}/{pool.step}" for pool in self._pools[name]),
                sum(pool.waiting for pool in self._pools[name]),
                now_us,
            )
            for name, circuit in sorted(self._by_name.items())
        ]

    def _move(
        self, circuit: BreakerState, signal: BreakerSignal, *, by: str = "engine", seconds: float | None = None
    ) -> None:
        now_us = self._book.now_us
        if not circuit.move(signal, now_us, seconds=seconds):
            return
        self._watch(circuit)
        self._book.decision.facts.append(Remembered(FACT, circuit.name, circuit.pack()))
        pool = self._pools[circuit.name][0]
        about = [(guarded.pipeline, guarded.step) for guarded in self._pools[circuit.name]]
        where = {"pipeline": pool.pipeline, "step": pool.step, "breaker": circuit.name}
        if circuit.status is BreakerStatus.OPEN:
            self._recall(circuit)
            pause = (circuit.until_us - now_us) / 1e6 if circuit.until_us is not None else 0.0
            self._book.announce(BreakerOpened(**where, reason=circuit.reason, open_seconds=pause, by=by), about)
        elif circuit.status is BreakerStatus.HALF_OPEN:
            self._book.announce(BreakerHalfOpen(**where), about)
        else:
            self._book.announce(BreakerClosed(**where, by=by), about)

    def _recall(self, circuit: BreakerState) -> None:
        """What workers have and have not begun waits with the rest; an attempt that never began is none."""
        for pool in self._pools[circuit.name]:
            for slot in pool.workers:
                if slot.leases:
                    self._book.decision.recall.append(Recall(slot.worker, list(slot.leases)))

    def _watch(self, circuit: BreakerState) -> None:
        if circuit.status is BreakerStatus.CLOSED:
            self._moving.discard(circuit.name)
        else:
            self._moving.add(circuit.name)
