"""Events of one key are handled one at a time and in order, however earlier ones end, on every engine."""

import asyncio

import pytest

from ensue import Context, Event, Pipeline, Retry

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Move(Event, key="account"):
    account: str
    n: int


class Item(Event):
    n: int


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
