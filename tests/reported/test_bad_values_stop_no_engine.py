"""Symptom: after one strange argument or value the partition "fails again and again", also after a restart."""

import random
from enum import Enum
from typing import Any

import pytest

from ensue import Engine, Event, Pipeline
from ensue.actors.client.admission import EngineAdmission
from ensue.cluster.clock import IdSource
from ensue.cluster.log.protocol import DeadFilter
from ensue.events.decide.core import Decider
from ensue.events.decide.decision_builder import DecisionBuilder
from ensue.events.decide.inputs import Completed, Emit, Missing, WorkerUp
from ensue.events.errors import EnsueError, EventInvalid
from ensue.events.pipelines.plan import compile_plan
from ensue.testing import LocalEngine, ManualClock

pytestmark = pytest.mark.timeout(60)
SURROGATE = "x\ud800"
_NOW_US = 1_700_000_000_000_000


class Order(Event):
    n: int = 0


class Paid(Event):
    n: int = 0


class Color(Enum):
    RED = (255, 0, 0)


class Palette(Event):
    shades: dict[Color, int]


class Named(Event, key="name"):
    name: Any


def _orders() -> Pipeline:
    flow = Pipeline("orders")

    @flow.step
    def charge(event: Order) -> Paid:
        return Paid(n=event.n)

    @flow.step
    def paint(event: Palette) -> None:
        raise ValueError("no paint left")

    @flow.step
    def greet(event: Named) -> None:
        return None

    return flow


async def _goes_on(engine: LocalEngine) -> None:
    outcome = await (await engine.emit(Order(n=7))).result()
    assert outcome.events == [Paid(n=7)]


@pytest.mark.parametrize("key", [SURROGATE, ["a"], 5, b"a", object()])
async def test_a_key_that_is_no_text_is_refused_and_the_engine_goes_on(key: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EventInvalid, match="key"):
            await engine.emit(Order(), key=key)
        await _goes_on(engine)


@pytest.mark.parametrize(
    "arguments",
    [
        {"source": SURROGATE},
        {"source": None},
        {"source": ["a"]},
        {"sender_id": 5},
        {"sender_id": SURROGATE},
        {"sender_id": "a", "digest": "text"},
        {"sender_id": "a", "digest": None},
        {"key": {"a": 1}},
    ],
)
async def test_what_a_gateway_passes_is_checked_before_the_partition_sees_it(arguments: dict[str, Any]) -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EventInvalid):
            await engine.accept("orders", Order(), **arguments)
        await _goes_on(engine)


@pytest.mark.parametrize("pipeline", [["orders"], 5, SURROGATE])
async def test_a_pipeline_that_is_no_name_is_refused(pipeline: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EnsueError):
            await engine.emit(Order(), pipeline=pipeline)
        await _goes_on(engine)


@pytest.mark.parametrize("event", [None, {"n": 1}, "Order", Order, 5])
async def test_what_is_no_event_is_refused(event: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EventInvalid, match="emit takes an event, not a"):
            await engine.emit(event)
        with pytest.raises(EventInvalid, match="emit takes an event, not a"):
            await engine.emit_many([Order(), event])
        await _goes_on(engine)


