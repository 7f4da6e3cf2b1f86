"""Whatever happens, the log alone leads back to the state, and so does a snapshot."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue import Event, Pipeline, StepFailed
from ensue.events.decide.inputs import Cancel, Completed, CompletionKind, Force, Redrive, Revive
from ensue.events.model.codec import encode
from ensue.events.state.records import EventRecord, unpack_records
from ensue.events.state.state import DeliveryStatus

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
    """A failure that was handled."""

    step: str


def _pipeline(*, undone: bool = False) -> Pipeline:
    p = Pipeline("everything")

    @p.step
    def split(event: Order) -> list[Item]: ...  # type: ignore[empty-body]

    @p.step
    def cut(event: Item) -> list[Part]: ...  # type: ignore[empty-body]

    @p.step
    def wrap(parts: list[Part]) -> Packed | None: ...

    @p.step
    def price(event: Item) -> Priced | None: ...

    @p.step(pivot=undone)
    def box(packed: Packed, priced: Priced) -> Box | None: ...

    @p.step
    def ship(boxes: list[Box]) -> Shipped: ...  # type: ignore[empty-body]

    @p.on_error(price, box)
    def note(event: StepFailed) -> Noted | None: ...

    if undone:

        @p.compensate(split)
        def unsplit(event: Order) -> None: ...

        @p.compensate(cut)
        def uncut(event: Item) -> Noted | None: ...

        @p.compensate(wrap)
        def unwrap(parts: list[Part]) -> None: ...

    return p


OUTPUTS: dict[str, tuple[type[Event] | None, bool]] = {
    "split": (Item, True),
    "cut": (Part, True),
    "wrap": (Packed, False),
    "price": (Priced, False),
    "box": (Box, False),
    "ship": (Shipped, False),
    "note": (Noted, False),
    "unsplit": (None, False),
    "uncut": (Noted, False),
    "unwrap": (None, False),
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
    elif roll < 0.15 and driver.decider.state.runs:
        driver.tell(Cancel(dice.choice(list(driver.decider.state.runs))))
    elif roll < 0.19:
        driver.die(dice.choice(list(driver.held)))
    elif roll < 0.23:
        _operate(driver, dice)
    else:
        worker = dice.choice(busy)
        _answer(driver, worker, dice.choice(driver.held[worker]), dice)


def _operate(driver: CoreDriver, dice: random.Random) -> None:
    """An operator forces a breaker, retries a run that is over, or decides on what gave up."""
    if dice.random() < 0.3:
        name = dice.choice(["everything/split", "everything/cut", "everything/unsplit"])
        driver.tell(Force(name, dice.random() < 0.4, "ann", dice.choice([None, 10.0])))
        return
    if dice.random() < 0.3 and driver.ended:
        run_id = dice.choice(driver.ended)[0].run_id
        as_of, number = driver.decider.next_offset, driver.number_of(run_id)
        driver.tell(Revive(run_id, number, driver.entries_of(run_id), None, "ann", as_of))
        return
    letters = [died for died in driver.dead if died.run_id]
    if letters:
        died = dice.choice(letters)
        run_id = died.run_id
        edited = [bytes([dice.randrange(256)]) * 16, "Item", 1, b"\x81\xa1n\x07", None] if dice.random() < 0.3 else None
        driver.tell(
            Redrive(
                run_id,
                driver.number_of(run_id),
                died.delivery,
                "ann",
                dice.random() < 0.3,
                edited,
                driver.entries_of(run_id),
                as_of=driver.decider.next_offset,
                blocked=died.blocked,
            )
        )


def _answer(driver: CoreDriver, worker: int, item: list[Any], dice: random.Random) -> None:
    model, many = OUTPUTS[driver.steps[worker]]
    roll = dice.random()
    if roll < 0.08:
        wait, kind = dice.choice([None, 0.0, 5.0]), dice.choice(["transient", "resource"])
        driver.answer(worker, item, CompletionKind.FAIL, kind, "ValueError", "no", "trace", wait, dice.random() < 0.5)
    elif roll < 0.12:
        driver.answer(worker, item, CompletionKind.RELEASE)
    elif model is None:
        driver.done(worker, item, [], many=False)
    elif many and roll < 0.4:
        first = driver.decider.workers[worker][0].leases[item[0]].emitted
        event = _make(model, dice)
        driver.answer(
            worker, item, CompletionKind.STREAM, first, [[type(event).__event_type__, 1, b"\x81\xa1n\x01", None]]
        )
    else:
        count = dice.randrange(4) if many else dice.randrange(2)
        streamed = driver.decider.workers[worker][0].leases[item[0]].emitted
        outputs = [] if many and streamed else [_make(model, dice) for _ in range(count)]
        driver.done(worker, item, outputs, many=many)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=250, deadline=None)
def test_the_log_and_a_snapshot_lead_to_the_state_that_was(seed: int, undone: bool) -> None:
    dice = random.Random(seed)  # noqa: S311 - seeded on purpose
    driver = CoreDriver(_pipeline(undone=undone), concurrency=dice.choice([1, 4]))
    for _ in range(dice.randrange(5, 80)):
        _act(driver, dice)
        assert picture(driver.replayed()) == picture(driver.decider.state)
    assert picture(reloaded(driver.decider.state, driver.plans)) == picture(driver.decider.state)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_run_ends_once_faults_stop(seed: int, undone: bool) -> None:
    dice = random.Random(seed)  # noqa: S311 - seeded on purpose
    driver = CoreDriver(_pipeline(undone=undone))
    for _ in range(40):
        _act(driver, dice)
        if dice.random() < 0.05:
            driver.restart()
    for view in driver.decider.breakers(driver.now_us):
        driver.tell(Force(view.name, opens=False, who="ann"))
    for _ in range(5000):
        driver.tell(seconds=300)
        _settle_what_is_blocked(driver)
        busy = [worker for worker, items in driver.held.items() if items]
        if not busy:
            break
        worker = busy[0]
        item = driver.held[worker][0]
        model, many = OUTPUTS[driver.steps[worker]]
        streamed = driver.decider.workers[worker][0].leases[item[0]].emitted
        driver.done(worker, item, [] if streamed or model is None else [_make(model, dice)], many=many)
    assert not driver.decider.state.runs
    assert not driver.decider.state.key_queues


def _settle_what_is_blocked(driver: CoreDriver) -> None:
    for run in list(driver.decider.state.runs.values()):
        if run.compensating is not None and run.compensating.status is DeliveryStatus.FAILED:
            driver.tell(Redrive(run.run_id, run.number, run.compensating.number, "ann", discard=True))


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


class Pair(Event):
    """A trigger that fans out."""

    n: int


class Plain(Event):
    """One of them."""

    n: int


class Keyed(Event, key="owner"):
    """Handled one at a time."""

    owner: str
    n: int


def test_events_of_one_key_are_handled_in_the_order_of_their_offsets() -> None:
    p = Pipeline("keyed")

    @p.step
    def fan(event: Pair) -> list[Plain]: ...  # type: ignore[empty-body]

    @p.step
    def relay(event: Plain) -> Keyed: ...  # type: ignore[empty-body]

    @p.step
    def handle(event: Keyed) -> None: ...

    driver = CoreDriver(p)
    fans, relays, handles = driver.held
    for run in range(2):
        driver.emit(Pair(n=run))
    for item in list(driver.held[fans]):
        driver.done(fans, item, [Plain(n=1), Plain(n=2)], many=True)
    first, second, third, fourth = driver.held[relays]  # two of one run, two of the other
    keyed = [[Keyed.__event_type__, 1, encode(Keyed(owner="a", n=1)), "a"]]
    answers = [[CompletionKind.DONE, item[0], 10, keyed, False] for item in (first, third, second, fourth)]
    driver.held[relays].clear()
    driver.tell(*(Completed(relays, [answer]) for answer in answers))
    handled: list[bytes] = []
    while driver.held[handles]:
        handled.append(driver.held[handles][0][6][0][0])
        driver.done(handles, driver.held[handles][0], [], many=False)
    recorded = [
        record.event_id
        for entry in driver.log
        for record in unpack_records(entry.body)
        if isinstance(record, EventRecord) and record.type == "Keyed"
    ]
    assert handled == recorded
    assert len(handled) == 4
