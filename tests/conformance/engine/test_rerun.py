"""A retried run repeats only what failed or never ran, and only one caller can retry it, on every engine."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ensue import Event, Pipeline, StepFailed
from ensue.events.errors import RunFinished, RunUnknown

from ..engines import Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Big(Event):
    n: int


class Total(Event):
    numbers: list[int]


async def test_retrying_a_failed_run_runs_again_only_what_failed_or_never_ran(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-run")

    @flow.step
    def spread(event: Order) -> list[Item]:
        trace.note("spread")
        return [Item(n=n) for n in range(3)]

    @flow.step(retry=1)
    def work(event: Item) -> Big:
        trace.note(f"work {event.n}")
        if event.n == 1 and trace.lines.count("work 1") < 3:
            raise ValueError("not yet")
        return Big(n=event.n)

    @flow.step
    def gather(bigs: list[Big]) -> Total:
        return Total(numbers=sorted(big.n for big in bigs))

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    assert (await run.result(20)).status == "failed"
    again = await engine.retry(run.id)
    assert (await again.result(20)).status == "failed"
    outcome = await (await engine.retry(run.id)).result(20)
    assert (outcome.status, outcome.events, outcome.errors) == ("completed", [Total(numbers=[0, 1, 2])], [])
    assert [trace.lines.count(what) for what in ("spread", "work 0", "work 1", "work 2")] == [1, 1, 3, 1]


async def test_retrying_a_run_keeps_the_errors_that_were_handled(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-handled")

    @flow.step(retry=1)
    def charge(event: Order) -> Item:
        raise ValueError("declined")

    @flow.on_error(charge)
    def ask(failure: StepFailed) -> Big:
        return Big(n=1)

    @flow.step(retry=1)
    def ship(event: Big) -> Total:
        trace.note("ship")
        if len(trace.lines) == 1:
            raise ValueError("no van")
        return Total(numbers=[event.n])

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    assert [e.message for e in (await run.result(20)).errors] == ["declined", "no van"]
    outcome = await (await engine.retry(run.id)).result(20)
    assert (outcome.status, [e.message for e in outcome.errors]) == ("completed", ["declined"])


async def test_only_a_run_that_failed_or_was_cancelled_can_be_retried(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("no-retry")

    @flow.step
    async def work(event: Order) -> Item:
        if event.n:
            await until(lambda: bool(trace.lines))
        return Item(n=event.n)

    engine = await rig.start(flow)
    done, running = await engine.emit_many([Order(n=0), Order(n=1)])
    await done.result(20)
    with pytest.raises(RunFinished, match="has nothing left to retry"):
        await engine.retry(done.id)
    with pytest.raises(RunFinished, match="is in flight"):
        await engine.retry(running.id)
    with pytest.raises(RunUnknown):
        await engine.retry("01890a5d-ac96-774b-bcce-b302099a8057")
    trace.note("go on")
    assert (await running.result(20)).status == "completed"


async def test_a_run_is_retried_once_by_two_who_ask_at_once(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("retry-twice")

    @flow.step(retry=1)
    def work(event: Order) -> Item:
        trace.note("work")
        if len(trace.lines) == 1:
            raise ValueError("no")
        return Item(n=1)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    await run.result(20)
    answers = await asyncio.gather(engine.retry(run.id), engine.retry(run.id), return_exceptions=True)
    assert sorted(type(answer).__name__ for answer in answers) == ["RunFinished", "RunHandle"]
    outcome = await (await engine.run(run.id)).result(20)
    assert (outcome.events, trace.lines) == ([Item(n=1)], ["work", "work"])


async def test_a_retry_is_refused_while_another_reads_what_to_retry(
    local: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("retry-reads")

    @flow.step(retry=1)
    def work(event: Order) -> Item:
        raise ValueError("no")

    engine = await local.start(flow)
    run = await engine.emit(Order())
    await run.result(20)
    gate = asyncio.Event()
    read = engine._backend.read

    async def slowly(function: Callable[..., Any], *arguments: Any) -> Any:
        answer = await read(function, *arguments)
        await gate.wait()
        return answer

    monkeypatch.setattr(engine._backend, "read", slowly)
    first = asyncio.create_task(engine.retry(run.id))
    await asyncio.sleep(0)
    with pytest.raises(RunFinished, match="is being retried already"):
        await engine.retry(run.id)
    gate.set()
    assert (await (await first).result(20)).status == "failed"
