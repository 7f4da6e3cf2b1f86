"""Keys: deliveries of one step with the same key run one at a time, in the order in which they came.

Law: the first in a key's queue is the only one that may be with a worker. What stands still or is over leaves the queue.
Deliveries that became ready are left in `State.fresh`.
"""

from collections import deque

from .state import Delivery, DeliveryStatus, State

__all__ = ["enqueue", "free_key", "may_run", "park", "ready", "release"]

READY = DeliveryStatus.READY
BLOCKED = DeliveryStatus.BLOCKED
LEASED = DeliveryStatus.LEASED
PARKED = DeliveryStatus.PARKED
FAILED = DeliveryStatus.FAILED


def ready(state: State, delivery: Delivery) -> None:
    """A delivery may run (again), unless its run stands still."""
    run = delivery.run
    if run.phase and delivery is not run.compensating:
        park(state, delivery)
    else:
        delivery.status = READY
        state.fresh.append(delivery)


def park(state: State, delivery: Delivery) -> None:
    """It stands still, and holds up no other of its key."""
    delivery.status = PARKED
    free_key(state, delivery)


def release(delivery: Delivery, status: DeliveryStatus) -> None:
    """An attempt is over without a result."""
    if delivery.status is LEASED:
        delivery.run.leased -= 1
    delivery.status = status


def may_run(state: State, delivery: Delivery) -> bool:
    """Whether a delivery is the first of its key; else it is blocked. Two of one commit may have changed places."""
    if delivery.key is None or delivery.status in (FAILED, PARKED):
        return True
    queue = state.key_queues.get(_queue_name(delivery))
    if queue and queue[0] is not delivery:
        delivery.status = BLOCKED
        return False
    if delivery.status is BLOCKED:
        delivery.status = READY
    return True


def enqueue(state: State, delivery: Delivery) -> None:
    """It may run as soon as it is the first of its key."""
    if delivery.key is None:
        ready(state, delivery)
        return
    queue = state.key_queues.setdefault(_queue_name(delivery), deque())
    queue.append(delivery)
    if queue[0] is delivery:
        ready(state, delivery)
    else:
        delivery.status = BLOCKED


def free_key(state: State, delivery: Delivery) -> None:
    """It is over, or stands still: the next of its key may run."""
    if delivery.key is None:
        return
    name = _queue_name(delivery)
    queue = state.key_queues.get(name)
    if not queue:
        return
    if queue[0] is not delivery:
        if delivery in queue:
            queue.remove(delivery)
        return
    queue.popleft()
    while queue and queue[0].status is BLOCKED:
        head = queue[0]
        if not head.run.phase or head is head.run.compensating:
            ready(state, head)
            return
        head.status = PARKED  # its run stands still: not by `park`, which would come back here for each of them
        queue.popleft()
    if not queue:
        del state.key_queues[name]


def _queue_name(delivery: Delivery) -> tuple[str, str, str]:
    assert delivery.key is not None  # noqa: S101 - callers asked
    return (delivery.run.plan.pipeline, delivery.step.name, delivery.key)
