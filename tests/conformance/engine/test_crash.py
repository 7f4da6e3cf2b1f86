"""After a crash at any moment a run has the same result: nothing is lost, repeated, or out of its key's order."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.client.engine_api import EngineApi
from ensue.actors.local import LocalEngine
from ensue.events.ids import derived_id, format_id
from ensue.events.state.records import EventRecord, unpack_records

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


def event_ids(engine: EngineApi, run_id: bytes) -> list[tuple[str, bytes]]:
    """(type, id) of all events in the log of a run."""
    row = engine.reader().run(run_id)
    assert row is not None
    records = [r for entry in engine.reader().entries(row.run) for r in unpack_records(entry.body)]
    return [(record.type, record.event_id) for record in records if isinstance(record, EventRecord)]


async def test_after_a_crash_the_run_goes_on_and_finished_steps_do_not_run_again(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("resume")

    @flow.step
    def first(event: Order) -> Item:
        trace.note("first")
        return Item(n=event.n)

    @flow.step
    async def second(event: Item, ctx: Context) -> Total:
        trace.note(f"second {ctx.attempt}")
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return Total(numbers=[event.n, ctx.attempt])

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order(n=5))).id
    await until(lambda: len(trace.lines) == 2)
    await rig.crash()
    engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert (outcome.events, trace.lines) == ([Total(numbers=[5, 2])], ["first", "second 1", "second 2"])


async def test_a_generator_that_crashed_half_way_emits_nothing_twice(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("half-way")

    @flow.step
    async def count(event: Order, ctx: Context) -> AsyncIterator[Item]:
        for n in range(20):
            if n == 10 and ctx.attempt == 1:
                trace.note("half")
                await asyncio.sleep(60)
            yield Item(n=n)

    @flow.step
    async def work(event: Item) -> Big:
        trace.note(f"work {event.n}")
        return Big(n=event.n)

    @flow.step
    def gather(bigs: list[Big]) -> Total:
        return Total(numbers=sorted(big.n for big in bigs))

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    run_id = run.raw_id
    await until(lambda: "half" in trace.lines and sum("work" in line for line in trace.lines) == 10)
    await rig.crash()
    engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert outcome.events == [Total(numbers=list(range(20)))]
    ids = event_ids(engine, run_id)
    assert len({event_id for _, event_id in ids}) == len(ids) == 1 + 20 + 20 + 1


async def test_a_step_that_ran_twice_emits_the_same_ids(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    flow = Pipeline("same-ids")

    @flow.step
    async def count(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(5)]

    engine = await rig.start(flow)
    first = await engine.accept("same-ids", Order())
    await (await engine.run(first.run_id)).result(20)
    expected = [("Item", derived_id(first.event_id, "count", index)) for index in range(5)]
    assert event_ids(engine, first.run_id) == [("Order", first.event_id), *expected]


async def test_a_delivery_that_five_engines_died_with_is_given_up(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("killer")

    @flow.step
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        await asyncio.sleep(60)
        return Item(n=1)

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order())).id
    for death in range(1, 6):
        await until(lambda: len(trace.lines) == death)  # noqa: B023 - awaited at once
        await rig.crash()
        engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert (outcome.status, [(e.error, e.kind) for e in outcome.errors]) == ("failed", [("EngineDied", "unknown")])
    assert trace.lines == ["1", "2", "3", "4", "5"]


async def test_after_a_crash_events_of_one_key_still_go_one_at_a_time(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("keys-crash")

    @flow.step
    async def apply(event: Move) -> None:
        trace.note(f"begin {event.n}")
        if "go on" not in trace.lines:
            await asyncio.sleep(60)
        await asyncio.sleep(0.001)
        trace.note(f"end {event.n}")

    engine = await rig.start(flow)
    runs = await engine.emit_many([Move(account="a", n=n) for n in range(4)])
    ids = [run.id for run in runs]
    await until(lambda: trace.lines == ["begin 0"])
    await rig.crash()
    trace.note("go on")
    engine = await rig.start(flow)
    for run_id in ids:
        await (await engine.run(run_id)).result(20)
    assert trace.lines[2:] == [f"{what} {n}" for n in range(4) for what in ("begin", "end")]


async def test_a_crash_at_every_commit_leads_to_the_same_result(rig: Rig, tmp_path: Path) -> None:
    flow = Pipeline("everywhere")

    @flow.step
    def spread(event: Order) -> Iterator[Item]:
        for n in range(3):
            yield Item(n=n)

    @flow.step(retry=Retry(attempts=3, wait=0.5))
    def work(event: Item, ctx: Context) -> Big:
        if event.n == 1 and ctx.attempt == 1:
            raise ConnectionError("once")
        return Big(n=event.n)

    @flow.step
    def other(event: Order) -> Small:
        return Small(n=7)

    @flow.step
    def gather(bigs: list[Big], small: Small) -> Total:
        return Total(numbers=[small.n, *sorted(big.n for big in bigs)])

    for survived in range(1, 40):
        folder = tmp_path / str(survived)
        folder.mkdir()
        mine = Rig("local-sqlite", folder)
        engine = await mine.start(flow)
        assert isinstance(engine, LocalEngine)
        run = await engine.emit(Order())
        raw, over = run.raw_id, False
        waiting = asyncio.ensure_future(run.result(20))
        for _ in range(survived):
            await asyncio.sleep(0)
        over = waiting.done()
        if not over:
            waiting.cancel()
        await mine.crash()
        engine = await mine.start(flow)
        outcome = await (await engine.run(raw)).result(20)
        assert outcome.events == [Total(numbers=[7, 0, 1, 2])], survived
        ids = event_ids(engine, raw)
        assert len({event_id for _, event_id in ids}) == len(ids), format_id(raw)
        await mine.stop()
        if over:
            return
    pytest.fail("the run never came to its end by itself")
