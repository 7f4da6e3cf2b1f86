"""Decider: the reducer of a partition. State and inputs in, records and commands out.

Rules: it decides and never acts. It reads no clock and draws no random number: times come in, jitter is derived. It
mutates its own state in place. Nothing that it commands may be carried out before its records are committed. If that
commit fails, the decider is dropped and rebuilt from the log.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from ..model.failure import FailureKind
from ..pipelines.plan import Plan
from ..policies.breaker import BreakerSnapshot, BreakerView
from ..state.rows import Fact
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import results
from .admission import Admission
from .breakers import Breakers
from .commands import CancelDeliveries, Credit, Decision, Kill
from .decision_builder import DecisionBuilder
from .dispatch import StepQueue, WorkerSlot, size_of
from .input_guard import fail_delivery, refuse_input
from .inputs import (
    Announce,
    Audit,
    Cancel,
    CancelUnloaded,
    Completed,
    Completion,
    CompletionKind,
    Emit,
    Force,
    Input,
    Missing,
    Redrive,
    Revive,
    StepBroken,
    WorkerDown,
    WorkerUp,
)
from .leasing import Leasing
from .limits import Limits
from .operations import OperatorDecisions
from .resuming import resume_delivery

__all__ = ["Decider", "Limits"]

LEASED = DeliveryStatus.LEASED
DONE, FAIL = CompletionKind.DONE, CompletionKind.FAIL
_KEPT = (CompletionKind.STREAM, CompletionKind.STUCK)
"""Completions after which the worker keeps the delivery."""
_RETURNED = (DONE, CompletionKind.RELEASE)
"""Completions that hand a delivery back; DONE does if some of its events were lost on the way."""
_TOTAL = 5
"""The place in a generator's completion of how many events it emitted."""
_MOST_REASON = 200


