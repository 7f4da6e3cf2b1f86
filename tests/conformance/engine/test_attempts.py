"""A failing step is retried as often as its policy and the error itself say, on every engine."""

import sys

import httpx
import pytest
import tenacity

from ensue import Backoff, Context, Event, GiveUp, Pipeline, Retry

from ..engines import Rig, Trace

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


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
