"""An event or a run of another code version is upcast, waits, or fails alone."""

import asyncio
from typing import Any

import pytest

from ensue import Context, Event, Pipeline
from ensue.actors.client.engine_api import EngineApi
from ensue.actors.local import LocalEngine
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.decide.inputs import Emit
from ensue.events.errors import RunFinished
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.state.run_status import Status

from ..engines import ON_SQLITE, Rig, Trace, until

pytestmark = [ON_SQLITE, pytest.mark.timeout(60)]


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Big(Event):
    n: int


class Total(Event):
    numbers: list[int]


async def test_an_event_of_an_older_version_in_the_log_is_lifted_by_its_upcaster(rig: Rig, trace: Trace) -> None:
    class Paid(Event, type="paid", version=2):
        cents: int

    @Paid.upcaster(from_version=1)
    def lift(data: dict[str, int]) -> dict[str, int]:
        return {"cents": data["amount"] * 100}

    flow = Pipeline("versions")

    @flow.step
    async def work(event: Paid, ctx: Context) -> Total:
        trace.note("began")
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return Total(numbers=[event.cents, ctx.events(Paid)[0].cents])

    engine = await rig.start(flow)
    raw = uuid7(1, bytes(10))
    engine._backend.post_all([Emit("versions", raw, uuid7(2, bytes(10)), "paid", 1, pack({"amount": 3}))])
    await until(lambda: trace.lines == ["began"])
    await rig.crash()
    engine = await rig.start(flow)
    assert (await (await engine.run(raw)).result(20)).events == [Total(numbers=[300, 300])]


async def test_an_event_of_an_unknown_version_fails_its_run_and_nothing_else(rig: Rig) -> None:
    flow = Pipeline("unknown-version")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await rig.start(flow)
    raw = uuid7(1, bytes(10))
    engine._backend.post_all([Emit("unknown-version", raw, uuid7(2, bytes(10)), "Order", 9, pack({"n": 3}))])
    outcome = await (await engine.run(raw)).result(20) if await known(engine, raw) else None
    assert outcome is not None
    assert (outcome.status, outcome.errors[0].kind) == ("failed", "permanent")
    assert "Order version 9 is newer than this code's version 1" in outcome.errors[0].message
    assert (await (await engine.emit(Order(n=1))).result(20)).events == [Item(n=1)]


async def known(engine: EngineApi, raw: bytes) -> bool:
    reader = engine.reader()
    await until(lambda: reader.run(raw) is not None)
    return True


def code(trace: Trace, *, new: bool) -> Pipeline:
    """A pipeline in two versions; the first attempt of its step hangs."""
    flow = Pipeline("code")

    @flow.step(name="work")
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"work {ctx.attempt}")
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return Item(n=event.n)

    if new:

        @flow.step
        def more(event: Item) -> Big:
            return Big(n=event.n)

    return flow


async def test_a_run_whose_code_is_not_loaded_does_not_keep_a_start_from_its_snapshot(
    rig: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await rig.start(code(trace, new=False))
    old = (await engine.emit(Order(n=4))).raw_id
    await until(lambda: trace.lines == ["work 1"])
    await rig.crash()
    engine = await rig.start(code(trace, new=True))
    assert isinstance(engine, LocalEngine)
    new = (await engine.emit(Order(n=5))).raw_id
    await until(lambda: len(trace.lines) == 2)
    engine._runtime._partition.save_snapshot()
    await rig.crash()
    read, live = list[int](), SqliteLog.live

    def spied(log: SqliteLog, after: int) -> Any:
        read.append(after)
        return live(log, after)

    monkeypatch.setattr(SqliteLog, "live", spied)
    engine = await rig.start(code(trace, new=True))
    assert read[0] > 0, "from where the snapshot ends, not from the beginning"
    assert (await (await engine.run(new)).result(20)).events == [Big(n=5)]
    assert Status(engine.reader().run(old).status) is Status.NEEDS_MIGRATION  # type: ignore[union-attr]
    await rig.stop()
    engine = await rig.start(code(trace, new=False))
    assert (await (await engine.run(old)).result(20)).events == [Item(n=4)]


async def test_a_run_of_a_version_that_is_not_loaded_waits_for_its_code(rig: Rig, trace: Trace) -> None:
    engine = await rig.start(code(trace, new=False))
    run = await engine.emit(Order(n=4))
    raw = run.raw_id
    await until(lambda: trace.lines == ["work 1"])
    await rig.crash()
    engine = await rig.start(code(trace, new=True))
    row = engine.reader().run(raw)
    assert row is not None
    assert Status(row.status) is Status.NEEDS_MIGRATION
    fresh = await engine.emit(Order(n=5))
    await until(lambda: len(trace.lines) == 2)
    await rig.crash()
    assert trace.lines == ["work 1", "work 1"]
    assert fresh.raw_id != raw
    engine = await rig.start(code(trace, new=False))
    assert (await (await engine.run(raw)).result(20)).events == [Item(n=4)]


async def test_a_run_of_a_version_that_is_not_loaded_can_be_cancelled_once(rig: Rig, trace: Trace) -> None:
    engine = await rig.start(code(trace, new=False))
    raw = (await engine.emit(Order(n=4))).raw_id
    await until(lambda: trace.lines == ["work 1"])
    await rig.crash()
    engine = await rig.start(code(trace, new=True))
    results = await asyncio.gather(*(engine.cancel(raw, who="me") for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [RunFinished, RunFinished]
    row = engine.reader().run(raw)
    assert row is not None
    assert Status(row.status) is Status.CANCELLED
    audited = [(line.who, line.action, line.detail) for line in engine.reader().audit()]
    assert audited == [("me", "run cancel", "its version is not loaded here: no compensation was run")]
    await rig.crash()
    engine = await rig.start(code(trace, new=False))
    outcome = await (await engine.run(raw)).result(20)
    assert (outcome.status, trace.lines) == ("cancelled", ["work 1"])