class Decider:
    """Reducer: the state of one partition and a batch of inputs become records and commands.

    facts: the states of the breakers in the log, by name.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        builder: DecisionBuilder,
        limits: Limits | None = None,
        facts: Mapping[str, bytes] | None = None,
    ) -> None:
        self.plans = dict(plans)
        self.queues = {
            (plan.pipeline, step.name): StepQueue(plan.pipeline, step.name, step.step.style.endswith("stream"))
            for plan in plans.values()
            for step in plan.steps
        }
        self.workers: dict[int, tuple[WorkerSlot, StepQueue]] = {}
        self._builder = builder
        self._limits = limits or Limits()
        self._breakers = Breakers(plans.values(), self.queues, builder, facts or {})
        self._admission = Admission(self.plans, builder, self._limits)
        self._operators = OperatorDecisions(self.plans, builder, self._stop_leases, self._is_busy)
        self._leasing = Leasing(builder, self.queues, self._limits)
        self._uncredited: dict[tuple[int, int], int] = {}

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
        return self._admission.draining

    @draining.setter
    def draining(self, value: bool) -> None:
        self._admission.draining = value

    def decide(self, inputs: Iterable[Input], now_us: int) -> Decision:
        """Decide on these inputs at this time (microseconds since the epoch)."""
        builder = self._builder
        builder.open(now_us)
        self._admission.open()
        builder.expire()
        self._breakers.expire()
        for entry in inputs:
            try:
                self._take(entry)
            except Exception as error:  # noqa: BLE001 - one input that raises is refused alone
                refuse_input(builder, entry, error)
        self._dispatch()
        self._grant_credit()
        self._leasing.inquire(self.workers.values(), self._uncredited)
        return self._close()

    def resume(self, now_us: int) -> Decision:
        """After a replay: make ready again what the last owner of the log had leased."""
        builder = self._builder
        builder.open(now_us)
        alive = [d for run in builder.state.runs.values() for d in run.deliveries.values()]
        builder.state.fresh.clear()
        for delivery in sorted(alive, key=lambda delivery: delivery.order):
            resume_delivery(builder, delivery, self._limits.engine_losses)
        for run in list(builder.state.runs.values()):
            builder.settle(run)
        self._dispatch()
        return self._close()

    @property
    def backlog(self) -> int:
        """How many deliveries wait for a worker, without generators: one that is held back must not wait for itself."""
        return sum(queue.waiting for queue in self.queues.values() if not queue.streams)

    def breakers(self, now_us: int) -> list[BreakerView]:
        """The circuit breakers as operators see them."""
        return [snapshot.view(now_us) for snapshot in self._breakers.snapshots()]

    def breaker_snapshots(self) -> tuple[BreakerSnapshot, ...]:
        """The circuit breakers at this moment, for any thread."""
        return self._breakers.snapshots()

    # -- inputs ------------------------------------------------------------------------------------------------------

    def _take(self, entry: Input) -> None:
        if isinstance(entry, Completed):
            self._completed(entry)
        elif isinstance(entry, Emit):
            self._admission.emit(entry)
        elif isinstance(entry, WorkerUp):
            self._worker_up(entry)
        elif isinstance(entry, WorkerDown):
            self._worker_down(entry)
        elif isinstance(entry, Missing):
            self._missing(entry)
        elif isinstance(entry, Announce):
            self._admission.announce(entry)
        elif isinstance(entry, Fact):
            self._builder.decision.facts.append(entry._replace(time_us=self._builder.now_us))
        elif isinstance(entry, StepBroken):
            self._broken(entry)
        else:
            self._take_operation(entry)

    def _take_operation(self, entry: Cancel | CancelUnloaded | Revive | Redrive | Force | Audit) -> None:
        """Decide on an operator's request."""
        if isinstance(entry, Cancel):
            self._operators.cancel(entry)
        elif isinstance(entry, CancelUnloaded):
            self._operators.cancel_unloaded(entry)
        elif isinstance(entry, Revive):
            self._operators.revive(entry)
        elif isinstance(entry, Redrive):
            self._operators.redrive(entry)
        elif isinstance(entry, Force):
            self._breakers.force(entry)
        elif isinstance(entry, Audit):
            self._builder.audit(*entry)
        else:
            assert_never(entry)

    def _completed(self, entry: Completed) -> None:
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot, queue = known
        leases = slot.leases
        slow_us, probing = queue.slow_us, queue.probes
        spent_us = done = good = slow = 0
        for item in entry.items:
            delivery = token = None
            try:
                op, token = item[0], item[1]
                delivery = leases.get(token)
                if delivery is None:
                    continue
                if op in _KEPT:
                    self._kept(slot, delivery, item)
                    continue
                del leases[token]
                slot.leased_bytes -= size_of(delivery)
                if op == DONE:
                    spent_us += item[2]
                    done += 1
                    good += 1
                    slow += item[2] > slow_us
                elif op == FAIL:
                    self._calls_succeeded(queue, good, slow)  # in their order: failures in a row open a breaker
                    good = slow = 0
                    self._call_failed(queue, delivery, item)
                if delivery.status is LEASED:
                    self._finished(delivery, item)
                if probing:
                    self._probed(queue, delivery, op)
            except Exception as error:  # noqa: BLE001 - what a worker says may be anything; the others go on
                fail_delivery(self._builder, slot, token, delivery, error)
        if done:
            slot.learn(spent_us / done)
            queue.exhaustions = 0
            self._calls_succeeded(queue, good, slow)

    def _kept(self, slot: WorkerSlot, delivery: Delivery, item: Completion) -> None:
        """A completion after which the worker keeps the delivery."""
        if item[0] == CompletionKind.STUCK:
            self._stuck(slot, item[1])
        else:
            self._streamed(slot, delivery, item)

    def _calls_succeeded(self, queue: StepQueue, calls: int, slow: int) -> None:
        """Tell the breaker of calls that succeeded; while it is half-open only the probe counts."""
        if calls and queue.breaker is not None and not queue.probes:
            self._breakers.succeeded(queue.breaker, calls, slow)

    def _finished(self, delivery: Delivery, item: Completion) -> None:
        builder = self._builder
        if item[0] == DONE and (len(item) <= _TOTAL or item[_TOTAL] <= delivery.emitted):
            results.done(builder, delivery, item)
        elif item[0] == FAIL:
            results.failed(builder, delivery, results.failure_of(item), item[6])
        elif item[0] in _RETURNED:
            results.released(builder, delivery)
        else:
            raise ValueError(f"a completion of kind {ascii(item[0])[:40]}")
        builder.settle(delivery.run)

    def _call_failed(self, queue: StepQueue, delivery: Delivery, item: Completion) -> None:
        """Tell the breaker and the resource limit of a failure, whatever happens to the delivery."""
        if item[2] == FailureKind.RESOURCE:
            self._leasing.resource_exhausted(queue)
        if item[7] and queue.breaker is not None:
            self._breakers.failed(queue.breaker, delivery, f"{item[3]}: {item[4]}"[:_MOST_REASON])

    def _probed(self, queue: StepQueue, delivery: Delivery, op: int) -> None:
        """The probe of a half-open breaker came back. If it failed, the breaker has been told already."""
        breaker = queue.breaker
        if breaker is not None and breaker.probe is delivery:
            breaker.probe = None
            if op == CompletionKind.DONE:
                self._breakers.succeeded(breaker, 1, 0)

    def _missing(self, entry: Missing) -> None:
        """Take back deliveries that a worker has neither received nor completed: a message was lost."""
        known = self.workers.get(entry.worker)
        if known is None:
            return
        slot, queue = known
        for token in entry.tokens:
            delivery = slot.leases.pop(token, None)
            if delivery is not None:
                slot.leased_bytes -= size_of(delivery)
                self._lost(queue, delivery)

    def _lost(self, queue: StepQueue, delivery: Delivery) -> None:
        """A delivery left its worker without a completion."""
        if queue.breaker is not None and queue.breaker.probe is delivery:
            queue.breaker.probe = None
        if delivery.status is LEASED:
            results.released(self._builder, delivery)
            self._builder.settle(delivery.run)

    def _streamed(self, slot: WorkerSlot, delivery: Delivery, item: Completion) -> None:
        if delivery.status is LEASED:
            if item[2] > delivery.emitted:
                return  # one before it was lost: the count at the end will not match, and the delivery runs again
            results.emitted(self._builder, delivery, item[2], item[3], many=True)
            self._uncredited[slot.worker, item[1]] = item[2] + len(item[3])
        else:
            self._builder.decision.cancel.append(CancelDeliveries(slot.worker, [item[1]]))

    def _grant_credit(self) -> None:
        """Let generators go on; if the backlog is long, only those that are the probe of a breaker.

        The backlog may wait for a probe.
        """
        free = not self._uncredited or self.backlog < self._limits.backlog
        granted = list(self._uncredited) if free else [lease for lease in self._uncredited if self._is_probe(*lease)]
        self._builder.decision.credit += [Credit(*lease, self._uncredited.pop(lease)) for lease in granted]

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
        queue = self.queues[entry.pipeline, entry.step]
        slot = WorkerSlot(entry.worker, entry.concurrency, entry.concurrency)
        queue.workers.append(slot)
        queue.broken = None
        self.workers[entry.worker] = (slot, queue)

    def _broken(self, entry: StepBroken) -> None:
        """No new worker of a step starts. If an old one still works, the step is not broken yet."""
        queue = self.queues[entry.pipeline, entry.step]
        if not queue.workers:
            queue.broken = entry.message

    def _worker_down(self, entry: WorkerDown) -> None:
        known = self.workers.pop(entry.worker, None)
        if known is None:
            return
        slot, queue = known
        queue.workers.remove(slot)
        in_process: list[Delivery] = []
        for token, delivery in slot.leases.items():
            timed_out = token in slot.stuck and delivery.status is LEASED  # not if its run was cancelled
            if timed_out and queue.breaker is not None and queue.breaker.counts(TimeoutError):
                self._breakers.failed(queue.breaker, delivery, "time-out")
            if queue.breaker is not None and queue.breaker.probe is delivery:
                queue.breaker.probe = None
            if delivery.status is not LEASED:
                continue
            if token in slot.stuck:
                results.timed_out(self._builder, delivery)
            elif entry.expected or slot.closed:
                results.released(self._builder, delivery)
            else:
                in_process.append(delivery)
                results.crashed(self._builder, delivery, entry.message, self._limits.crashes)
            self._builder.settle(delivery.run)
        if not entry.expected:
            queue.worker_died(in_process, self._limits.crashes, self._builder.now_us)

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
                if delivery.run is run and not delivery.step.pivot  # it may still complete
            ]
            if tokens:
                self._builder.decision.cancel.append(CancelDeliveries(worker, tokens))

    # -- outputs -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Lease what is ready, and what follows from deliveries that could not be leased."""
        builder = self._builder
        while True:
            while builder.announced:
                announced, builder.announced = builder.announced, []
                for notice in announced:
                    self._admission.announce(notice)
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
