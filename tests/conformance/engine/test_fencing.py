"""An engine whose store another engine has taken over commits nothing more, and fails the callers that wait."""

import asyncio
from pathlib import Path

import pytest

from ensue import Event, Pipeline
from ensue.cluster.log.open import open_log
from ensue.events.errors import EnsueError

from ..engines import ON_SQLITE, Rig, Trace, until

pytestmark = [ON_SQLITE, pytest.mark.timeout(60)]


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


async def test_a_second_engine_fences_the_first_which_commits_nothing_more(rig: Rig, tmp_path: Path) -> None:
    flow = Pipeline("fenced")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    first = await rig.start(flow)
    await (await first.emit(Order(n=1))).result(20)
    second = await rig.start(flow)
    with pytest.raises(EnsueError, match="is at epoch 2, this owner at 1: it must stop"):
        await first.emit(Order(n=2))
    assert first.state().startswith("failed")
    assert (await (await second.emit(Order(n=3))).result(20)).events == [Item(n=3)]
    log = open_log(rig.store)
    try:
        assert len(log.reader().runs()) == 2
    finally:
        log.close()


async def test_a_caller_that_waits_for_a_result_of_a_failed_engine_gets_the_error(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("fenced-waiting")

    @flow.step
    async def work(event: Order) -> Item:
        await until(lambda: "go on" in trace.lines)
        return Item(n=event.n)

    first = await rig.start(flow)
    run = await first.emit(Order(n=1))
    waiting = asyncio.create_task(run.result(20))
    await asyncio.sleep(0)
    second = await rig.start(flow)
    trace.note("go on")
    with pytest.raises(EnsueError, match="epoch"):
        await waiting
    assert (await (await second.run(run.raw_id)).result(20)).events == [Item(n=1)]
