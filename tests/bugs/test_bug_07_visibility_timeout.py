"""Bug 7: a visibility timeout delivers long work again while it still runs.

Seen: Celery 5935: a task that took longer than the broker's visibility timeout was delivered to another worker, and to
another, each while the others still ran.

Mutant: `Executor.heartbeat` (actors/worker/executor.py) does nothing; tried 2026-11-21: red.
Mutant: `SeenDeliveries.missing` (actors/worker/seen_deliveries.py) calls everything missing that it is asked for;
tried 2026-11-21: red.
"""

import asyncio
import time

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.local import LocalEngine
from ensue.events.decide.core import Limits

from ..conformance.engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)
OFTEN = Limits(inquiry_seconds=0.05)
"""Workers are asked after what they have this often, so many inquiries fall into a step."""
DAY_SECONDS = 86_400.0


class Order(Event):
    pass


class Item(Event):
    n: int


async def test_a_step_that_works_three_times_its_time_out_with_heartbeats_runs_once(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("long")

    @flow.step(timeout=0.5, retry=Retry(attempts=5, wait=0.01), replicas=2)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"begins, attempt {ctx.attempt}")
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            await asyncio.sleep(0.05)  # the work
            ctx.heartbeat()
        return Item(n=ctx.attempt)

    engine = await rig.start(flow, limits=OFTEN)
    outcome = await (await engine.emit(Order())).result(20)
    assert (outcome.status, outcome.events) == ("completed", [Item(n=1)])
    assert trace.lines == ["begins, attempt 1"]


async def test_a_step_that_works_for_days_is_given_to_nobody_else_meanwhile(trace: Trace) -> None:
    flow = Pipeline("days")

    @flow.step(timeout=30 * DAY_SECONDS, replicas=2)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"begins, attempt {ctx.attempt}")
        await until(lambda: "go on" in trace.lines)
        return Item(n=ctx.attempt)

    async with LocalEngine(flow) as engine:
        run = await engine.emit(Order())
        await until(lambda: len(trace.lines) == 1)
        for _ in range(50):
            engine.advance(DAY_SECONDS / 10)
            await asyncio.sleep(0)  # one turn of the loop, in which the partition asks and the worker answers
        trace.note("go on")
        outcome = await run.result(20)
    assert (outcome.status, outcome.events) == ("completed", [Item(n=1)])
    assert trace.lines == ["begins, attempt 1", "go on"]