@pytest.mark.parametrize("who", [None, SURROGATE, 5, ["a"], b"me", "x" * 10_000])
async def test_an_operator_without_a_usable_name_is_refused(who: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        handle = await engine.emit(Palette(shades={}))
        await handle.result()
        letter = engine.reader().dead(DeadFilter(state="open"), limit=1)[0]
        for call in (
            lambda: engine.cancel(handle.id, who=who),
            lambda: engine.retry(handle.id, who=who),
            lambda: engine.redrive(letter.letter_id, who=who),
            lambda: engine.discard(letter.letter_id, who=who),
            lambda: engine.redrive_all(DeadFilter(state="open"), who=who),
            lambda: engine.discard_all(DeadFilter(state="open"), who=who),
            lambda: engine.force_breaker("none", opens=True, who=who),
        ):
            with pytest.raises(EnsueError, match="who"):
                await call()
        await _goes_on(engine)


@pytest.mark.parametrize("run_id", [None, 5, b"short", "text", SURROGATE, ["a"]])
async def test_what_is_no_run_id_is_refused(run_id: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        for call in (engine.run, engine.cancel, engine.retry, engine.redrive, engine.discard):
            with pytest.raises(EnsueError, match="is not an id"):
                await call(run_id)
        await _goes_on(engine)


@pytest.mark.parametrize("name", [None, ["a"], 5, SURROGATE])
async def test_what_is_no_breaker_name_is_refused(name: Any) -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EnsueError):
            await engine.force_breaker(name, opens=True)
        await _goes_on(engine)


async def test_an_event_with_a_key_of_a_dict_that_cannot_be_read_back_is_refused() -> None:
    async with LocalEngine(_orders()) as engine:
        with pytest.raises(EnsueError, match="a key of a dict"):
            await engine.emit(Palette(shades={Color.RED: 1}))
        await _goes_on(engine)


class _Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_a_key_field_without_a_text_is_refused_at_emit_and_fails_the_run_of_a_step() -> None:
    flow = Pipeline("keys")

    @flow.step
    def name(event: Order) -> Named:
        return Named.model_construct(name=_Unprintable())

    @flow.step
    def greet(event: Named) -> None:
        return None

    async with LocalEngine(flow) as engine:
        with pytest.raises(EnsueError, match="cannot be stored"):
            await engine.emit(Named.model_construct(name=SURROGATE))
        outcome = await (await engine.emit(Order())).result()
        assert outcome.status == "failed"


def _unreadable(n: int) -> bytes:
    """An event as a store of an earlier version may hold it: msgpack of {"shades": {[255, 0, n]: 1}}."""
    return b"\x81\xa6shades\x81\x93\xcc\xff\x00" + bytes([n]) + b"\x01"


async def test_an_event_in_the_log_that_cannot_be_read_fails_its_own_run_only(tmp_path: Any) -> None:
    store = f"sqlite:///{tmp_path}/log.db"
    async with LocalEngine(_orders(), store=store) as engine:
        admission = EngineAdmission(engine.pipelines, IdSource(ManualClock()))
        entry = admission.emit(Palette(shades={}))
        entry.data = _unreadable(0)
        engine._runtime.post_all([entry])  # no caller can emit it any more
        await engine.idle()
        await _goes_on(engine)
    async with LocalEngine(_orders(), store=store) as engine:
        letters = engine.reader().dead(DeadFilter(state="open"), limit=10)
        assert [letter.run_id for letter in letters] == [entry.run_id]
        await _goes_on(engine)


def _strange(random_: random.Random, depth: int = 0) -> Any:
    """Anything that a message may hold."""
    scalars = [None, 0, 1, 2, 3, 4, 5, -1, 2**63 - 1, -(2**63), 0.5, float("nan"), float("inf"), -1.0, True, False]
    texts = ["", "Paid", "Order", "permanent", "x"]
    match random_.randrange(6 if depth < 3 else 4):
        case 0 | 1:
            return random_.choice(scalars)
        case 2:
            return random_.choice(texts)
        case 3:
            return bytes(random_.randrange(8) for _ in range(random_.randrange(4)))  # 8 is the token of the good one
        case 4:
            return [_strange(random_, depth + 1) for _ in range(random_.randrange(6))]
        case _:
            return {random_.choice(["a", 1]): _strange(random_, depth + 1)}


@pytest.mark.parametrize("seed", range(300))
def test_a_worker_may_report_anything_and_the_others_go_on(seed: int) -> None:
    random_ = random.Random(seed)  # noqa: S311 - it guards nothing
    flow = _orders()
    decider = Decider({"orders": compile_plan(flow.declaration, "1")}, DecisionBuilder(1))
    ids = EngineAdmission({"orders": flow}, IdSource(ManualClock()))
    decider.decide([WorkerUp(1, "orders", "charge", 64), *(ids.emit(Order(n=n)) for n in range(8))], _NOW_US)
    strange = [_report(random_, token) for token in range(1, 8)]
    good = [0, 8, 10, [["Paid", 1, b"\x81\xa1n\x01", None]], False]
    inputs: list[Any] = [Completed(1, [*strange, good]), Completed(1, _strange(random_)), Missing(1, _strange(random_))]
    decision = decider.decide(inputs, _NOW_US + 1)
    assert any(status.name == "COMPLETED" for _, status in decision.ended)
    assert decider.decide([ids.emit(Order())], _NOW_US + 2).started


def _report(random_: random.Random, token: int) -> Any:
    """A completion that is wrong in some place, or as a whole."""
    good: list[Any] = random_.choice(
        [
            [0, token, 10, [["Paid", 1, b"\x80", None]], False],
            [1, token, 0, [["Paid", 1, b"\x80", None]]],
            [2, token, "permanent", "ValueError", "no", "", 1.0, True],
            [4, token],
        ]
    )
    place = random_.randrange(len(good) + 2)
    if place == len(good):
        return good[: random_.randrange(len(good))]
    if place > len(good):
        return _strange(random_)
    good[place] = _strange(random_)
    return good


@pytest.mark.parametrize("field", ["pipeline", "run_id", "event_id", "type", "version", "data", "key", "source"])
@pytest.mark.parametrize("value", [None, ["a"], 5, SURROGATE, 1.5, {}])
async def test_an_input_that_is_wrong_in_any_field_is_refused_alone(field: str, value: Any) -> None:
    if (field, value) in [("version", 5), ("key", None)]:
        return
    async with LocalEngine(_orders()) as engine:
        admission = EngineAdmission(engine.pipelines, IdSource(ManualClock()))
        entry: Emit = admission.emit(Order(n=1))
        setattr(entry, field, value)
        engine._runtime.post_all([entry])  # no caller can emit it
        await _goes_on(engine)


def test_engine_takes_the_same_api() -> None:
    assert Engine.emit is LocalEngine.emit
    assert Engine.cancel is LocalEngine.cancel
