"""A restarted engine knows what the one before knew: what has ended, waits, never began, or was sent."""

import asyncio
from contextlib import closing

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.local import LocalEngine
from ensue.cluster.log.open import open_log
from ensue.events.errors import DeliveryConflict
from ensue.events.state.run_status import Status

from ..engines import ON_SQLITE, Rig, Trace, until

pytestmark = [ON_SQLITE, pytest.mark.timeout(60)]


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Move(Event, key="account"):
    account: str
    n: int


class Big(Event):
    n: int


class Small(Event):
    n: int


class Total(Event):
    numbers: list[int]


@pytest.mark.parametrize("ending", ["crash", "stop"])
async def test_a_join_and_a_gathering_keep_what_has_come_so_far(rig: Rig, trace: Trace, ending: str) -> None:
    flow = Pipeline("keeps")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(4)]

    @flow.step
    def left(event: Item) -> Big:
        return Big(n=event.n)

    @flow.step(retry=Retry(wait=1.0))
    async def right(event: Item, ctx: Context) -> Small:
        if ctx.attempt == 1 and event.n % 2:
            trace.note("fails")
            raise ConnectionError("later")
        return Small(n=event.n)

    @flow.step
    def pair(big: Big, small: Small) -> Move:
        return Move(account="x", n=big.n * 10 + small.n)

    @flow.step
    def gather(moves: list[Move]) -> Total:
        return Total(numbers=sorted(move.n for move in moves))

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order())).id
    await until(lambda: len(trace.lines) == 2)
    assert isinstance(engine, LocalEngine)
    await engine.idle()
    await (rig.crash() if ending == "crash" else rig.stop())
    engine = await rig.start(flow)
    assert (await (await engine.run(run_id)).result(20)).events == [Total(numbers=[0, 11, 22, 33])]


async def test_what_ended_after_the_last_snapshot_stays_over(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("snapshots")

    @flow.step
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"work {event.n}")
        if event.n and "go on" not in trace.lines:
            await asyncio.sleep(60)
        return Item(n=event.n)

    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    stays, ends = await engine.emit_many([Order(n=1), Order(n=2)])
    await until(lambda: len(trace.lines) == 2)
    engine._runtime._partition.save_snapshot()
    await ends.cancel()
    ends_id, stays_id = ends.id, stays.id
    await rig.crash()
    trace.note("go on")
    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    assert (await (await engine.run(stays_id)).result(20)).events == [Item(n=1)]
    assert (await (await engine.run(ends_id)).result(20)).status == "cancelled"
    await engine.idle()
    assert trace.lines == ["work 1", "work 2", "go on", "work 1"]


async def test_a_run_that_waits_for_its_retry_still_waits_after_a_restart(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("still-waits")

    @flow.step(retry=Retry(wait=3600.0))
    def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("no")
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    run_id, reader = run.raw_id, engine.reader()
    await until(lambda: (row := reader.run(run_id)) is not None and row.status == Status.WAITING)
    await rig.crash()
    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    await engine.idle()
    assert trace.lines == ["1"]
    assert (await (await engine.run(run_id)).result(20)).events == [Item(n=2)]


async def test_a_run_that_waits_no_more_is_shown_as_running_though_no_worker_is_free(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("shown")

    @flow.step(retry=Retry(wait=60.0), concurrency=1)
    async def work(event: Order) -> Item:
        if event.n == 1:
            raise ConnectionError("no")
        trace.note("busy")
        await asyncio.sleep(60)
        return Item(n=event.n)

    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    run = await engine.emit(Order(n=1))
    reader = engine.reader()

    def status() -> Status:
        row = reader.run(run.raw_id)
        assert row is not None
        return Status(row.status)

    await until(lambda: status() == Status.WAITING)
    await engine.emit(Order(n=2))
    await until(lambda: trace.lines == ["busy"])
    engine.advance(61)
    await until(lambda: status() == Status.RUNNING)
    await rig.crash()


async def test_a_stop_hands_back_what_did_not_begin_and_counts_no_attempt(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("hand-back")

    @flow.step(concurrency=1)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"{event.n} {ctx.attempt}")
        if event.n == 0:
            await asyncio.sleep(0.05)
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(5)])
    ids = [run.id for run in runs]
    await until(lambda: trace.lines == ["0 1"])
    await rig.stop()
    assert trace.lines == ["0 1"]
    engine = await rig.start(flow)
    assert [(await (await engine.run(run_id)).result(20)).events for run_id in ids] == [[Item(n=1)]] * 5


async def test_a_sender_s_id_is_remembered_over_a_restart(rig: Rig) -> None:
    flow = Pipeline("remembers")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    first = await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"x")
    await rig.crash()
    engine = await rig.start(flow)
    again = await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"x")
    assert again == (first.event_id, first.run_id, True)
    with pytest.raises(DeliveryConflict):
        await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"y")


@pytest.mark.parametrize(("ending", "left"), [("crash", "local"), ("stop", "")])
async def test_an_engine_that_stopped_in_order_has_given_its_log_back(rig: Rig, ending: str, left: str) -> None:
    flow = Pipeline("leaves")

    @flow.step
    def work(event: Order) -> None: ...

    engine = await rig.start(flow)
    await (rig.crash() if ending == "crash" else rig.stop())
    with closing(open_log(engine.store)) as log:
        assert log.owner() == (1, left)
