"""Thousands of events arrive complete and in order, and too many at once are held back, on every engine."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from ensue import Event, Pipeline
from ensue.events.decide.core import Limits
from ensue.events.errors import Overloaded

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Big(Event):
    n: int


class Total(Event):
    numbers: list[int]


async def test_a_generator_of_thousands_is_taken_in_without_loss_or_disorder(rig: Rig) -> None:
    flow = Pipeline("thousands")

    @flow.step
    def count(event: Order) -> Iterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    @flow.step
    async def double(event: Item) -> Big:
        return Big(n=event.n * 2)

    @flow.step
    def gather(bigs: list[Big]) -> Total:
        return Total(numbers=[len(bigs), sum(big.n for big in bigs)])

    outcome = await rig.run(flow, Order(n=5000))
    assert outcome.events == [Total(numbers=[5000, 2 * sum(range(5000))])]


async def test_an_async_generator_of_thousands_comes_in_order(rig: Rig) -> None:
    flow = Pipeline("async-thousands")

    @flow.step
    async def count(event: Order) -> AsyncIterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    assert [event.n for event in (await rig.run(flow, Order(n=3000))).events if isinstance(event, Item)] == list(
        range(3000)
    )


async def test_a_generator_that_hears_its_own_events_is_never_held_back_by_itself(rig: Rig) -> None:
    flow = Pipeline("crawl")

    @flow.step(concurrency=1)
    async def crawl(event: Order) -> AsyncIterator[Order | Item]:
        for _ in range(400 if event.n == 2 else 3 if event.n == 1 else 0):
            yield Order(n=event.n - 1)
        yield Item(n=event.n)

    engine = await rig.start(flow, limits=Limits(backlog=20))
    outcome = await (await engine.emit(Order(n=2))).result(30)
    assert len(outcome.events) == 1 + 400 + 1200


async def test_a_generator_is_held_back_while_much_waits_for_workers(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("held-back")

    @flow.step
    async def count(event: Order) -> AsyncIterator[Item]:
        for n in range(event.n):
            if n % 100 == 0:
                trace.note(n)
            yield Item(n=n)

    @flow.step(concurrency=4)
    async def work(event: Item) -> None:
        await until(lambda: "go on" in trace.lines)

    engine = await rig.start(flow, limits=Limits(backlog=100))
    run = await engine.emit(Order(n=2000))
    await until(lambda: len(trace.lines) >= 3)
    assert "1000" not in trace.lines
    trace.note("go on")
    assert (await run.result(30)).status == "completed"


async def test_over_its_high_water_mark_an_engine_refuses_a_gateway_and_holds_a_caller_up(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("full")

    @flow.step
    async def work(event: Order) -> Item:
        await until(lambda: bool(trace.lines))
        return Item(n=event.n)

    engine = await rig.start(flow, limits=Limits(runs=3))
    runs = await engine.emit_many([Order(n=n) for n in range(3)])
    with pytest.raises(Overloaded, match="3 runs are in flight"):
        await engine.accept("full", Order())
    held = asyncio.create_task(engine.emit(Order(n=3)))
    trace.note("go on")
    runs.append(await held)
    assert [(await run.result(20)).event for run in runs] == [Item(n=n) for n in range(4)]
