"""Whatever happens, the log alone leads back to the state, and so does a snapshot."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue import Event, Pipeline, StepFailed
from ensue.events.inputs import Cancel, Op

from .core_driver import CoreDriver, picture, reloaded


class Order(Event, key="customer"):
    """The trigger."""

    customer: str
    items: int


class Item(Event):
    """One of a fan-out."""

    n: int


class Part(Event):
    """What an item comes in."""

    n: int


class Packed(Event):
    """An item, packed."""

    n: int


class Priced(Event):
    """A price."""

    n: int


class Box(Event):
    """A join of an item's two sides."""

    n: int


class Shipped(Event):
    """The end."""

    boxes: int


class Noted(Event):
    """A failure that was heard."""

    step: str


def _pipeline() -> Pipeline:
    p = Pipeline("everything")

    @p.step
    def split(event: Order) -> list[Item]: ...  # type: ignore[empty-body]

    @p.step
    def cut(event: Item) -> list[Part]: ...  # type: ignore[empty-body]

    @p.step
    def wrap(parts: list[Part]) -> Packed | None: ...

    @p.step
    def price(event: Item) -> Priced | None: ...

    @p.step
    def box(packed: Packed, priced: Priced) -> Box | None: ...

    @p.step
    def ship(boxes: list[Box]) -> Shipped: ...  # type: ignore[empty-body]

    @p.on_error(price, box)
    def note(event: StepFailed) -> Noted | None: ...

    return p


OUTPUTS: dict[str, tuple[type[Event] | None, bool]] = {
    "split": (Item, True),
    "cut": (Part, True),
    "wrap": (Packed, False),
    "price": (Priced, False),
    "box": (Box, False),
    "ship": (Shipped, False),
    "note": (Noted, False),
}


def _make(model: type[Event], dice: random.Random) -> Event:
    if model is Shipped:
        return Shipped(boxes=dice.randrange(9))
    if model is Noted:
        return Noted(step="price")
    return model.model_validate({"n": dice.randrange(9)})


def _act(driver: CoreDriver, dice: random.Random) -> None:
    """One thing that can happen."""
    busy = [worker for worker, items in driver.held.items() if items]
    roll = dice.random()
    if roll < 0.12 or not busy:
        driver.emit(Order(customer=dice.choice("ab"), items=2), key=dice.choice(["a", "b", None]))
        driver.tell(seconds=dice.choice([0, 2, 200]))
    elif roll < 0.15 and driver.core.state.runs:
        driver.tell(Cancel(dice.choice(list(driver.core.state.runs))))
    elif roll < 0.19:
        driver.die(dice.choice(list(driver.held)))
    else:
        worker = dice.choice(busy)
        _answer(driver, worker, dice.choice(driver.held[worker]), dice)


def _answer(driver: CoreDriver, worker: int, item: list[Any], dice: random.Random) -> None:
    model, many = OUTPUTS[driver.steps[worker]]
    assert model is not None
    roll = dice.random()
    if roll < 0.08:
        driver.answer(worker, item, Op.FAIL, "transient", "ValueError", "no", "trace", dice.choice([None, 0.0, 5.0]))
    elif roll < 0.12:
        driver.answer(worker, item, Op.RELEASE)
    elif many and roll < 0.4:
        first = driver.core.workers[worker][0].leases[item[0]].emitted
        event = _make(model, dice)
        driver.answer(worker, item, Op.STREAM, first, [[type(event).__event_type__, 1, b"\x81\xa1n\x01", None]])
    else:
        count = dice.randrange(4) if many else dice.randrange(2)
        streamed = driver.core.workers[worker][0].leases[item[0]].emitted
        outputs = [] if many and streamed else [_make(model, dice) for _ in range(count)]
        driver.done(worker, item, outputs, many=many)


@given(st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_the_log_and_a_snapshot_lead_to_the_state_that_was(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - seeded on purpose
    driver = CoreDriver(_pipeline(), concurrency=dice.choice([1, 4]))
    for _ in range(dice.randrange(5, 80)):
        _act(driver, dice)
        assert picture(driver.replayed()) == picture(driver.core.state)
    assert picture(reloaded(driver.core.state, driver.plans)) == picture(driver.core.state)


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_every_run_ends_once_faults_stop(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - seeded on purpose
    driver = CoreDriver(_pipeline())
    for _ in range(40):
        _act(driver, dice)
        if dice.random() < 0.05:
            driver.restart()
    for _ in range(5000):
        driver.tell(seconds=300)
        busy = [worker for worker, items in driver.held.items() if items]
        if not busy:
            break
        worker = busy[0]
        item = driver.held[worker][0]
        model, many = OUTPUTS[driver.steps[worker]]
        assert model is not None
        streamed = driver.core.workers[worker][0].leases[item[0]].emitted
        driver.done(worker, item, [] if streamed else [_make(model, dice)], many=many)
    assert not driver.core.state.runs
    assert not driver.core.state.key_queues


def test_offsets_have_no_gap() -> None:
    driver = CoreDriver(_pipeline())
    dice = random.Random(7)  # noqa: S311 - seeded on purpose
    for _ in range(200):
        _act(driver, dice)
    following = 1
    for entry in driver.log:
        assert entry.offset == following
        following += entry.count


@pytest.mark.parametrize("items", [0, 1, 3])
def test_a_fan_out_is_gathered_once_with_what_came(items: int) -> None:
    driver = CoreDriver(_pipeline())
    driver.emit(Order(customer="a", items=items))
    gathered = []
    dice = random.Random(1)  # noqa: S311 - seeded on purpose
    for _ in range(100):
        busy = [(worker, held[0]) for worker, held in driver.held.items() if held]
        if not busy:
            break
        worker, item = busy[0]
        step = driver.steps[worker]
        if step == "ship":
            gathered.append(len(item[6][0]))
        counts = {"split": items, "cut": 2}
        model, many = OUTPUTS[step]
        assert model is not None
        outputs = [_make(model, dice) for _ in range(counts.get(step, 1))]
        driver.done(worker, item, outputs, many=many)
    assert gathered == [items]
    assert [status for _, status in driver.ended] == ["completed"]
