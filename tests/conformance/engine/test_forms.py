"""Every form that a step may return, and every form of parameter but the list, does what it says on every engine."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ensue import Context, Event, Pipeline

from ..engines import Rig, Trace

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


async def test_a_loop_goes_round_until_its_way_out(rig: Rig) -> None:
    flow = Pipeline("loop")

    @flow.step
    def again(event: Order) -> Order | Total:
        return Order(n=event.n - 1) if event.n else Total(numbers=[0])

    assert (await rig.run(flow, Order(n=20))).events == [Total(numbers=[0])]
