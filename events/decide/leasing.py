"""Leasing: ready deliveries go to workers, attempt by attempt; workers that are silent about one are asked.

Rules: an attempt is recorded in the commit before its delivery is sent. An open breaker lets nothing through, a
half-open one a single probe. Only a first attempt may begin after its deadline: the step gives up instead. A worker
that is asked about a delivery and does not know it never runs it later.
"""

from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..model.failure import Failure, FailureKind
from ..policies.breaker import BreakerState, BreakerStatus
from ..state.new_records import attempt_record
from ..state.state import Delivery, DeliveryStatus
from . import results
from .commands import Credit, Deliver, Inquire
from .decision_builder import DecisionBuilder
from .dispatch import StepQueue, WorkerSlot, item_of, plan_leases, size_of
from .limits import Limits

__all__ = ["Leasing"]

READY = DeliveryStatus.READY
_MOST_DELIVERED_BYTES = 48 * 1024 * 1024
"""More would not fit into a message beside what else is in it (`dispatch.MAX_LEASED_BYTES`)."""


class Leasing:
    """Leases deliveries to workers. inquire_at_us: when workers are asked next."""

    def __init__(self, builder: DecisionBuilder, queues: Mapping[tuple[str, str], StepQueue], limits: Limits) -> None:
        self.inquire_at_us = 0
        self._builder = builder
        self._queues = queues
        self._every_us = int(limits.inquiry_seconds * 1e6)
        self._token = (
            builder.next_offset
        )  # every lease writes a record, so no decider on this log has used these tokens
        self._asking = False
        self._exhausted: list[StepQueue] = []

    @property
    def due_us(self) -> int | None:
        """When workers are to be asked, or an exhausted step may be tried again; None if neither is ahead."""
        due_us = self.inquire_at_us if self._asking else None
        if not self._exhausted:
            return due_us
        self._exhausted = [queue for queue in self._exhausted if queue.exhaustions]
        now_us = self._builder.now_us
        dues = [queue.exhausted_until_us for queue in self._exhausted if queue.exhausted_until_us > now_us]
        return min(dues if due_us is None else [*dues, due_us], default=None)

    def resource_exhausted(self, queue: StepQueue) -> None:
        """A step ran out of a resource."""
        queue.resource_exhausted(self._builder.now_us)
        if queue not in self._exhausted:
            self._exhausted.append(queue)

    def enqueue(self) -> None:
        """Queue what became ready."""
        fresh = self._builder.state.fresh
        for delivery in fresh:
            if delivery.status is READY:
                self._queues[delivery.run.plan.pipeline, delivery.step.name].add(delivery)
        fresh.clear()

    def lease(self) -> None:
        """Lease what can be leased now."""
        for queue in self._queues.values():
            if not (queue.ready or queue.quarantine):
                continue
            breaker = queue.breaker
            if breaker is not None and breaker.status is not BreakerStatus.CLOSED:
                self._probe(queue, breaker)
            elif queue.exhaustions:
                if self._builder.now_us >= queue.exhausted_until_us and not any(slot.leases for slot in queue.workers):
                    self._one(queue, queue.workers)
            elif queue.workers:
                while self._has_left_over(queue):
                    pass
            if not queue.workers and queue.broken is not None:
                self._fail_pending(queue, queue.broken)

    def _has_left_over(self, queue: StepQueue) -> bool:
        """Lease what can be leased; whether a worker got nothing of what was planned for it, and so has room."""
        plan = plan_leases(queue, self._builder.now_us)
        sent = [self._lease(slot, deliveries) for slot, deliveries in plan]
        return not all(sent)

    def inquire(self, workers: Iterable[tuple[WorkerSlot, StepQueue]], held_back: Container[tuple[int, int]]) -> None:
        """Ask workers, once an interval, about leases that are older than the last inquiry.

        held_back: leases of generators that have to wait.
        """
        now_us = self._builder.now_us
        if not self._asking or now_us < self.inquire_at_us:
            return
        self._asking = False
        self.inquire_at_us = now_us + self._every_us
        for slot, queue in workers:
            self._ask(slot, queue, held_back)
            self._asking = self._asking or bool(slot.leases)

    def _ask(self, slot: WorkerSlot, queue: StepQueue, held_back: Container[tuple[int, int]]) -> None:
        """Ask one worker; repeat the credit of its generators, which they may have missed."""
        decision = self._builder.decision
        old = [token for token in slot.leases if token <= slot.asked]
        if old:
            decision.inquire.append(Inquire(slot.worker, old))
        if queue.streams:
            decision.credit += [
                Credit(slot.worker, token, slot.leases[token].emitted)
                for token in old
                if (slot.worker, token) not in held_back
            ]
        slot.asked = self._token

    def _probe(self, queue: StepQueue, breaker: BreakerState) -> None:
        if breaker.status is BreakerStatus.HALF_OPEN and breaker.probe is None:
            breaker.probe = self._one(queue, [slot for slot in queue.workers if len(slot.leases) < slot.window])

    def _one(self, queue: StepQueue, slots: Iterable[WorkerSlot]) -> Delivery | None:
        """Lease one delivery to one of these workers, and return it. A quarantined one runs alone on its worker."""
        open_ = [slot for slot in slots if not slot.closed]
        idle = next((slot for slot in open_ if not slot.leases), None)
        free = next((slot for slot in open_ if not slot.is_on_probation), None)
        for waiting, slot in ((queue.quarantine, idle), (queue.ready, free)):
            while slot is not None and waiting:
                delivery = waiting.popleft()
                if delivery.status is READY and slot.leases and delivery.is_quarantined:
                    queue.quarantine.append(delivery)
                elif delivery.status is READY and self._lease(slot, [delivery]):
                    return delivery
        return None

    def _fail_pending(self, queue: StepQueue, reason: str) -> None:
        """Fail what waits for a step whose workers do not start."""
        waiting = (*queue.quarantine, *queue.ready)
        queue.quarantine.clear()
        queue.ready.clear()
        for delivery in waiting:
            if delivery.status is READY:
                results.give_up(self._builder, delivery, Failure(FailureKind.PERMANENT, "StepBroken", reason))
                self._builder.settle(delivery.run)

    def _lease(self, slot: WorkerSlot, deliveries: list[Delivery]) -> bool:
        """Record attempts and send their deliveries; False if none could be sent."""
        builder = self._builder
        now_us = builder.now_us
        token = self._token
        items: list[list[Any]] = []
        for delivery in deliveries:
            if delivery.status is not READY:
                continue  # it is in the queue twice
            size = size_of(delivery)
            if size > _MOST_DELIVERED_BYTES:
                self._refuse(delivery, size)
                continue
            number = delivery.attempt + 1
            if number > 1 and self._is_late(delivery):
                continue
            token += 1
            ids = [] if number > 1 else results.input_ids(delivery)
            builder.record(delivery.run, attempt_record(delivery.number, delivery.step.name, number, now_us, ids))
            slot.leases[token] = delivery
            slot.leased_bytes += size
            items.append(item_of(delivery, token))
        self._token = token
        if items:
            builder.decision.deliver.append(Deliver(slot.worker, items))
            if not self._asking:
                self._asking = True
                self.inquire_at_us = now_us + self._every_us
        return bool(items)

    def _is_late(self, delivery: Delivery) -> bool:
        """Whether a delivery was held back beyond its deadline: then its step has given up."""
        retry = delivery.step.step.retry
        if not retry.is_too_late((self._builder.now_us - delivery.first_us) / 1e6, 0.0):
            return False
        text = f"attempt {delivery.attempt + 1} was held back{retry.deadline_note}"
        results.give_up(self._builder, delivery, Failure(FailureKind.TIMEOUT, "DeadlineExceeded", text))
        self._builder.settle(delivery.run)
        return True

    def _refuse(self, delivery: Delivery, size: int) -> None:
        text = f"{size:,} bytes of events for one call are over the limit of {_MOST_DELIVERED_BYTES:,}: gather less"
        results.give_up(self._builder, delivery, Failure(FailureKind.PERMANENT, "CodecError", text))
        self._builder.settle(delivery.run)
