"""A run that is cancelled stops, whatever it was doing, and frees its workers, on every engine."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ensue import Event, Pipeline, Retry
from ensue.events.errors import RunFinished, RunUnknown

from .engines import Rig, Trace, ray_session, rig, trace, until

__all__ = ["ray_session", "rig", "trace"]
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
