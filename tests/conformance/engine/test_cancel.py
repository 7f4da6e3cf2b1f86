"""A cancelled run stops, whatever it was doing, and frees its workers, on every engine."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ensue import Event, Pipeline, Retry
from ensue.events.errors import RunFinished, RunUnknown

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


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


async def test_a_pivot_is_let_end_although_its_run_is_cancelled(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    flow = Pipeline("cancel-pivot")
    gate = str(tmp_path / "gate")

    @flow.step(pivot=True)
    async def pay(event: Order) -> Item:
        trace.note("began")
        while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 - another process lets it go
            await asyncio.sleep(0.01)
        trace.note("paid")
        return Item(n=event.n)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    await until(lambda: trace.lines == ["began"])
    await run.cancel()
    Path(gate).touch()  # noqa: ASYNC240 - a test
    outcome = await run.result(20)
    assert (outcome.status, outcome.events, trace.lines) == ("completed", [Item(n=0)], ["began", "paid"])
