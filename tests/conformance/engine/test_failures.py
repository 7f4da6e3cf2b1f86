"""The failure of a step reaches its handler, and fails the run if there is none, on every engine."""

from typing import Any

import pytest

from ensue import Context, Event, Pipeline, Retry, StepFailed
from ensue.events.model.codec import MAX_DEPTH

from ..engines import Rig, Trace

pytestmark = pytest.mark.timeout(60)
MIB = 1024 * 1024


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Blob(Event):
    data: bytes


class Tree(Event):
    root: Any


class Mended(Event):
    text: str


class Words(Event):
    texts: list[str]


async def test_the_failure_of_a_step_is_heard_by_its_handler_and_the_run_completes(rig: Rig) -> None:
    flow = Pipeline("handled")

    @flow.step(retry=Retry(attempts=2, wait=0.01))
    def charge(event: Order) -> Item:
        raise ConnectionError("no line")

    @flow.on_error(charge)
    def mend(failure: StepFailed) -> Mended:
        data = failure.data["n"]
        return Mended(
            text=f"{failure.step} {failure.event_type} {data} {failure.kind} {failure.error} {failure.attempts}"
        )

    outcome = await rig.run(flow, Order(n=7))
    assert (outcome.status, outcome.events) == (
        "completed",
        [Mended(text="charge Order 7 transient ConnectionError 2")],
    )
    assert [(e.step, e.message) for e in outcome.errors] == [("charge", "no line")]


async def test_a_step_that_hears_step_failed_by_type_hears_every_other_step(rig: Rig) -> None:
    flow = Pipeline("by-type")

    @flow.step(retry=1)
    def left(event: Order) -> None:
        raise ValueError("left")

    @flow.step(retry=1)
    async def right(event: Order) -> None:
        raise ValueError("right")

    @flow.step
    def mend(failure: StepFailed) -> Mended:
        return Mended(text=failure.message)

    outcome = await rig.run(flow, Order())
    assert outcome.status == "completed"
    assert sorted(str(event) for event in outcome.events) == ["text='left'", "text='right'"]
    assert sorted(e.step for e in outcome.errors) == ["left", "right"]


@pytest.mark.parametrize(("depth", "omitted"), [(3, False), (MAX_DEPTH - 1, False), (MAX_DEPTH, True)])
async def test_a_failure_can_be_read_however_deep_its_event_is(local: Rig, depth: int, omitted: bool) -> None:
    flow = Pipeline("deep")
    tree: list[object] = []
    for _ in range(depth - 2):
        tree = [tree]

    @flow.step(retry=1)
    def climb(event: Tree) -> None:
        raise ValueError("too high")

    @flow.on_error(climb)
    def mend(failure: StepFailed, ctx: Context) -> Mended:
        return Mended(text=f"{failure.data_omitted} {failure.data == {'root': tree}} {len(ctx.events(Tree))}")

    outcome = await local.run(flow, Tree(root=tree))
    assert (outcome.status, outcome.events) == ("completed", [Mended(text=f"{omitted} {not omitted} 1")])


async def test_a_failure_says_that_its_event_was_too_large_to_be_quoted(local: Rig) -> None:
    flow = Pipeline("large")

    @flow.step(retry=1)
    def load(event: Blob) -> None:
        raise ValueError("too large")

    @flow.on_error(load)
    def mend(failure: StepFailed, ctx: Context) -> Mended:
        return Mended(text=f"{failure.data} {failure.data_omitted} {len(ctx.events(Blob)[0].data)}")

    outcome = await local.run(flow, Blob(data=b"x" * 3 * MIB))
    assert outcome.events == [Mended(text=f"{{}} True {3 * MIB}")]


async def test_a_handler_that_fails_itself_fails_the_run_with_both_errors(rig: Rig) -> None:
    flow = Pipeline("bad-handler")

    @flow.step(retry=1)
    def charge(event: Order) -> Item:
        raise ValueError("first")

    @flow.on_error(charge, retry=1)
    def mend(failure: StepFailed) -> Mended:
        raise ValueError("second")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, [(e.step, e.message) for e in outcome.errors]) == (
        "failed",
        [("charge", "first"), ("mend", "second")],
    )


async def test_a_failure_that_nothing_hears_fails_the_run_and_starts_nothing_more(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("unheard")

    @flow.step(retry=1)
    def fail(event: Order) -> None:
        raise ValueError("no")

    @flow.step(retry=Retry(wait=3600.0))
    def wait(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        raise ConnectionError("later")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.events, [e.step for e in outcome.errors]) == ("failed", [], ["fail"])
    assert trace.lines in ([], ["1"])


async def test_items_whose_failure_is_handled_are_gathered_with_what_mended_them(rig: Rig) -> None:
    flow = Pipeline("mended-items")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(event.n)]

    @flow.step(retry=1)
    def work(event: Item) -> Mended:
        if event.n % 2:
            raise ValueError(f"odd {event.n}")
        return Mended(text=str(event.n))

    @flow.on_error(work)
    def mend(failure: StepFailed) -> Mended:
        return Mended(text=failure.message)

    @flow.step
    def gather(mended: list[Mended]) -> Words:
        return Words(texts=sorted(one.text for one in mended))

    outcome = await rig.run(flow, Order(n=4))
    assert (outcome.status, outcome.events) == ("completed", [Words(texts=["0", "2", "odd 1", "odd 3"])])
    assert sorted(e.message for e in outcome.errors) == ["odd 1", "odd 3"]


async def test_the_failure_of_a_step_on_a_very_large_event_is_still_handled(rig: Rig) -> None:
    flow = Pipeline("large-failure")

    @flow.step(retry=1)
    def fail(event: Blob) -> None:
        raise ValueError("x" * 5000)

    @flow.on_error(fail)
    def mend(failure: StepFailed) -> Mended:
        return Mended(text=f"{failure.event_type} {failure.data}")

    assert (await rig.run(flow, Blob(data=b"x" * (4 * MIB - 50)))).events == [Mended(text="Blob {}")]
