"""Errors are data: a failure reaches its handler, is passed on to later steps, and is in the outcome."""

from contextlib import closing

import pytest

from ensue import BreakerOpened, Context, Event, GiveUp, Pipeline, Retry, StepFailed
from ensue.actors.client.engine_api import EngineApi
from ensue.events.state.transitions import TRACES_KEPT
from ensue.events.views.run_history import read_history

from ..engines import SECONDS, Rig, Trace, until

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int


class Charged(Event):
    n: int


class Owing(Event):
    n: int


class Shipped(Event):
    why: list[str]


async def test_an_error_that_was_handled_goes_along_to_later_steps(rig: Rig) -> None:
    flow = Pipeline("recovering")

    @flow.step(retry=Retry(attempts=2, wait=0.0))
    def charge(event: Order, ctx: Context) -> Charged:
        assert ctx.errors == ()
        raise ConnectionError("the bank is down")

    @flow.on_error(charge)
    def trust(failure: StepFailed, ctx: Context) -> Owing:
        assert [error.step for error in ctx.errors] == ["charge"]
        return Owing(n=failure.data["n"])

    @flow.step
    def ship(event: Owing | Charged, ctx: Context) -> Shipped:
        return Shipped(why=[f"{e.step} {e.kind} {e.error} {e.message} {e.attempts} {e.handled}" for e in ctx.errors])

    outcome = await rig.run(flow, Order(n=3))
    assert outcome.status == "completed"
    assert outcome.events == [Shipped(why=["charge transient ConnectionError the bank is down 2 True"])]
    [error] = outcome.errors
    assert (error.step, error.attempts, error.handled) == ("charge", 2, True)
    assert "ConnectionError: the bank is down" in error.trace
    assert len(error.event_id) == 36


async def test_one_handler_hears_some_steps_and_another_all_others(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("handlers")
    path = trace.path

    def note(text: str) -> None:
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 - a step runs in another process
            file.write(f"{text}\n")

    @flow.step(retry=1)
    def left(event: Order) -> Charged:
        raise ValueError("left")

    @flow.step(retry=1)
    def right(event: Order) -> Charged:
        raise ValueError("right")

    @flow.step(retry=1)
    def middle(event: Order) -> Charged:
        raise ValueError("middle")

    @flow.on_error(left, right)
    def sides(failure: StepFailed) -> None:
        note(f"sides {failure.step}")

    @flow.on_error()
    def rest(failure: StepFailed) -> None:
        note(f"rest {failure.step}")

    outcome = await rig.run(flow, Order(n=1))
    assert outcome.status == "completed"
    assert sorted(trace.lines) == ["rest left", "rest middle", "rest right", "sides left", "sides right"]
    assert sorted(error.step for error in outcome.errors) == ["left", "middle", "right"]


async def test_a_step_never_hears_a_notice_about_itself(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("watched")

    @flow.step
    def ship(event: Order) -> None: ...

    @flow.step
    def alarm(event: BreakerOpened) -> Charged:
        return Charged(n=len(event.breaker))

    engine = await rig.start(flow)
    await engine.force_breaker("watched/alarm", opens=True)
    await engine.force_breaker("watched/alarm", opens=False)
    await engine.force_breaker("watched/ship", opens=True)
    await until(lambda: finished(engine) == ["ensue.breaker_opened"])
    run = await engine.emit(Order(n=1))
    await engine.force_breaker("watched/ship", opens=False)
    await run.result(SECONDS)


def finished(engine: EngineApi) -> list[str]:
    """The triggers of the runs that are completed."""
    reader = engine.reader()
    try:
        return [row.trigger_type for row in reader.runs(statuses=[3])]
    finally:
        reader.close()


async def test_a_run_that_handles_thousands_of_errors_keeps_them_all_and_the_traces_of_the_first(local: Rig) -> None:
    flow, failing = Pipeline("many"), TRACES_KEPT + 3

    @flow.step
    def unfold(event: Order) -> list[Charged]:
        return [Charged(n=n) for n in range(event.n)]

    @flow.step(breaker=False)
    async def pay(event: Charged) -> None:
        raise GiveUp(f"no {event.n}")

    @flow.on_error(pay)
    async def count(failures: list[StepFailed]) -> Owing:
        return Owing(n=len(failures))

    engine = await local.start(flow)
    run = await engine.emit(Order(n=failing))
    outcome = await run.result(SECONDS)
    assert (outcome.status, outcome.events, len(outcome.errors)) == ("completed", [Owing(n=failing)], failing)
    assert [bool(error.trace) for error in outcome.errors] == [True] * TRACES_KEPT + [False] * 3
    assert {error.message for error in outcome.errors} == {f"no {n}" for n in range(failing)}
    with closing(engine.reader()) as reader:
        row = reader.run(run.raw_id)
        assert row is not None
        view = read_history((entry.offset, entry.body) for entry in reader.entries(row.run)).view()
    assert all("GiveUp: no" in error.trace for error in view.errors), "the log has them"
    assert await engine.finished_outcome(run.raw_id) == outcome
