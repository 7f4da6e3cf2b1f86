"""Retries, giving up, error handlers, and results that are refused, on every engine."""

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import tenacity

from ensue import Backoff, Context, Event, GiveUp, Pipeline, Retry, StepFailed

from .engines import Rig, Trace, local, ray_session, rig, trace

__all__ = ["local", "ray_session", "rig", "trace"]
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


class Words(Event):
    texts: list[str]


class Total(Event):
    numbers: list[int]


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [
        (Retry(attempts=3, wait=0.01), 3),
        (Retry(attempts=2, wait=Backoff(first_seconds=0.01)), 2),
        (Retry(attempts=4, wait=0.01, on=ValueError), 1),
        (Retry(attempts=4, wait=0.01, on=(ValueError, ConnectionError)), 4),
        (Retry(attempts=4, wait=0.01, give_up_on=ConnectionError), 1),
        (Retry(attempts=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(0.01)), 3),
        (Retry(attempts=3, wait=tenacity.wait_random(0, 0.02), on=tenacity.retry_if_exception_type(OSError)), 3),
        (Retry(attempts=3, wait=0.01, on=tenacity.retry_if_exception_message(match="something else")), 1),
        (Retry(attempts=tenacity.stop_after_delay(0.02), wait=0.05), 2),
    ],
    ids=["number", "backoff", "on-another", "on-these", "give-up-on", "stop-and-wait", "type", "message", "delay"],
)
async def test_a_failing_step_is_tried_as_often_as_its_policy_says(
    local: Rig, trace: Trace, retry: Retry, attempts: int
) -> None:
    flow = Pipeline("policy")

    @flow.step(retry=retry)
    def fail(event: Order, ctx: Context) -> None:
        trace.note(ctx.attempt)
        raise ConnectionError("refused")

    outcome = await local.run(flow, Order())
    assert (outcome.status, trace.lines) == ("failed", [str(n + 1) for n in range(attempts)])
    assert [(e.step, e.kind, e.error, e.message) for e in outcome.errors] == [
        ("fail", "transient", "ConnectionError", "refused")
    ]
    assert 'raise ConnectionError("refused")' in outcome.errors[0].trace


async def test_give_up_ends_it_at_the_first_attempt(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("give-up")

    @flow.step(retry=5)
    async def stop(event: Order) -> None:
        trace.note("tried")
        raise GiveUp("no such customer")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, trace.lines) == ("failed", "permanent", ["tried"])


async def test_retry_after_is_obeyed(rig: Rig) -> None:
    flow = Pipeline("retry-after")

    @flow.step(retry=Retry(attempts=2, wait=0.0))
    def call(event: Order, ctx: Context) -> Item:
        if ctx.attempt == 1:
            response = httpx.Response(429, headers={"Retry-After": "1"}, request=httpx.Request("GET", "http://x"))
            response.raise_for_status()
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    assert (await run.result(20)).events == [Item(n=2)]
    row = engine.reader().run(run.raw_id)
    assert row is not None
    assert row.finished_us is not None
    assert 1_000_000 <= row.finished_us - row.started_us < 5_000_000


async def test_a_client_error_of_http_is_not_tried_again(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("not-found")

    @flow.step
    def call(event: Order) -> None:
        trace.note("called")
        httpx.Response(404, request=httpx.Request("GET", "http://x")).raise_for_status()

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, trace.lines) == ("failed", "permanent", ["called"])


async def test_a_wait_of_ages_from_outside_breaks_nothing(rig: Rig) -> None:
    flow = Pipeline("ages")

    @flow.step
    def call(event: Order) -> None:
        headers = {"Retry-After": "9" * 40}
        httpx.Response(503, headers=headers, request=httpx.Request("GET", "http://x")).raise_for_status()

    @flow.step
    def fine(event: Item) -> Total:
        return Total(numbers=[event.n])

    engine = await rig.start(flow)
    await engine.emit(Order())
    assert (await (await engine.emit(Item(n=1))).result(20)).events == [Total(numbers=[1])]


async def test_a_retry_strategy_that_breaks_ends_the_attempts(rig: Rig) -> None:
    flow = Pipeline("bad-strategy")

    def bad(state: object) -> bool:
        raise RuntimeError("my own bug")

    @flow.step(retry=Retry(on=bad))
    def fail(event: Order) -> None:
        raise ValueError("original")

    @flow.step(retry=Retry(on=bad))
    async def fail_too(event: Order) -> None:
        raise ValueError("original")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, {(e.step, e.message) for e in outcome.errors}) == (
        "failed",
        {("fail", "original"), ("fail_too", "original")},
    )


async def test_a_message_that_is_no_unicode_fails_only_its_step(rig: Rig) -> None:
    flow = Pipeline("no-unicode")

    @flow.step(retry=1)
    def fail(event: Order) -> None:
        raise OSError("no file \udcff.txt")

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].message) == ("failed", "no file \\udcff.txt")


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
        (5, "step lie returned int, which is no event: return an event, a list of them or None"),
        ("x", "step lie returned str, which is no event: return an event, a list of them or None"),
        (None, "step lie returned nothing, but its annotation promises Item: add `| None` to the return annotation"),
        ({"n": 1}, "step lie returned dict, which is no event"),
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


async def test_the_failure_of_a_step_on_a_very_large_event_is_still_handled(rig: Rig) -> None:
    flow = Pipeline("large-failure")

    @flow.step(retry=1)
    def fail(event: Blob) -> None:
        raise ValueError("x" * 5000)

    @flow.on_error(fail)
    def mend(failure: StepFailed) -> Mended:
        return Mended(text=f"{failure.event_type} {failure.data}")

    assert (await rig.run(flow, Blob(data=b"x" * (4 * MIB - 50)))).events == [Mended(text="Blob {}")]


async def test_a_result_that_cannot_be_stored_is_refused(rig: Rig) -> None:
    flow = Pipeline("unstorable")

    @flow.step
    def lie(event: Order) -> Loose:
        return Loose(value=sys.stdout if event.n else object())

    outcome = await rig.run(flow, Order())
    assert (outcome.status, outcome.errors[0].kind, outcome.errors[0].error) == ("failed", "permanent", "CodecError")
    assert "Loose cannot be stored" in outcome.errors[0].message


@pytest.mark.parametrize("style", ["sync", "async"])
async def test_a_step_that_exits_ends_only_its_attempt_and_is_tried_again(rig: Rig, style: str) -> None:
    flow = Pipeline("exits")

    if style == "sync":

        @flow.step(name="leave", retry=Retry(attempts=2, wait=0.01))
        def leave(event: Order, ctx: Context) -> Item:
            if ctx.attempt == 1:
                sys.exit("bye")
            return Item(n=ctx.attempt)

    else:

        @flow.step(name="leave", retry=Retry(attempts=2, wait=0.01))
        async def leave_async(event: Order, ctx: Context) -> Item:
            if ctx.attempt == 1:
                sys.exit("bye")
            return Item(n=ctx.attempt)

    assert (await rig.run(flow, Order())).events == [Item(n=2)]
