"""What a test says in the place of workers: the ways an attempt ends, for the first delivery that a step holds."""

from typing import Any

from ensue import Event
from ensue.events.decide.commands import Decision
from ensue.events.decide.inputs import CompletionKind

from .core_driver import CoreDriver

__all__ = [
    "FULL",
    "PERMANENT",
    "TRANSIENT",
    "Excused",
    "Held",
    "Item",
    "Order",
    "Paid",
    "emit_all",
    "ends",
    "fails",
    "held",
    "one",
    "returns",
]

PERMANENT = ["permanent", "ValueError", "x", "", None, False]
TRANSIENT = ["transient", "ConnectionError", "x", "", 1.0, True]
FULL = ["resource", "OSError", "disk full", "", 0.0, False]
Held = tuple[int, list[Any]]


class Order(Event):
    n: int = 0


class Item(Event):
    n: int = 0


class Paid(Event):
    n: int = 0


class Excused(Event):
    n: int = 0


def held(driver: CoreDriver, step: str) -> list[Held]:
    """What the workers of a step hold."""
    return [(w, item) for w, name in driver.steps.items() if name == step for item in driver.held.get(w, [])]


def one(driver: CoreDriver, step: str) -> Held:
    """The first that a step's workers hold."""
    return held(driver, step)[0]


def fails(driver: CoreDriver, step: str) -> Decision:
    """A step gives up on the first that it holds."""
    return driver.answer(*one(driver, step), CompletionKind.FAIL, *PERMANENT)


def returns(driver: CoreDriver, step: str, *outputs: Event, many: bool = False) -> Decision:
    """A step is done with the first that it holds."""
    return driver.done(*one(driver, step), list(outputs), many=many)


def ends(driver: CoreDriver) -> list[str]:
    """How runs ended, in order."""
    return [status for _, status in driver.ended]


def emit_all(driver: CoreDriver, number: int) -> None:
    """So many orders."""
    for n in range(number):
        driver.emit(Order(n=n))
