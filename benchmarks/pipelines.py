"""The two loads: W1, a chain of three trivial steps, and W2, which validates, branches, fans out and joins.

Rules: the steps do nothing, so that only ensue is measured; the payload of every event is about 250 bytes.
"""

from collections.abc import Callable
from typing import NamedTuple

from ensue import Event, Pipeline

__all__ = ["LOADS", "PAYLOAD", "Load", "chain", "diamond"]

PAYLOAD = "x" * 200  # with the other fields and their names, 250 bytes packed
BRANCH_AT = 100.0
PARTS = 4


class Placed(Event):
    """The trigger of W1."""

    order_id: int
    amount: float
    payload: str


class Priced(Event):
    """After the first step."""

    order_id: int
    amount: float
    payload: str


class Booked(Event):
    """After the second."""

    order_id: int
    amount: float
    payload: str


class Done(Event):
    """The result of W1."""

    order_id: int
    amount: float
    payload: str


chain = Pipeline("chain")


@chain.step
def price(event: Placed) -> Priced:
    return Priced(order_id=event.order_id, amount=event.amount, payload=event.payload)


@chain.step
def book(event: Priced) -> Booked:
    return Booked(order_id=event.order_id, amount=event.amount, payload=event.payload)


@chain.step
def confirm(event: Booked) -> Done:
    return Done(order_id=event.order_id, amount=event.amount, payload=event.payload)


class Received(Event):
    """The trigger of W2."""

    order_id: int
    amount: float
    payload: str


class Small(Event):
    """A valid order under the branch."""

    order_id: int
    payload: str


class Large(Event):
    """A valid order over the branch."""

    order_id: int
    payload: str


class Part(Event):
    """One of four parts."""

    order_id: int
    number: int
    payload: str


class Checked(Event):
    """A part that was checked."""

    order_id: int
    number: int
    payload: str


class Summary(Event):
    """The result of W2."""

    order_id: int
    parts: int
    payload: str


diamond = Pipeline("diamond")


@diamond.step
def validate(event: Received) -> Small | Large:
    if event.amount < 0:
        raise ValueError("an amount is not negative")
    if event.amount < BRANCH_AT:
        return Small(order_id=event.order_id, payload=event.payload)
    return Large(order_id=event.order_id, payload=event.payload)


@diamond.step
def split_small(event: Small) -> list[Part]:
    return [Part(order_id=event.order_id, number=number, payload=event.payload) for number in range(PARTS)]


@diamond.step
def split_large(event: Large) -> list[Part]:
    return [Part(order_id=event.order_id, number=number, payload=event.payload) for number in range(PARTS)]


@diamond.step
def check(event: Part) -> Checked:
    return Checked(order_id=event.order_id, number=event.number, payload=event.payload)


@diamond.step
def summarise(parts: list[Checked]) -> Summary:
    return Summary(order_id=parts[0].order_id, parts=len(parts), payload=parts[0].payload)


class Load(NamedTuple):
    """A pipeline, its n-th trigger, and how many steps one run executes."""

    pipeline: Pipeline
    event: Callable[[int], Event]
    steps: int


def _placed(number: int) -> Event:
    return Placed(order_id=number, amount=9.5, payload=PAYLOAD)


def _received(number: int) -> Event:
    return Received(order_id=number, amount=50.0 if number % 2 else 500.0, payload=PAYLOAD)


LOADS = {"W1": Load(chain, _placed, 3), "W2": Load(diamond, _received, 3 + PARTS)}
