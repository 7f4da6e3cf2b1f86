"""Every return form and every parameter form of the interface, on every engine."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ensue import Context, Event, Pipeline

from .engines import Rig, Trace, ray_session, rig, trace

__all__ = ["ray_session", "rig", "trace"]
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


async def test_an_event_that_a_step_returns_is_the_result(rig: Rig) -> None:
    flow = Pipeline("one")

    @flow.step
    def grow(event: Order) -> Big:
        return Big(n=event.n + 1)

    assert (await rig.run(flow, Order(n=1))).events == [Big(n=2)]


async def test_a_branch_takes_the_step_that_hears_what_was_emitted(rig: Rig) -> None:
    flow = Pipeline("branch")

    @flow.step
    async def choose(event: Order) -> Big | Small:
        return Big(n=event.n) if event.n > 10 else Small(n=event.n)

    @flow.step
    def take_big(event: Big) -> Total:
        return Total(numbers=[event.n, 1])

    @flow.step
    def take_small(event: Small) -> Total:
        return Total(numbers=[event.n, 0])

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=3), Order(n=30)])
    assert [(await run.result(20)).event for run in runs] == [Total(numbers=[3, 0]), Total(numbers=[30, 1])]


async def test_a_step_that_may_end_here_ends_the_run_with_none(rig: Rig) -> None:
    flow = Pipeline("optional")

    @flow.step
    def maybe(event: Order) -> Big | None:
        return Big(n=event.n) if event.n else None

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=0), Order(n=1)])
    outcomes = [await run.result(20) for run in runs]
    assert [(o.status, o.events) for o in outcomes] == [("completed", []), ("completed", [Big(n=1)])]


async def test_a_sink_ends_the_run_without_a_result(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("sink")

    @flow.step
    async def swallow(event: Order) -> None:
        trace.note(event.n)

    outcome = await rig.run(flow, Order(n=7))
    assert (outcome.status, outcome.events, trace.lines) == ("completed", [], ["7"])


async def test_every_event_of_a_returned_list_is_a_result_in_its_order(rig: Rig) -> None:
    flow = Pipeline("list")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    assert (await rig.run(flow, Order(n=4))).events == [Item(n=n) for n in range(4)]


async def test_a_generator_emits_what_it_yields(rig: Rig) -> None:
    flow = Pipeline("generator")

    @flow.step
    def count(event: Order) -> Iterator[Item | Line]:
        for n in range(event.n):
            yield Item(n=n) if n % 2 else Line(n=n)

    assert (await rig.run(flow, Order(n=3))).events == [Line(n=0), Item(n=1), Line(n=2)]


async def test_an_async_generator_emits_what_it_yields(rig: Rig) -> None:
    flow = Pipeline("async-generator")

    @flow.step
    async def count(event: Order) -> AsyncIterator[Item | None]:
        for n in range(event.n):
            yield Item(n=n) if n % 2 else None

    assert (await rig.run(flow, Order(n=4))).events == [Item(n=1), Item(n=3)]


async def test_a_step_may_return_one_event_or_a_list(rig: Rig) -> None:
    flow = Pipeline("either-form")

    @flow.step
    def choose(event: Order) -> Big | list[Item]:
        return Big(n=0) if event.n == 0 else [Item(n=1), Item(n=2)]

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=0), Order(n=1)])
    assert [(await run.result(20)).events for run in runs] == [[Big(n=0)], [Item(n=1), Item(n=2)]]


async def test_two_subscribers_hear_the_same_event_side_by_side(rig: Rig) -> None:
    flow = Pipeline("parallel")

    @flow.step
    def left(event: Order) -> Big:
        return Big(n=event.n)

    @flow.step
    async def right(event: Order) -> Small:
        return Small(n=event.n)

    outcome = await rig.run(flow, Order(n=5))
    assert sorted(type(event).__name__ for event in outcome.events) == ["Big", "Small"]


async def test_a_parameter_of_two_types_hears_either(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("either")

    @flow.step
    def split(event: Order) -> list[Big | Small]:
        return [Big(n=1), Small(n=2)]

    @flow.step
    def note(event: Big | Small) -> None:
        trace.note(f"{type(event).__name__}{event.n}")

    assert (await rig.run(flow, Order())).status == "completed"
    assert sorted(trace.lines) == ["Big1", "Small2"]


async def test_a_join_is_called_once_with_one_of_each(rig: Rig) -> None:
    flow = Pipeline("join")

    @flow.step
    def left(event: Order) -> Big:
        return Big(n=event.n)

    @flow.step
    async def right(event: Order) -> Small:
        return Small(n=-event.n)

    @flow.step
    def both(big: Big, ctx: Context, small: Small) -> Total:
        return Total(numbers=[big.n, small.n, ctx.attempt])

    assert (await rig.run(flow, Order(n=5))).events == [Total(numbers=[5, -5, 1])]


async def test_a_join_that_never_completes_leaves_the_run_completed(rig: Rig) -> None:
    flow = Pipeline("half-a-join")

    @flow.step
    def maybe(event: Order) -> Big | None:
        return Big(n=1) if event.n else None

    @flow.step
    def always(event: Order) -> Small:
        return Small(n=2)

    @flow.step
    def both(big: Big, small: Small) -> Total:
        return Total(numbers=[big.n, small.n])

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=0), Order(n=1)])
    outcomes = [await run.result(20) for run in runs]
    assert [(o.status, o.events) for o in outcomes] == [
        ("completed", []),
        ("completed", [Total(numbers=[1, 2])]),
    ]


async def test_a_trigger_that_only_a_join_hears_ends_the_run_at_once(rig: Rig) -> None:
    flow = Pipeline("lonely-trigger")

    @flow.step
    def left(event: Order) -> Big:
        return Big(n=1)

    @flow.step
    def both(order: Order, big: Big) -> Total:
        return Total(numbers=[order.n, big.n])

    engine = await rig.start(flow)
    alone = await engine.emit(Big(n=1))
    assert (await alone.result(20)).status == "completed"


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


async def test_a_loop_goes_round_until_its_way_out(rig: Rig) -> None:
    flow = Pipeline("loop")

    @flow.step
    def again(event: Order) -> Order | Total:
        return Order(n=event.n - 1) if event.n else Total(numbers=[0])

    assert (await rig.run(flow, Order(n=20))).events == [Total(numbers=[0])]
