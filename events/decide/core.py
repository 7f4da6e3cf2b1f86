"""Decide: the one place where inputs become records and commands.

Law: the core decides and never acts. It reads no clock and rolls no dice (times come in, jitter is derived), it may
mutate its own state in place, and nothing it commands may be carried out before its records are committed. If that
commit fails the core is thrown away and rebuilt from the log.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from ..model.failure import Failure, FailureKind
from ..pipelines.plan import Plan
from ..policies.breaker import BreakerSnapshot, BreakerView
from ..state import keys
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import results
from .admission import Admission
from .breakers import Breakers
from .commands import Audited, CancelDeliveries, Credit, Decision, Kill, Remembered
from .decision_builder import DecisionBuilder
from .dispatch import StepQueue, WorkerSlot, size_of
from .inputs import (
    Announce,
    Audit,
    Cancel,
    Completed,
    Completion,
    CompletionKind,
    Emit,
    Force,
    Input,
    Missing,
    Note,
    Redrive,
    Revive,
    StepBroken,
    WorkerDown,
    WorkerUp,
)
from .leasing import Leasing
from .limits import Limits
from .operations import OperatorDecisions

__all__ = ["Decider", "Limits"]

READY = DeliveryStatus.READY
LEASED = DeliveryStatus.LEASED
WAITING = DeliveryStatus.WAITING
DONE, FAIL = CompletionKind.DONE, CompletionKind.FAIL
_KEPT = (CompletionKind.STREAM, CompletionKind.STUCK)
"""What a worker says of a delivery that it goes on with."""
_TOTAL = 5
"""Where the completion of a generator says how many events it emitted."""
_MOST_REASON = 200


class Decider:
    """The state of one partition, and what follows from its inputs.

    facts: what the log remembers of the breakers, by name.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        builder: DecisionBuilder,
        limits: Limits | None = None,
        facts: Mapping[str, bytes] | None = None,
    ) -> None:
        self.plans = dict(plans)
        self.pools = {
            (plan.pipeline, step.name): StepQueue(plan.pipeline, step.name, step.step.style.endswith("stream"))
            for plan in plans.values()
            for step in plan.steps
        }
        self.workers: dict[int, tuple[WorkerSlot, StepQueue]] = {}
        self._builder = builder
        self._limits = limits or Limits()
        self._breakers = Breakers(plans.values(), self.pools, builder, facts or {})
        self._starting = Admission(self.plans, builder, self._limits)
        self._operators = OperatorDecisions(self.plans, builder, self._stop_leases, self._is_busy)
        self._leasing = Leasing(builder, self.pools, self._limits)
        self._owed: dict[tuple[int, int], int] = {}

    @property
    def state(self) -> State:
        """All live runs."""
        return self._builder.state

    @property
    def next_offset(self) -> int:
        """The offset that the next record gets."""
        return self._builder.next_offset

    @property
    def draining(self) -> bool:
        """Whether new events are refused and nothing more is leased."""
        return self._starting.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._starting.draining = value

    def decide(self, inputs: Iterable[Input], now_us: int) -> Decision:
        """What follows from these inputs at this time (microseconds since the epoch)."""
        builder = self._builder
        builder.open(now_us)
        self._starting.open()
        builder.expire()
        self._breakers.expire()
        for entry in inputs:
            self._hear(entry)
        self._dispatch()
        self._pay()
        self._leasing.inquire(self.workers.values(), self._owed)
        return self._close()

    def resume(self, now_us: int) -> Decision:
        """After a replay: everything that was under way when the last owner ended is ready again."""
        builder = self._builder
        builder.open(now_us)
        alive = [d for run in builder.state.runs.values() for d in run.deliveries.values()]
        builder.state.fresh.clear()
        for delivery in sorted(alive, key=lambda delivery: delivery.order):
            self._resume_delivery(delivery)
        for run in list(builder.state.runs.values()):
            builder.settle(run)
        self._dispatch()
        return self._close()

    @property
    def backlog(self) -> int:
        """How many deliveries wait for a worker, but for those that wait for a generator.

        Those may wait for the very generator that is held back, and then it would be held back for ever.
        """
        return sum(pool.waiting for pool in self.pools.values() if not pool.streams)

    def breakers(self, now_us: int) -> list[BreakerView]:
        """The circuit breakers as operators see them."""
        return [snapshot.view(now_us) for snapshot in self._breakers.snapshots()]

    def breaker_snapshots(self) -> tuple[BreakerSnapshot, ...]:
        """The circuit breakers at this moment, for any thread."""
        return self._breakers.snapshots()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _hear(self, entry: Input) -> None:
        if isinstance(entry, Completed):
            self._completed(entry)
        elif isinstance(entry, Emit):
            self._starting.emit(entry)
        elif isinstance(entry, WorkerUp):
            self._worker_up(entry)
        elif isinstance(entry, WorkerDown):
            self._worker_down(entry)
        elif isinstance(entry, Missing):
            self._missing(entry)
        elif isinstance(entry, Announce):
            self._starting.announce(entry)
        elif isinstance(entry, Note):
            self._builder.decision.facts.append(Remembered(*entry))
        elif isinstance(entry, StepBroken):
            self._broken(entry)
        else:
            self._obey(entry)

    def _obey(self, entry: Cancel | Revive | Redrive | Force | Audit) -> None:
        """What an operator asks for."""
        if isinstance(entry, Cancel):
            self._operators.cancel(entry)
        elif isinstance(entry, Revive):
            self._operators.revive(entry)
        elif isinstance(entry, Redrive):
            self._operators.redrive(entry)
        elif isinstance(entry, Force):
            self._breakers.force(entry)
        elif isinstance(entry, Audit):
            self._builder.decision.audit.append(Audited(*entry))
        else:
            assert_never(entry)

    def _completed(self, entry: Completed) -> None:
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot, pool = known
        leases = slot.leases
        slow_us, probing = pool.slow_us, pool.probes
        spent_us = done = good = slow = 0
        for item in entry.items:
            op, token = item[0], item[1]
            delivery = leases.get(token)
            if delivery is None:
                continue
            if op in _KEPT:
                self._goes_on(slot, delivery, item)
                continue
            del leases[token]
            slot.leased_bytes -= size_of(delivery)
            if op == DONE:
                spent_us += item[2]
                done += 1
                good += 1
                slow += item[2] > slow_us
            elif op == FAIL:
                self._well(pool, good, slow)  # in the order in which they came: failures in a row open a breaker
                good = slow = 0
                self._heed(pool, delivery, item)
            if delivery.status is LEASED:
                self._finished(delivery, item)
            if probing:
                self._probed(pool, delivery, op)
        if done:
            slot.learn(spent_us / done)
            pool.exhaustions = 0
            self._well(pool, good, slow)

    def _goes_on(self, slot: WorkerSlot, delivery: Delivery, item: Completion) -> None:
        """What a worker says of a delivery that it keeps."""
        if item[0] == CompletionKind.STUCK:
            self._stuck(slot, item[1])
        else:
            self._streamed(slot, delivery, item)

    def _well(self, pool: StepQueue, calls: int, slow: int) -> None:
        """Calls came back, `slow` of them late; while half-open only the probe counts."""
        if calls and pool.breaker is not None and not pool.probes:
            self._breakers.succeeded(pool.breaker, calls, slow)

    def _finished(self, delivery: Delivery, item: Completion) -> None:
        builder = self._builder
        if item[0] == DONE and (len(item) <= _TOTAL or item[_TOTAL] <= delivery.emitted):
            results.done(builder, delivery, item)
        elif item[0] == FAIL:
            results.failed(builder, delivery, Failure(*item[2:6]), item[6])
        else:
            results.released(builder, delivery)
        builder.settle(delivery.run)

    def _heed(self, pool: StepQueue, delivery: Delivery, item: Completion) -> None:
        """What a failure says of the step, whatever becomes of the delivery."""
        if item[2] == FailureKind.RESOURCE:
            self._leasing.resource_exhausted(pool)
        if item[7] and pool.breaker is not None:
            self._breakers.failed(pool.breaker, delivery, f"{item[3]}: {item[4]}"[:_MOST_REASON])

    def _probed(self, pool: StepQueue, delivery: Delivery, op: int) -> None:
        """A half-open circuit's probe came back: done proves something, a failure that counts was heeded already."""
        breaker = pool.breaker
        if breaker is not None and breaker.probe is delivery:
            breaker.probe = None
            if op == CompletionKind.DONE:
                self._breakers.succeeded(breaker, 1, 0)

    def _missing(self, entry: Missing) -> None:
        """A worker does not have what was sent to it, nor an answer to it: it is given out again."""
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot, pool = known
        for token in entry.tokens:
            delivery = slot.leases.pop(token, None)
            if delivery is not None:
                slot.leased_bytes -= size_of(delivery)
                self._lost(pool, delivery)

    def _lost(self, pool: StepQueue, delivery: Delivery) -> None:
        """A delivery left its worker without a result."""
        if pool.breaker is not None and pool.breaker.probe is delivery:
            pool.breaker.probe = None
        if delivery.status is LEASED:
            results.released(self._builder, delivery)
            self._builder.settle(delivery.run)

    def _streamed(self, slot: WorkerSlot, delivery: Delivery, item: Completion) -> None:
        if delivery.status is LEASED:
            if item[2] > delivery.emitted:
                return  # one before it was lost: what the step says at its end will not add up, and it runs again
            results.emitted(self._builder, delivery, item[2], item[3], many=True)
            self._owed[slot.worker, item[1]] = item[2] + len(item[3])
        else:
            self._builder.decision.cancel.append(CancelDeliveries(slot.worker, [item[1]]))

    def _pay(self) -> None:
        """Let generators go on. Where much waits only probes: it may wait for them, and for the others memory is bounded."""
        free = not self._owed or self.backlog < self._limits.backlog
        paid = list(self._owed) if free else [lease for lease in self._owed if self._is_probe(*lease)]
        self._builder.decision.credit += [Credit(*lease, self._owed.pop(lease)) for lease in paid]

    def _is_probe(self, worker: int, token: int) -> bool:
        known = self.workers.get(worker) if self._breakers.moving else None
        return known is not None and self._breakers.is_probe(known[0].leases.get(token))

    def _stuck(self, slot: WorkerSlot, token: int) -> None:
        slot.stuck.add(token)
        if not slot.closed:
            slot.closed = True
            self._builder.decision.kill.append(Kill(slot.worker, "a step did not return in its time"))

    # -- workers -----------------------------------------------------------------------------------------------------

    def _worker_up(self, entry: WorkerUp) -> None:
        if entry.worker in self.workers:
            return
        pool = self.pools[entry.pipeline, entry.step]
        slot = WorkerSlot(entry.worker, entry.concurrency, entry.concurrency)
        pool.workers.append(slot)
        pool.broken = None
        self.workers[entry.worker] = (slot, pool)

    def _broken(self, entry: StepBroken) -> None:
        """No worker of a step starts. Where one is at work all the same, it is told again should that one go too."""
        pool = self.pools[entry.pipeline, entry.step]
        if not pool.workers:
            pool.broken = entry.message

    def _worker_down(self, entry: WorkerDown) -> None:
        known = self.workers.pop(entry.worker, None)
        if known is None:
            return
        slot, pool = known
        pool.workers.remove(slot)
        victims: list[Delivery] = []
        for token, delivery in slot.leases.items():
            if token in slot.stuck and pool.breaker is not None and pool.breaker.counts(TimeoutError):
                self._breakers.failed(pool.breaker, delivery, "time-out")
            if pool.breaker is not None and pool.breaker.probe is delivery:
                pool.breaker.probe = None
            if delivery.status is not LEASED:
                continue
            if token in slot.stuck:
                results.timed_out(self._builder, delivery)
            elif entry.expected or slot.closed:
                results.released(self._builder, delivery)
            else:
                victims.append(delivery)
                results.crashed(self._builder, delivery, entry.message, self._limits.crashes)
            self._builder.settle(delivery.run)
        if not entry.expected:
            pool.died(victims, self._limits.crashes, self._builder.now_us)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _is_busy(self, run_id: bytes) -> bool:
        return any(
            delivery.run.run_id == run_id for slot, _ in self.workers.values() for delivery in slot.leases.values()
        )

    def _stop_leases(self, run: Run) -> None:
        for worker, (slot, _) in self.workers.items():
            tokens = [
                token
                for token, delivery in slot.leases.items()
                if delivery.run is run and not delivery.step.pivot  # it may still be done
            ]
            if tokens:
                self._builder.decision.cancel.append(CancelDeliveries(worker, tokens))

    def _resume_delivery(self, delivery: Delivery) -> None:
        builder = self._builder
        if delivery.status is LEASED:
            keys.release(delivery, READY)
            delivery.engine_losses += 1
            if delivery.engine_losses >= self._limits.engine_losses:
                text = f"the engine ended {delivery.engine_losses} times while this was running"
                results.give_up(builder, delivery, Failure(FailureKind.UNKNOWN, "EngineDied", text))
                return
        if not keys.may_run(builder.state, delivery):
            return
        if delivery.status is WAITING and delivery.due_us > builder.now_us:
            builder.set_timer(delivery, delivery.due_us)
        elif delivery.status in (READY, WAITING):
            keys.ready(builder.state, delivery)

    # -- out ---------------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give out what is ready, and what ensues from what could not be given out."""
        builder = self._builder
        while True:
            while builder.announced:
                announced, builder.announced = builder.announced, []
                for notice in announced:
                    self._starting.announce(notice)
            self._leasing.enqueue()
            if self.draining:
                return
            self._leasing.lease()
            if not (builder.state.fresh or builder.announced):
                return

    def _close(self) -> Decision:
        decision = self._builder.close()
        for due_us in (self._breakers.due_us, self._leasing.due_us):
            if due_us is not None and (decision.due_us is None or due_us < decision.due_us):
                decision.due_us = due_us
        return decision
