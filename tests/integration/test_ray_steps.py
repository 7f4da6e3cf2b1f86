"""Steps that hang, crash or block in their worker process: what happens to them, and that no other step is affected."""

import asyncio
import ctypes
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ensue import Context, Engine, Event, Pipeline, Retry, StepFailed
from ensue.actors.pool import worker_pool, worker_processes
from ensue.actors.worker import log_queries as asking
from ensue.events.errors import PipelineInvalid

from ..conformance.engines import Rig, Trace, by_value, make_rig, until

pytestmark = pytest.mark.timeout(60)
MIB = 1024 * 1024
HANGS_SECONDS = 600.0
SOON = Retry(attempts=5, wait=0.05)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Total(Event):
    numbers: list[int]


class Mended(Event):
    text: str


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def test_a_sync_step_that_hangs_loses_its_process_and_its_neighbours_lose_nothing(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("hangs")

    @flow.step(timeout=1.0, retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        trace.note(f"{event.n} {ctx.attempt} {os.getpid()}")
        if event.n == 0 and ctx.attempt == 1:
            threading.Event().wait(HANGS_SECONDS)
        if event.n == 1 and len({line.split()[2] for line in trace.lines}) == 1:
            time.sleep(0.9)
        return Item(n=event.n * 10 + ctx.attempt)

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(20)])
    results = [(await run.result(30)).event for run in runs]
    assert results[0] == Item(n=2)
    assert results[2:] == [Item(n=n * 10 + 1) for n in range(2, 20)]
    assert len({line.split()[2] for line in trace.lines}) == 2


async def test_a_sync_step_that_always_hangs_fails_with_a_timeout(rig: Rig) -> None:
    flow = Pipeline("always-hangs")

    @flow.step(timeout=0.3, retry=Retry(attempts=2, wait=0.0))
    def work(event: Order) -> Item:
        threading.Event().wait(HANGS_SECONDS)
        return Item(n=0)

    outcome = await rig.run(flow, Order())
    assert (outcome.status, [(e.kind, e.message) for e in outcome.errors]) == (
        "failed",
        [("timeout", "did not return within 0.3 s; its process was ended")],
    )


async def test_an_async_step_that_blocks_its_loop_loses_its_process(rig: Rig) -> None:
    flow = Pipeline("blocks")

    @flow.step(timeout=0.3, retry=SOON)
    async def work(event: Order, ctx: Context) -> Item:
        if ctx.attempt == 1:
            threading.Event().wait(HANGS_SECONDS)
        return Item(n=ctx.attempt)

    assert (await rig.run(flow, Order())).events == [Item(n=2)]


async def test_an_async_step_that_swallows_its_cancellation_loses_its_process(rig: Rig) -> None:
    flow = Pipeline("swallows")

    @flow.step(timeout=0.3, retry=SOON)
    async def work(event: Order, ctx: Context) -> Item:
        while ctx.attempt == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue
        return Item(n=ctx.attempt)

    assert (await rig.run(flow, Order())).events == [Item(n=2)]


