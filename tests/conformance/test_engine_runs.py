"""Keys, cancelling, retrying, duplicates, bulk and several pipelines, on every engine."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from ensue import Context, EnsueError, Event, Pipeline, Retry, StepFailed
from ensue.events.decide import Limits
from ensue.events.errors import DeliveryConflict, EventTypeUnknown, Overloaded, RunFinished, RunUnknown

from .engines import Rig, Trace, local, ray_session, rig, trace, until

__all__ = ["local", "ray_session", "rig", "trace"]
pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Move(Event, key="account"):
    account: str
    n: int


class Item(Event):
    n: int


class Big(Event):
    n: int


class Total(Event):
    numbers: list[int]


class Stranger(Event):
    n: int = 0


async def test_events_of_one_key_are_handled_one_at_a_time_in_order(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("keys")

    @flow.step(replicas=2)
    async def apply(event: Move) -> None:
        trace.note(f"begin {event.account} {event.n}")
        await asyncio.sleep(0.002)
        trace.note(f"end {event.account} {event.n}")

    engine = await rig.start(flow)
    moves = [Move(account=account, n=n) for n in range(8) for account in "ab"]
    for run in await engine.emit_many(moves):
        await run.result(20)
    for account in "ab":
        mine = [line for line in trace.lines if f" {account} " in line]
        assert mine == [f"{what} {account} {n}" for n in range(8) for what in ("begin", "end")]


async def test_a_key_that_waits_for_its_retry_holds_the_events_behind_it(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("key-retry")

    @flow.step(retry=Retry(attempts=3, wait=0.02))
    def apply(event: Move, ctx: Context) -> None:
        trace.note(f"{event.n} {ctx.attempt}")
        if event.n == 0 and ctx.attempt < 3:
            raise ConnectionError("not yet")

    engine = await rig.start(flow)
    for run in await engine.emit_many([Move(account="a", n=n) for n in range(3)]):
        await run.result(20)
    assert trace.lines == ["0 1", "0 2", "0 3", "1 1", "2 1"]


async def test_an_event_that_gives_up_lets_the_next_of_its_key_go(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("key-failure")

    @flow.step(retry=1)
    def apply(event: Move) -> None:
        trace.note(event.n)
        if event.n == 0:
            raise ValueError("no")

    engine = await rig.start(flow)
    runs = await engine.emit_many([Move(account="a", n=n) for n in range(3)])
    assert [(await run.result(20)).status for run in runs] == ["failed", "completed", "completed"]
    assert trace.lines == ["0", "1", "2"]


async def test_a_run_that_is_failing_lets_the_next_of_its_key_go_before_it_is_over(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("key-halting")

    @flow.step(retry=1)
    def apply(event: Move) -> None:
        trace.note(f"apply {event.n}")
        if event.n == 0:
            raise ValueError("no")

    @flow.step
    async def slow(event: Stranger | Order) -> None:
        await until(lambda: "go on" in trace.lines)

    @flow.step
    def both(event: Item) -> list[Move | Order]:
        return [Order(), Move(account="a", n=0)]

    engine = await rig.start(flow)
    failing = await engine.emit(Item(n=0))
    await until(lambda: trace.lines == ["apply 0"])
    behind = await engine.emit(Move(account="a", n=1))
    assert (await behind.result(20)).status == "completed"
    trace.note("go on")
    assert (await failing.result(20)).status == "failed"


async def test_a_cancelled_run_lets_the_next_of_its_key_go(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("key-cancel")

    @flow.step
    async def apply(event: Move) -> None:
        trace.note(event.n)
        if event.n == 0:
            await asyncio.sleep(60)

    engine = await rig.start(flow)
    first, second, third = await engine.emit_many([Move(account="a", n=n) for n in range(3)])
    await until(lambda: trace.lines == ["0"])
    await second.cancel()
    await first.cancel()
    assert [(await run.result(20)).status for run in (first, second, third)] == ["cancelled", "cancelled", "completed"]
    assert trace.lines == ["0", "2"]


@pytest.mark.parametrize("style", ["async", "async-stream"])
async def test_cancelling_a_run_stops_its_steps_and_frees_their_worker(rig: Rig, trace: Trace, style: str) -> None:
    flow = Pipeline("cancel")

    if style == "async":

        @flow.step(name="work", concurrency=1)
        async def work(event: Order) -> Item:
            trace.note("began")
            await asyncio.sleep(0 if event.n else 60)
            return Item(n=event.n)

    else:

        @flow.step(name="work", concurrency=1)
        async def work_stream(event: Order) -> AsyncIterator[Item]:
            trace.note("began")
            while True:
                yield Item(n=event.n)
                if event.n:
                    return
                await asyncio.sleep(0)

    engine = await rig.start(flow)
    run = await engine.emit(Order(n=0))
    await until(lambda: trace.lines == ["began"])
    waiting = await engine.emit(Order(n=1))
    await run.cancel()
    assert (await run.result(20)).status == "cancelled"
    assert (await waiting.result(20)).events == [Item(n=1)]


async def test_a_run_that_is_over_or_unknown_cannot_be_cancelled(rig: Rig) -> None:
    flow = Pipeline("over")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    await run.result(20)
    with pytest.raises(RunFinished, match="is over: there is nothing to cancel"):
        await run.cancel()
    with pytest.raises(RunUnknown, match="no run has the id"):
        await engine.cancel("01890a5d-ac96-774b-bcce-b302099a8057")


async def test_a_run_that_waits_for_a_retry_can_be_cancelled(rig: Rig) -> None:
    flow = Pipeline("cancel-waiting")

    @flow.step(retry=Retry(wait=3600.0))
    def fail(event: Order) -> None:
        raise ConnectionError("no")

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    reader = engine.reader()
    await until(lambda: (row := reader.run(run.raw_id)) is not None and row.status == 2)
    await run.cancel()
    assert (await run.result(20)).status == "cancelled"


async def test_retrying_a_failed_run_runs_again_only_what_failed_or_never_ran(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-run")

    @flow.step
    def spread(event: Order) -> list[Item]:
        trace.note("spread")
        return [Item(n=n) for n in range(3)]

    @flow.step(retry=1)
    def work(event: Item) -> Big:
        trace.note(f"work {event.n}")
        if event.n == 1 and trace.lines.count("work 1") < 3:
            raise ValueError("not yet")
        return Big(n=event.n)

    @flow.step
    def gather(bigs: list[Big]) -> Total:
        return Total(numbers=sorted(big.n for big in bigs))

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    assert (await run.result(20)).status == "failed"
    again = await engine.retry(run.id)
    assert (await again.result(20)).status == "failed"
    outcome = await (await engine.retry(run.id)).result(20)
    assert (outcome.status, outcome.events, outcome.errors) == ("completed", [Total(numbers=[0, 1, 2])], [])
    assert [trace.lines.count(what) for what in ("spread", "work 0", "work 1", "work 2")] == [1, 1, 3, 1]


async def test_retrying_a_run_keeps_the_errors_that_were_handled(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-handled")

    @flow.step(retry=1)
    def charge(event: Order) -> Item:
        raise ValueError("declined")

    @flow.on_error(charge)
    def ask(failure: StepFailed) -> Big:
        return Big(n=1)

    @flow.step(retry=1)
    def ship(event: Big) -> Total:
        trace.note("ship")
        if len(trace.lines) == 1:
            raise ValueError("no van")
        return Total(numbers=[event.n])

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    assert [e.message for e in (await run.result(20)).errors] == ["declined", "no van"]
    outcome = await (await engine.retry(run.id)).result(20)
    assert (outcome.status, [e.message for e in outcome.errors]) == ("completed", ["declined"])


async def test_only_a_run_that_failed_or_was_cancelled_can_be_retried(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("no-retry")

    @flow.step
    async def work(event: Order) -> Item:
        if event.n:
            await until(lambda: bool(trace.lines))
        return Item(n=event.n)

    engine = await rig.start(flow)
    done, running = await engine.emit_many([Order(n=0), Order(n=1)])
    await done.result(20)
    with pytest.raises(RunFinished, match="has nothing left to retry"):
        await engine.retry(done.id)
    with pytest.raises(RunFinished, match="is in flight"):
        await engine.retry(running.id)
    with pytest.raises(RunUnknown):
        await engine.retry("01890a5d-ac96-774b-bcce-b302099a8057")
    trace.note("go on")
    assert (await running.result(20)).status == "completed"


async def test_a_run_is_retried_once_by_two_who_ask_at_once(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-twice")

    @flow.step(retry=1)
    def work(event: Order) -> Item:
        trace.note("work")
        if len(trace.lines) == 1:
            raise ValueError("no")
        return Item(n=1)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    await run.result(20)
    answers = await asyncio.gather(engine.retry(run.id), engine.retry(run.id), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["RunFinished", "RunHandle"]
    outcome = await (await engine.run(run.id)).result(20)
    assert (outcome.events, trace.lines) == ([Item(n=1)], ["work", "work"])


async def test_a_retry_is_refused_while_another_reads_what_to_retry(
    local: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("retry-reads")

    @flow.step(retry=1)
    def work(event: Order) -> Item:
        raise ValueError("no")

    engine = await local.start(flow)
    run = await engine.emit(Order())
    await run.result(20)
    gate = asyncio.Event()
    read = engine._aside

    async def slowly(function: Callable[..., Any], *arguments: Any) -> Any:
        answer = await read(function, *arguments)
        await gate.wait()
        return answer

    monkeypatch.setattr(engine, "_aside", slowly)
    first = asyncio.create_task(engine.retry(run.id))
    await asyncio.sleep(0)
    with pytest.raises(RunFinished, match="is being retried already"):
        await engine.retry(run.id)
    gate.set()
    assert (await (await first).result(20)).status == "failed"


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
    with pytest.raises(EnsueError, match="is heard by one, two: say which"):
        await engine.emit(Order())


async def test_an_event_that_nothing_hears_is_refused_and_so_is_a_pipeline_that_is_not_served(rig: Rig) -> None:
    flow = Pipeline("deaf")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    with pytest.raises(EventTypeUnknown, match="no pipeline hears 'Stranger'; what is heard here: Order"):
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
    with pytest.raises(EnsueError, match="'what' is no id"):
        await engine.run("what")


async def test_a_result_that_is_late_is_a_timeout_and_the_run_goes_on(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("late")

    @flow.step
    async def work(event: Order) -> Item:
        await until(lambda: bool(trace.lines))
        return Item(n=1)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    with pytest.raises(TimeoutError, match=f"run {run.id} is not over after 0.05 s; it goes on"):
        await run.result(0.05)
    trace.note("go on")
    assert (await run.result(20)).events == [Item(n=1)]


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


async def test_a_stopped_engine_refuses_what_comes(rig: Rig) -> None:
    flow = Pipeline("stopped")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    await rig.stop()
    with pytest.raises(Overloaded, match="the engine is stopped"):
        await engine.emit(Order())
