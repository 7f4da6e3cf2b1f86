"""Orders: a branch, a join of two parallel steps, retries, an error handler, and customers served in order.

    ensue run examples/orders.py --event OrderPlaced --data '{"order_id": "o-1", "customer": "Ada", "amount": 9.5}'
    python examples/orders.py

The order of the steps is not written anywhere. It ensues from the events that each step receives and emits:

- `charge` and `pack` both receive OrderPlaced, so they run in parallel;
- `charge` returns one of two events: the branch;
- `ship` receives Charged *and* Packed: the join; `unpack` receives Declined and Packed;
- `ship` is retried if the carrier does not answer, and gives up if a retry cannot help;
- `refund` receives the failure of `ship`: the error handler.
"""
# ruff: noqa: D101 - the name and the fields of an event say what it is

from typing import Any

import ensue
from ensue import Backoff, Context, Event, GiveUp, Pipeline, Retry, StepFailed


class OrderPlaced(Event, key="customer"):
    """Each step works on the orders of one customer one at a time, in the order in which they came."""

    order_id: str
    customer: str
    amount: float
    address: str = "1 Harbour Street"


class Charged(Event, type="orders.charged", version=2):
    order_id: str
    amount: float
    receipt: str
    address: str


@Charged.upcaster(from_version=1)
def _receipts_came_with_version_2(data: dict[str, Any]) -> dict[str, Any]:
    return {"receipt": "none", **data}


class Declined(Event):
    order_id: str
    reason: str


class Packed(Event):
    order_id: str
    boxes: int


class Shipped(Event):
    order_id: str
    boxes: int
    attempts: int


class Unpacked(Event):
    order_id: str
    reason: str


class Refunded(Event):
    order_id: str
    amount: float
    reason: str


orders = Pipeline("orders", description="From an order to a parcel, or to a reason why not")

CREDIT = 1_000.0
PER_BOX = 100.0


@orders.step
async def charge(order: OrderPlaced, ctx: Context) -> Charged | Declined:
    if order.amount > CREDIT:
        return Declined(order_id=order.order_id, reason=f"{order.amount:.2f} is over the limit of {CREDIT:.2f}")
    # Pass this key to a real payment service: it is the same on every attempt, so no customer pays twice.
    receipt = ctx.idempotency_key[:8]
    return Charged(order_id=order.order_id, amount=order.amount, receipt=receipt, address=order.address)


@orders.step
def pack(order: OrderPlaced) -> Packed:
    return Packed(order_id=order.order_id, boxes=1 + int(order.amount // PER_BOX))


@orders.step(retry=Retry(attempts=5, wait=Backoff(first_seconds=0.1), on=ConnectionError), timeout=30)
def ship(paid: Charged, parcel: Packed, ctx: Context) -> Shipped:
    if paid.address == "nowhere":
        raise GiveUp("no carrier goes there")
    if ctx.attempt == 1:
        raise ConnectionError("the carrier does not answer (it never does, the first time)")
    return Shipped(order_id=paid.order_id, boxes=parcel.boxes, attempts=ctx.attempt)


@orders.step
def unpack(declined: Declined, parcel: Packed) -> Unpacked:
    return Unpacked(order_id=parcel.order_id, reason=declined.reason)


@orders.on_error(ship)
def refund(failure: StepFailed, ctx: Context) -> Refunded:
    paid = ctx.events(Charged)[0]
    return Refunded(order_id=paid.order_id, amount=paid.amount, reason=failure.message)


if __name__ == "__main__":
    outcome = ensue.run(orders, OrderPlaced(order_id="o-1", customer="Ada", amount=250.0))
    print(f"{outcome.status}: {outcome.event!r}")