async def test_a_cancelled_run_whose_step_never_returns_does_not_hold_its_worker_for_ever(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("cancelled-hang")

    @flow.step(timeout=0.5, concurrency=1)
    def work(event: Order) -> Item:
        trace.note("began")
        if event.n == 0:
            threading.Event().wait(HANGS_SECONDS)
        return Item(n=event.n)

    engine = await rig.start(flow)
    hanging = await engine.emit(Order(n=0))
    await until(lambda: trace.lines == ["began"])
    await hanging.cancel()
    assert (await (await engine.emit(Order(n=1))).result(20)).events == [Item(n=1)]


async def test_a_generator_that_is_cancelled_frees_its_thread(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("cancelled-generator")

    @flow.step(concurrency=1)
    def work(event: Order) -> Iterator[Item]:
        trace.note("began")
        yield Item(n=event.n)
        while event.n == 0:
            yield Item(n=event.n)

    engine = await rig.start(flow)
    endless = await engine.emit(Order(n=0))
    await until(lambda: trace.lines == ["began"])
    await endless.cancel()
    assert (await (await engine.emit(Order(n=1))).result(20)).events == [Item(n=1)]


@pytest.mark.parametrize("how", ["exit", "segfault"])
async def test_a_step_whose_process_dies_is_tried_again_in_another(rig: Rig, how: str) -> None:
    flow = Pipeline("dies")

    @flow.step(retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        if ctx.attempt == 1 and how == "exit":
            os._exit(1)
        if ctx.attempt == 1:
            ctypes.string_at(0)
        return Item(n=ctx.attempt)

    assert (await rig.run(flow, Order())).events == [Item(n=2)]


async def test_one_poisonous_event_among_two_hundred_fails_alone_after_three_deaths(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("poison")

    @flow.step(retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        if event.n == 77:
            trace.note(f"poison {ctx.attempt}")
            os._exit(1)
        return Item(n=event.n)

    @flow.on_error(work)
    def mend(failure: StepFailed) -> Mended:
        return Mended(text=f"{failure.kind} {failure.error} {failure.attempts}")

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(200)])
    results = [(await run.result(50)).event for run in runs]
    assert results.pop(77) == Mended(text="unknown WorkerDied 3")
    assert results == [Item(n=n) for n in range(200) if n != 77]
    assert trace.lines == ["poison 1", "poison 2", "poison 3"]


async def test_a_step_that_eats_all_its_memory_is_tried_twice(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("hungry")

    @flow.step(memory=64 * MIB, retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        food = [bytearray(16 * MIB) for _ in range(event.n)]
        return Item(n=len(food))

    engine = await rig.start(flow)
    hungry, modest = await engine.emit_many([Order(n=100), Order(n=1)])
    outcome = await hungry.result(20)
    assert (outcome.status, [(e.kind, e.error) for e in outcome.errors]) == ("failed", [("resource", "MemoryError")])
    assert sorted(trace.lines) == ["1", "1", "2"]
    assert (await modest.result(20)).events == [Item(n=1)]


async def test_a_worker_that_says_nothing_for_too_long_is_ended_and_its_attempt_counts(
    rig: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "_MAX_SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(worker_pool, "_CHECK_SECONDS", 0.2)
    flow = Pipeline("silent")

    @flow.step(retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        if ctx.attempt == 1:
            ctypes.PyDLL(None).sleep(30)  # holds the interpreter's lock, so that no thread of the worker can speak
        return Item(n=ctx.attempt)

    outcome = await rig.run(flow, Order())
    assert (outcome.events, trace.lines) == ([Item(n=2)], ["1", "2"])


async def test_events_of_a_step_whose_constructor_always_raises_fail_with_its_error(rig: Rig) -> None:
    flow = Pipeline("broken")

    @flow.step
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("no such model")

        def __call__(self, event: Order) -> Item:
            return Item(n=1)

    @flow.step
    def fine(event: Item) -> Total:
        return Total(numbers=[event.n])

    engine = await rig.start(flow)
    assert engine.state() == "ready"
    outcome = await (await engine.emit(Order())).result(20)
    assert (outcome.status, outcome.errors[0].error) == ("failed", "StepBroken")
    assert "no worker of step Broken starts (5 times in a row)" in outcome.errors[0].message
    assert "RuntimeError: no such model" in outcome.errors[0].message
    assert (await (await engine.emit(Item(n=2))).result(20)).events == [Total(numbers=[2])]


async def test_a_constructor_that_fails_only_at_first_is_tried_again_until_it_works(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("slow-start")

    @flow.step
    class Late:
        def __init__(self) -> None:
            trace.note("try")
            if len(trace.lines) < 3:
                raise ConnectionError("database is starting")

        def __call__(self, event: Order) -> Item:
            return Item(n=len(trace.lines))

    assert (await rig.run(flow, Order())).events == [Item(n=3)]


async def test_a_step_that_cannot_be_pickled_stops_the_start_with_what_to_do(rig: Rig) -> None:
    flow = Pipeline("unpicklable")
    lock = threading.Lock()

    @flow.step
    def work(event: Order) -> Item:
        with lock:
            return Item(n=1)

    with pytest.raises(PipelineInvalid, match=r"step work cannot be sent to a worker.*lock.*inside the step"):
        await rig.start(flow)


async def test_a_slow_event_holds_back_no_fast_one_of_its_batch(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("slow-in-batch")

    @flow.step
    def work(event: Order) -> Item:
        while event.n == 0 and not trace.lines:
            time.sleep(0.01)
        return Item(n=event.n)

    engine = await rig.start(flow)
    slow, *quick = await engine.emit_many([Order(n=n) for n in range(300)])
    assert [(await run.result(20)).event for run in quick] == [Item(n=n) for n in range(1, 300)]
    trace.note("go on")
    assert (await slow.result(20)).events == [Item(n=0)]


async def test_replicas_share_the_work(rig: Rig) -> None:
    flow = Pipeline("shares")

    @flow.step(replicas=2, concurrency=1)
    def work(event: Order) -> Item:
        time.sleep(0.02)
        return Item(n=os.getpid())

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(40)])
    pids = [getattr((await run.result(20)).event, "n", 0) for run in runs]
    assert len(set(pids)) == 2
    assert min(pids.count(pid) for pid in set(pids)) > 5


async def test_workers_that_ray_has_no_room_for_are_named_and_the_others_work(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_pool, "_NO_PROGRESS_SECONDS", 2.0)
    flow = Pipeline("claims")

    @flow.step(replicas=3, num_cpus=2, concurrency=1)
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await rig.start(flow)
    assert isinstance(engine, Engine)
    assert (await (await engine.emit(Order())).result(20)).status == "completed"
    await until(lambda: sum(worker["up"] for worker in engine.workers()) == 2)
    assert "step work of pipeline claims lacks workers" in caplog.text


async def test_a_stop_in_the_middle_counts_no_attempt_and_a_start_goes_on(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("stop-midway")

    @flow.step(concurrency=1)
    def work(event: Order, ctx: Context) -> Item:
        trace.note(f"{event.n} {ctx.attempt}")
        time.sleep(0.05)
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    ids = [run.id for run in await engine.emit_many([Order(n=n) for n in range(30)])]
    await until(lambda: len(trace.lines) >= 3)
    await rig.stop(grace_seconds=10)
    assert len(trace.lines) < 30
    engine = await rig.start(flow)
    outcomes = [await (await engine.run(run_id)).result(20) for run_id in ids]
    assert [(o.status, o.events) for o in outcomes] == [("completed", [Item(n=1)])] * 30
    assert sorted(trace.lines) == sorted(f"{n} 1" for n in range(30))


async def test_a_question_that_cannot_be_answered_fails_the_step_that_asked_and_nobody_else(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("asks")

    @flow.step(retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        return Item(n=len(ctx.events(Order)))

    engine = await rig.start(flow)
    assert isinstance(engine, Engine)
    with monkeypatch.context() as patch:
        patch.setattr(asking, "MAX_MESSAGE_BYTES", 10)
        outcome = await (await engine.emit(Order())).result(20)
    assert (outcome.status, [(e.error, e.attempts) for e in outcome.errors]) == ("failed", [("CodecError", 1)])
    assert "earlier events of type Order cannot be read" in outcome.errors[0].message
    assert (await (await engine.emit(Order())).result(20)).events == [Item(n=1)]
    assert [child["restarts"] for child in engine.tree()["children"] if child["kind"] == "partition"] == [0]


async def test_the_interpreter_of_a_worker_outlives_a_step_that_exits(rig: Rig) -> None:
    flow = Pipeline("leaves")

    @flow.step(retry=SOON)
    def work(event: Order, ctx: Context) -> Item:
        if ctx.attempt < 3:
            sys.exit(1)
        return Item(n=os.getpid())

    engine = await rig.start(flow)
    assert isinstance(engine, Engine)
    outcome = await (await engine.emit(Order())).result(20)
    assert outcome.events == [Item(n=engine.workers()[0]["pid"])]
