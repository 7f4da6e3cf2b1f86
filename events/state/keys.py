"""Keys: deliveries of one step with the same key run one at a time, in the order of the log.

Rules: only the first in the queue of a key may be leased. A delivery that is parked or over leaves the queue.
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
    """Make a delivery ready, or park it if its run halts."""
    run = delivery.run
    if run.phase and delivery is not run.compensating:
        park(state, delivery)
    else:
        delivery.status = READY
        state.fresh.append(delivery)


def park(state: State, delivery: Delivery) -> None:
    """Park a delivery, and free its key."""
    delivery.status = PARKED
    free_key(state, delivery)


def release(delivery: Delivery, status: DeliveryStatus) -> None:
    """Take a delivery back from its worker, with this status."""
    if delivery.status is LEASED:
        delivery.run.leased -= 1
    delivery.status = status


def may_run(state: State, delivery: Delivery) -> bool:
    """Whether a delivery is the first of its key; block it otherwise. Two of one commit may have changed places."""
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
    """Add a delivery to the queue of its key; the first of a key is ready."""
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
    """Remove a delivery from the queue of its key; the next one is ready."""
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
        head.status = PARKED  # its run halts; `park` would call this function again for each of them
        queue.popleft()
    if not queue:
        del state.key_queues[name]


def _queue_name(delivery: Delivery) -> tuple[str, str, str]:
    assert delivery.key is not None  # noqa: S101 - callers asked
    return (delivery.run.plan.pipeline, delivery.step.name, delivery.key)
