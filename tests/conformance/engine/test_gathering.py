"""Fan-in: a step that takes a list is called once with its whole fan-out, nested or filtered, on every engine."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ensue import Context, Event, Pipeline

from ..engines import Rig

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Big(Event):
    n: int


class Small(Event):
    n: int


class Item(Event):
    n: int


class Line(Event):
    n: int


class Part(Event):
    n: int
    of: int


class Sum(Event):
    of: int = 0
    total: int


class Total(Event):
    numbers: list[int]


async def test_all_of_a_fan_out_is_gathered_into_one_list(rig: Rig) -> None:
    flow = Pipeline("gather")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    async def work(event: Item) -> Line:
        return Line(n=event.n * event.n)

    @flow.step
    def gather(lines: list[Line]) -> Total:
        return Total(numbers=sorted(line.n for line in lines))

    assert (await rig.run(flow, Order(n=5))).events == [Total(numbers=[0, 1, 4, 9, 16])]


async def test_an_empty_fan_out_is_gathered_as_an_empty_list(rig: Rig) -> None:
    flow = Pipeline("gather-nothing")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def work(event: Item) -> Line:
        return Line(n=event.n)

    @flow.step
    def gather(lines: list[Line], ctx: Context) -> Total:
        return Total(numbers=[len(lines), len(ctx.event_id)])

    assert (await rig.run(flow, Order(n=0))).events == [Total(numbers=[0, 0])]


async def test_an_empty_generator_is_gathered_as_an_empty_list(rig: Rig) -> None:
    flow = Pipeline("gather-no-yield")

    @flow.step
    async def spread(event: Order) -> AsyncIterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    @flow.step
    def gather(items: list[Item]) -> Total:
        return Total(numbers=[item.n for item in items])

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=0), Order(n=3)])
    assert [(await run.result(20)).events for run in runs] == [[Total(numbers=[])], [Total(numbers=[0, 1, 2])]]


async def test_items_that_were_filtered_out_are_not_waited_for(rig: Rig) -> None:
    flow = Pipeline("filter")

    @flow.step
    def spread(event: Order) -> Iterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    @flow.step
    def even(event: Item) -> Line | None:
        return Line(n=event.n) if event.n % 2 == 0 else None

    @flow.step
    def gather(lines: list[Line]) -> Total:
        return Total(numbers=sorted(line.n for line in lines))

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=7), Order(n=1), Order(n=0)])
    assert [(await run.result(20)).events for run in runs] == [
        [Total(numbers=[0, 2, 4, 6])],
        [Total(numbers=[0])],
        [Total(numbers=[])],
    ]


async def test_nested_fan_outs_are_gathered_from_the_inside_out(rig: Rig) -> None:
    flow = Pipeline("nested")

    @flow.step
    def outer(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def inner(event: Item) -> list[Part]:
        return [Part(n=n, of=event.n) for n in range(event.n)]

    @flow.step
    def sum_parts(parts: list[Part]) -> Sum:
        return Sum(of=parts[0].of if parts else -1, total=len(parts))

    @flow.step
    def total(sums: list[Sum]) -> Total:
        return Total(numbers=sorted(s.total for s in sums))

    assert (await rig.run(flow, Order(n=4))).events == [Total(numbers=[0, 1, 2, 3])]


async def test_a_join_inside_the_items_of_a_fan_out_never_mixes_items(rig: Rig) -> None:
    flow = Pipeline("join-in-items")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def big(event: Item) -> Big:
        return Big(n=event.n)

    @flow.step
    async def small(event: Item) -> Small:
        return Small(n=event.n)

    @flow.step
    def pair(big: Big, small: Small) -> Line:
        return Line(n=big.n * 100 + small.n)

    @flow.step
    def gather(lines: list[Line]) -> Total:
        return Total(numbers=sorted(line.n for line in lines))

    assert (await rig.run(flow, Order(n=6))).events == [Total(numbers=[n * 101 for n in range(6)])]


async def test_a_list_and_a_single_event_meet_in_one_step(rig: Rig) -> None:
    flow = Pipeline("mixed")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def name(event: Order) -> Big:
        return Big(n=100)

    @flow.step
    def finish(items: list[Item], big: Big) -> Total:
        return Total(numbers=[big.n, *sorted(item.n for item in items)])

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=3), Order(n=0)])
    assert [(await run.result(20)).events for run in runs] == [
        [Total(numbers=[100, 0, 1, 2])],
        [Total(numbers=[100])],
    ]


async def test_two_lists_of_one_fan_out_are_gathered_together(rig: Rig) -> None:
    flow = Pipeline("two-lists")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step
    def sort_out(event: Item) -> Big | Small:
        return Big(n=event.n) if event.n >= 2 else Small(n=event.n)

    @flow.step
    def finish(bigs: list[Big], smalls: list[Small]) -> Total:
        return Total(numbers=[*sorted(b.n for b in bigs), -1, *sorted(s.n for s in smalls)])

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=4), Order(n=1), Order(n=0)])
    assert [(await run.result(20)).events for run in runs] == [
        [Total(numbers=[2, 3, -1, 0, 1])],
        [Total(numbers=[-1, 0])],
        [Total(numbers=[-1])],
    ]


async def test_events_of_the_whole_run_are_gathered_where_nothing_fans_out(rig: Rig) -> None:
    flow = Pipeline("gather-branches")

    @flow.step
    def left(event: Order) -> Item:
        return Item(n=1)

    @flow.step
    def right(event: Order) -> Item:
        return Item(n=2)

    @flow.step
    def gather(items: list[Item]) -> Total:
        return Total(numbers=sorted(item.n for item in items))

    assert (await rig.run(flow, Order())).events == [Total(numbers=[1, 2])]
