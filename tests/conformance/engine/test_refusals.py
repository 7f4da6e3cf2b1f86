"""A result that is undeclared, too large or cannot be stored is refused with advice, on every engine."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from ensue import Event, Pipeline

from ..engines import Rig

pytestmark = pytest.mark.timeout(60)
MIB = 1024 * 1024


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Blob(Event):
    data: bytes


class Loose(Event):
    value: Any


class Mended(Event):
    text: str


@pytest.mark.parametrize("form", ["sync", "async", "stream"])
async def test_an_event_that_was_not_declared_is_refused_with_what_to_add(local: Rig, form: str) -> None:
    flow = Pipeline("undeclared")

    if form == "sync":

        @flow.step
        def lie(event: Order) -> Item:
            return Mended(text="oops")  # type: ignore[return-value]

    elif form == "async":

        @flow.step(name="lie")
        async def lie_async(event: Order) -> Item:
            return Mended(text="oops")  # type: ignore[return-value]

    else:

        @flow.step(name="lie")
        def lie_stream(event: Order) -> Iterator[Item]:
            yield Mended(text="oops")  # type: ignore[misc]

    outcome = await local.run(flow, Order())
    form_text = "list[Mended]" if form == "stream" else "Mended"
    assert (outcome.status, [(e.kind, e.error, e.message) for e in outcome.errors]) == (
        "failed",
        [
            (
                "permanent",
                "UndeclaredEvent",
                f"step lie emitted Mended, which its return annotation does not name: add `{form_text}` to it",
            )
        ],
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "step lie returned int, which is not an event: return an event, a list of events or None"),
        ("x", "step lie returned str, which is not an event: return an event, a list of events or None"),
        (None, "step lie returned nothing, but its annotation promises Item: add `| None` to the return annotation"),
        ({"n": 1}, "step lie returned dict, which is not an event"),
        ([Item(n=1)], "step lie emitted Item, which its return annotation does not name: add `list[Item]` to it"),
    ],
    ids=["number", "text", "nothing", "dict", "list"],
)
async def test_what_is_no_promised_event_is_refused_with_a_clear_text(local: Rig, value: Any, text: str) -> None:
    flow = Pipeline("wrong")

    @flow.step
    def lie(event: Order) -> Item:
        return value  # type: ignore[no-any-return]

    outcome = await local.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind) == ("failed", "permanent")
    assert text in outcome.errors[0].message


async def test_an_event_over_four_mebibytes_is_refused_and_one_under_it_passes(rig: Rig) -> None:
    flow = Pipeline("large")

    @flow.step
    def grow(event: Order) -> Blob:
        return Blob(data=b"x" * event.n)

    engine = await rig.start(flow)
    small, large = await engine.emit_many([Order(n=4 * MIB - 100), Order(n=4 * MIB)])
    assert (await small.result(20)).status == "completed"
    outcome = await large.result(20)
    assert (outcome.status, outcome.errors[0].kind) == ("failed", "permanent")
    assert "over the limit of 4,194,304: store the content elsewhere" in outcome.errors[0].message


async def test_large_events_in_bulk_come_through(rig: Rig) -> None:
    flow = Pipeline("bulk")

    @flow.step(concurrency=1)
    def grow(event: Order) -> Blob:
        return Blob(data=bytes([event.n]) * (3 * MIB))

    @flow.step
    def weigh(event: Blob) -> Item:
        return Item(n=event.data[0] + len(event.data))

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(8)])
    assert [(await run.result(30)).event for run in runs] == [Item(n=3 * MIB + n) for n in range(8)]


async def test_a_list_that_is_too_large_as_a_whole_is_refused_and_a_generator_of_it_is_not(rig: Rig) -> None:
    flow = Pipeline("heavy")

    @flow.step
    def at_once(event: Order) -> list[Blob]:
        return [Blob(data=b"x" * (3 * MIB)) for _ in range(event.n)]

    @flow.step
    def one_by_one(event: Item) -> Iterator[Blob]:
        for _ in range(event.n):
            yield Blob(data=b"x" * (3 * MIB))

    engine = await rig.start(flow)
    listed = await (await engine.emit(Order(n=6))).result(30)
    yielded = await (await engine.emit(Item(n=6))).result(30)
    assert (listed.status, "yield them instead of returning a list" in listed.errors[0].message) == ("failed", True)
    assert (yielded.status, len(yielded.events)) == ("completed", 6)


async def test_a_fan_in_that_is_too_large_for_one_call_is_refused_with_its_size(rig: Rig) -> None:
    flow = Pipeline("heavy-gather")

    @flow.step
    def spread(event: Order) -> Iterator[Blob]:
        for _ in range(event.n):
            yield Blob(data=b"x" * (3 * MIB))

    @flow.step
    def gather(blobs: list[Blob]) -> Item:
        return Item(n=len(blobs))

    engine = await rig.start(flow)
    few, many = await engine.emit_many([Order(n=4), Order(n=17)])
    assert (await few.result(30)).events == [Item(n=4)]
    outcome = await many.result(30)
    assert (outcome.status, outcome.errors[0].kind) == ("failed", "permanent")
    assert "bytes of events for one call are over the limit" in outcome.errors[0].message


async def test_a_result_that_cannot_be_stored_is_refused(rig: Rig) -> None:
    flow = Pipeline("unstorable")

    @flow.step
    def lie(event: Order) -> Loose:
        return Loose(value=sys.stdout if event.n else object())

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, outcome.errors[0].error) == ("failed", "permanent", "CodecError")
    assert "Loose cannot be stored" in outcome.errors[0].message
