"""An event reaches its pipeline once, and its outcome can be asked for, on every engine."""

import asyncio

import pytest

from ensue import EnsueError, Event, Pipeline
from ensue.events.errors import DeliveryConflict, EventTypeUnknown, Overloaded, RunUnknown

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Big(Event):
    n: int


class Stranger(Event):
    n: int = 0


async def test_two_pipelines_share_an_engine_and_a_type_that_both_hear_needs_a_name(rig: Rig) -> None:
    one, two = Pipeline("one"), Pipeline("two")

    @one.step(name="work")
    def work_one(event: Order) -> Item:
        return Item(n=1)

    @two.step(name="work")
    def work_two(event: Order) -> Big:
        return Big(n=2)

    engine = await rig.start(one, two)
    first, second = await engine.emit(Order(), pipeline="one"), await engine.emit(Order(), pipeline="two")
    assert [(await run.result(20)).events for run in (first, second)] == [[Item(n=1)], [Big(n=2)]]
    with pytest.raises(EnsueError, match=r"subscribe to Order \(one, two\): name one"):
        await engine.emit(Order())


async def test_an_event_that_nothing_hears_is_refused_and_so_is_a_pipeline_that_is_not_served(rig: Rig) -> None:
    flow = Pipeline("deaf")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    with pytest.raises(EventTypeUnknown, match="no pipeline subscribes to 'Stranger'; known event types: Order"):
        await engine.emit(Stranger())
    with pytest.raises(EventTypeUnknown, match="'Stranger' is unknown"):
        await engine.emit(Stranger(), pipeline="deaf")
    with pytest.raises(EnsueError, match="no pipeline is named 'other' here; served are deaf"):
        await engine.emit(Order(), pipeline="other")
    with pytest.raises(EnsueError, match="no pipeline is named 'other' here"):
        await engine.accept("other", Order())
    assert (await (await engine.emit(Order())).result(20)).events == [Item(n=1)]


async def test_an_event_of_the_pipeline_that_no_step_hears_is_the_result_of_its_run(rig: Rig) -> None:
    flow = Pipeline("own-result")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    outcome = await (await engine.emit(Item(n=5), pipeline="own-result")).result(20)
    assert (outcome.status, outcome.events) == ("completed", [Item(n=5)])


async def test_what_a_sender_repeats_is_accepted_once_and_gets_the_same_answer(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("dedup")

    @flow.step
    def work(event: Order) -> None:
        trace.note(event.n)

    engine = await rig.start(flow)

    async def send(body: bytes = b"body", sender: str = "d-1") -> tuple[bytes, bytes, bool]:
        return await engine.accept("dedup", Order(n=1), source="hook", sender_id=sender, digest=body)

    first, twin = await asyncio.gather(send(), send())
    later = await send()
    await (await engine.run(first[1])).result(20)
    after_its_end = await send()
    assert first[2] is False
    assert twin == later == after_its_end == (first[0], first[1], True)
    with pytest.raises(DeliveryConflict, match="id 'd-1' from 'hook' was used before for another body"):
        await send(b"altered")
    assert (await send(sender="d-2"))[2] is False
    assert len(await until_lines(trace, 2)) == 2


async def until_lines(trace: Trace, count: int) -> list[str]:
    await until(lambda: len(trace.lines) >= count)
    return trace.lines


async def test_a_run_has_as_many_results_as_events_that_nothing_hears(rig: Rig) -> None:
    flow = Pipeline("results")

    @flow.step
    def left(event: Order) -> Item:
        return Item(n=1)

    @flow.step
    def right(event: Order) -> list[Big]:
        return [Big(n=2), Big(n=3)]

    outcome = await rig.run(flow, Order())
    assert sorted(str(event) for event in outcome.events) == ["n=1", "n=2", "n=3"]


async def test_the_outcome_of_a_run_that_is_over_can_be_asked_for_again(rig: Rig) -> None:
    flow = Pipeline("again")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await rig.start(flow)
    run = await engine.emit(Order(n=3))
    outcome = await run.result(20)
    del run
    assert await (await engine.run(outcome.run_id)).result(20) == outcome
    with pytest.raises(RunUnknown):
        await engine.run("01890a5d-ac96-774b-bcce-b302099a8057")
    with pytest.raises(EnsueError, match="'what' is not an id"):
        await engine.run("what")


async def test_a_result_that_is_late_is_a_timeout_and_the_run_goes_on(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("late")

    @flow.step
    async def work(event: Order) -> Item:
        await until(lambda: bool(trace.lines))
        return Item(n=1)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    with pytest.raises(TimeoutError, match=f"run {run.id} is not over after 0.05 s; it continues"):
        await run.result(0.05)
    trace.note("go on")
    assert (await run.result(20)).events == [Item(n=1)]


async def test_a_stopped_engine_refuses_what_comes(rig: Rig) -> None:
    flow = Pipeline("stopped")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    await rig.stop()
    with pytest.raises(Overloaded, match="the engine is stopped"):
        await engine.emit(Order())
