"""Functions and classes as steps, and what the Context offers, on every engine."""

import asyncio
from collections.abc import Iterator

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.engine import Engine
from ensue.actors.local import LocalEngine

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Seen(Event):
    run_id: str
    event_id: str
    attempt: int
    key: str
    seconds_left: float


class Total(Event):
    numbers: list[int]


async def test_a_step_class_is_constructed_once_a_worker_and_closed_on_stop(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("model")

    @flow.step
    class Model:
        def __init__(self) -> None:
            trace.note("open")
            self.calls = 0

        def __call__(self, event: Order) -> Item:
            self.calls += 1
            return Item(n=self.calls)

        def close(self) -> None:
            trace.note("close")

    engine = await rig.start(flow)
    for _ in range(2):
        await (await engine.emit(Order())).result(20)
    outcome = await (await engine.emit(Order())).result(20)
    await rig.stop()
    assert (outcome.events, trace.lines) == ([Item(n=3)], ["open", "close"])


async def test_an_async_step_class_is_closed_in_its_own_loop(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("connection")

    @flow.step
    class Connection:
        async def __call__(self, event: Order) -> Item:
            self.loop = asyncio.get_running_loop()
            return Item(n=event.n)

        async def close(self) -> None:
            trace.note("same" if asyncio.get_running_loop() is self.loop else "other")

    engine = await rig.start(flow)
    await (await engine.emit(Order())).result(20)
    await rig.stop()
    assert trace.lines == ["same"]


async def test_a_sync_step_class_may_have_an_async_close(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("mixed-close")

    @flow.step
    class Mixed:
        def __call__(self, event: Order) -> Item:
            return Item(n=event.n)

        async def close(self) -> None:
            trace.note("closed")

    engine = await rig.start(flow)
    await (await engine.emit(Order())).result(20)
    await rig.stop()
    assert trace.lines == ["closed"]


async def test_a_close_that_raises_loses_no_result(rig: Rig) -> None:
    flow = Pipeline("bad-close")

    @flow.step
    class Bad:
        def __call__(self, event: Order) -> Item:
            return Item(n=event.n)

        def close(self) -> None:
            raise RuntimeError("already gone")

    engine = await rig.start(flow)
    outcome = await (await engine.emit(Order(n=1))).result(20)
    await rig.stop()
    assert (outcome.events, engine.state()) == ([Item(n=1)], "stopped")


async def test_replicas_are_workers_of_their_own(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("replicas")

    @flow.step(replicas=2)
    class Model:
        def __init__(self) -> None:
            trace.note("open")

        def __call__(self, event: Order) -> None:
            return None

    assert (await rig.run(flow, Order())).status == "completed"
    assert trace.lines == ["open", "open"]


async def test_the_context_names_the_run_the_event_and_the_attempt(rig: Rig) -> None:
    flow = Pipeline("context")

    @flow.step(timeout=30)
    def look(event: Order, ctx: Context) -> Seen:
        left = ctx.deadline - now_of(ctx)
        return Seen(
            run_id=ctx.run_id, event_id=ctx.event_id, attempt=ctx.attempt, key=ctx.idempotency_key, seconds_left=left
        )

    def now_of(ctx: Context) -> float:
        return ctx.deadline - 30.0

    engine = await rig.start(flow)
    accepted = await engine.accept("context", Order())
    outcome = await (await engine.run(accepted.run_id)).result(20)
    seen = outcome.event
    assert isinstance(seen, Seen)
    assert (seen.run_id, seen.attempt, len(seen.key)) == (outcome.run_id, 1, 32)
    assert seen.event_id.replace("-", "") == accepted.event_id.hex()


async def test_the_idempotency_key_is_the_same_on_every_attempt_and_another_for_another_event(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("idempotency")

    @flow.step(retry=Retry(attempts=3, wait=0.01))
    def flaky(event: Order, ctx: Context) -> None:
        trace.note(f"{event.n} {ctx.attempt} {ctx.idempotency_key}")
        if ctx.attempt < 3:
            raise ConnectionError("not yet")

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=1), Order(n=2)])
    assert [(await run.result(20)).status for run in runs] == ["completed"] * 2
    tries = [line.split() for line in trace.lines]
    assert sorted((n, attempt) for n, attempt, _ in tries) == [(n, a) for n in "12" for a in "123"]
    assert len({key for n, _, key in tries if n == "1"}) == len({key for n, _, key in tries if n == "2"}) == 1
    assert len({key for _, _, key in tries}) == 2


async def test_a_step_may_read_the_earlier_events_of_its_run(rig: Rig) -> None:
    flow = Pipeline("history")

    @flow.step
    def spread(event: Order) -> Iterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    @flow.step
    def gather(items: list[Item], ctx: Context) -> Total:
        return Total(numbers=[ctx.events(Order)[0].n, len(ctx.events(Item)), len(ctx.events(Total))])

    assert (await rig.run(flow, Order(n=3))).events == [Total(numbers=[3, 3, 0])]


async def test_an_async_step_may_read_the_earlier_events_of_its_run(rig: Rig) -> None:
    flow = Pipeline("async-history")

    @flow.step
    async def look(event: Order, ctx: Context) -> Total:
        return Total(numbers=[order.n for order in ctx.events(Order)])

    assert (await rig.run(flow, Order(n=3))).events == [Total(numbers=[3])]


async def test_what_a_step_logs_reaches_the_engine(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    flow = Pipeline("logging")

    @flow.step
    def talk(event: Order, ctx: Context) -> None:
        ctx.log.warning("low stock", left=event.n)

    caplog.set_level("INFO", "ensue.steps")
    engine = await rig.start(flow)
    outcome = await (await engine.emit(Order(n=2))).result(20)
    if isinstance(engine, LocalEngine):
        await engine.idle()
        assert [line[:4] for line in engine.log_lines] == [["warning", "low stock", {"left": 2}, "talk"]]
    else:
        await until(lambda: f"talk: low stock left=2 run={outcome.run_id} attempt=1" in caplog.text)


async def test_whatever_a_step_logs_fails_no_step(rig: Rig) -> None:
    flow = Pipeline("odd-log")

    @flow.step(retry=1)
    def talk(event: Order, ctx: Context) -> Item:
        ctx.log.info("a name \udcff", number=10**30, thing=object(), text="\udcff", none=None)
        return Item(n=1)

    assert (await rig.run(flow, Order())).events == [Item(n=1)]


async def test_progress_shows_while_a_step_runs_and_is_forgotten_with_its_run(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("progress")

    @flow.step
    async def work(event: Order, ctx: Context) -> None:
        ctx.progress(1, 4)
        await until(lambda: bool(trace.lines))

    engine = await rig.start(flow)
    assert isinstance(engine, Engine | LocalEngine)
    run = await engine.emit(Order())
    await until(lambda: engine.progress == {(run.raw_id, "work"): (1, 4)})
    trace.note("go on")
    await run.result(20)
    assert engine.progress == {}


async def test_what_a_step_says_of_its_progress_after_its_run_was_cancelled_is_not_kept(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("late-progress")

    @flow.step(concurrency=1)
    async def work(event: Order, ctx: Context) -> None:
        trace.note("began")
        try:
            await asyncio.sleep(0 if event.n else 60)
        except asyncio.CancelledError:
            ctx.progress(3, 4)
            raise

    engine = await rig.start(flow)
    assert isinstance(engine, Engine | LocalEngine)
    run = await engine.emit(Order(n=0))
    await until(lambda: trace.lines == ["began"])
    await run.cancel()
    await (await engine.emit(Order(n=1))).result(20)  # by then the worker has said all it had to say of the first
    assert engine.progress == {}


async def test_without_a_heartbeat_an_async_step_is_cancelled_at_its_timeout(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("overdue")

    @flow.step(timeout=0.3, retry=Retry(attempts=2, wait=0.01))
    async def hang(event: Order) -> Item:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            trace.note("cancelled")
            raise
        return Item(n=1)

    outcome = await rig.run(flow, Order())
    assert (outcome.status, trace.lines) == ("failed", ["cancelled"] * 2)
    assert [(e.step, e.kind, e.error) for e in outcome.errors] == [("hang", "timeout", "TimeoutError")]


async def test_one_slow_event_holds_back_no_other(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("slow-one")

    @flow.step
    async def work(event: Order) -> Item:
        if event.n == 0:
            await until(lambda: bool(trace.lines))
        return Item(n=event.n)

    engine = await rig.start(flow)
    slow, *quick = await engine.emit_many([Order(n=n) for n in range(50)])
    assert [(await run.result(20)).event for run in quick] == [Item(n=n) for n in range(1, 50)]
    trace.note("go on")
    assert (await slow.result(20)).event == Item(n=0)
