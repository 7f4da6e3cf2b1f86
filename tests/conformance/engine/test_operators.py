"""Operators' calls: what a review found wrong, one test each, on the local engines."""

import asyncio
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ensue import Breaker, Context, Event, GiveUp, Pipeline
from ensue.actors.local import LocalEngine
from ensue.cluster.log.protocol import AuditRow, DeadFilter, DeadLetter
from ensue.events.errors import EnsueError, LetterClosed, PipelineInvalid
from ensue.events.ids import format_id

from ..engines import SECONDS, Rig

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int


class Billed(Event):
    n: int


def bills(keys: list[str], *, fails: bool = True) -> Pipeline:
    """One step: it notes its idempotency key, and gives up on numbers below zero where it `fails`."""
    flow = Pipeline("bills")

    @flow.step
    async def bill(event: Order, ctx: Context) -> Billed:
        keys.append(ctx.idempotency_key)
        if fails and event.n < 0:
            raise GiveUp("no price")
        return Billed(n=event.n)

    return flow


def letters_of(rig: Rig, wanted: DeadFilter | None = None) -> list[DeadLetter]:
    with closing(rig.engine.reader()) as reader:
        return reader.dead(wanted or DeadFilter())


def audit_of(rig: Rig) -> list[AuditRow]:
    with closing(rig.engine.reader()) as reader:
        return reader.audit()


async def test_of_a_discard_and_a_redrive_at_once_one_is_refused(local: Rig) -> None:
    keys: list[str] = []
    engine = await local.start(bills(keys))
    run = await engine.emit(Order(n=-1))
    await run.result(SECONDS)
    [letter] = letters_of(local)
    discard, redrive = await asyncio.gather(
        engine.discard(letter.letter_id, who="ann"),
        engine.redrive(letter.letter_id, who="bob"),
        return_exceptions=True,
    )
    assert discard is None
    assert isinstance(redrive, LetterClosed)
    assert [(row.who, row.action) for row in audit_of(local)] == [("ann", "letter discard")]
    assert [kept.state for kept in letters_of(local, DeadFilter(state=None))] == ["discarded"]
    assert len(keys) == 1


async def test_of_many_redrives_of_one_letter_at_once_each_but_one_is_refused(local: Rig) -> None:
    keys: list[str] = []
    flow, going, gate = Pipeline("slow"), asyncio.Event(), asyncio.Event()

    @flow.step
    async def bill(event: Order) -> None:
        keys.append("")
        if len(keys) == 1:
            raise GiveUp("no price")
        going.set()
        await gate.wait()

    engine = await local.start(flow)
    await (await engine.emit(Order(n=1))).result(SECONDS)
    [letter] = letters_of(local)
    answers = await asyncio.gather(*(engine.redrive(letter.letter_id) for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers[1:]] == [LetterClosed] * 4
    await asyncio.wait_for(going.wait(), SECONDS)
    gate.set()
    assert not isinstance(answers[0], BaseException)
    assert (await answers[0].result(SECONDS)).status == "completed"
    assert [row.action for row in audit_of(local)] == ["letter redrive"]


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e20])
async def test_a_breaker_is_not_opened_for_an_invalid_time_and_the_engine_goes_on(local: Rig, seconds: float) -> None:
    engine = await local.start(bills([]))
    with pytest.raises(EnsueError, match="at most a year"):
        await engine.force_breaker("bills/bill", opens=True, seconds=seconds)
    assert [(view.status, view.forced) for view in engine.breakers()] == [("closed", False)]
    assert (await (await engine.emit(Order(n=1))).result(SECONDS)).status == "completed"
    assert audit_of(local) == []


async def test_a_cancel_is_audited_also_without_a_name(local: Rig) -> None:
    flow = Pipeline("long")

    @flow.step
    async def wait(event: Order) -> None:
        await asyncio.Event().wait()

    engine = await local.start(flow)
    run = await engine.emit(Order(n=1))
    await engine.cancel(run.raw_id)
    assert (await run.result(SECONDS)).status == "cancelled"
    assert [(r.who, r.action, r.subject) for r in audit_of(local)] == [("python", "run cancel", format_id(run.raw_id))]


async def test_a_cancel_by_the_handle_of_a_run_is_audited(local: Rig) -> None:
    flow = Pipeline("long")

    @flow.step
    async def wait(event: Order) -> None:
        await asyncio.Event().wait()

    engine = await local.start(flow)
    run = await engine.emit(Order(n=1))
    await run.cancel()
    assert (await run.result(SECONDS)).status == "cancelled"
    assert [(row.who, row.action) for row in audit_of(local)] == [("python", "run cancel")]


async def test_a_retry_is_audited_also_without_a_name(local: Rig) -> None:
    engine = await local.start(bills([]))
    run = await engine.emit(Order(n=-1))
    await run.result(SECONDS)
    await (await engine.retry(run.raw_id)).result(SECONDS)
    assert [(r.who, r.action, r.subject) for r in audit_of(local)] == [("python", "run retry", format_id(run.raw_id))]


def calls(name: str, breaker: Breaker | str) -> Pipeline:
    flow = Pipeline(name)

    @flow.step(breaker=breaker)
    async def call(event: Order) -> None: ...

    return flow


def test_pipelines_that_disagree_about_a_breaker_that_they_share_are_refused() -> None:
    strict = Breaker(name="mail", failures_in_row=1, open_seconds=5)
    with pytest.raises(PipelineInvalid, match="breaker mail has two settings"):
        LocalEngine(calls("a", Breaker(name="mail", failures_in_row=2)), calls("b", strict))


@pytest.mark.parametrize("first", ["names", "declares"])
async def test_a_pipeline_that_only_names_a_breaker_has_the_settings_that_another_declares(first: str) -> None:
    strict = Breaker(name="mail", failures_in_row=1, counts=KeyError)
    flows = [calls("names", "mail"), calls("declares", strict)]
    async with LocalEngine(*sorted(flows, key=lambda flow: flow.name != first)) as engine:
        steps = [step for flow in engine.pipelines.values() for step in flow.steps.values()]
        assert [step.breaker for step in steps] == [strict, strict]
        assert [view.name for view in engine.breakers()] == ["mail"]
    assert flows[0].steps["call"].breaker == Breaker(name="mail"), "another engine may have other pipelines"


async def test_pipelines_that_agree_about_a_breaker_share_it() -> None:
    async with LocalEngine(calls("a", "mail"), calls("b", Breaker(name="mail"))) as engine:
        assert [(view.name, view.steps) for view in engine.breakers()] == [("mail", ("a/call", "b/call"))]


async def test_a_letter_that_is_run_again_as_it_was_keeps_its_idempotency_key(local: Rig) -> None:
    keys: list[str] = []
    engine = await local.start(bills(keys))
    await (await engine.emit(Order(n=-1))).result(SECONDS)
    [letter] = letters_of(local)
    await (await engine.redrive(letter.letter_id)).result(SECONDS)
    assert len(keys) == 2
    assert keys[0] == keys[1]


async def test_a_letter_with_another_event_has_another_idempotency_key(local: Rig) -> None:
    keys: list[str] = []
    engine = await local.start(bills(keys))
    await (await engine.emit(Order(n=-1))).result(SECONDS)
    [letter] = letters_of(local)
    for n, status in ((-2, "failed"), (-3, "failed"), (4, "completed")):
        outcome = await (await engine.redrive(letter.letter_id, data={"n": n})).result(SECONDS)
        assert outcome.status == status
    assert len(set(keys)) == 4


async def test_an_edited_letter_keeps_its_key_after_a_restart(tmp_path: Path) -> None:
    keys: list[str] = []
    store = f"sqlite:///{tmp_path / 'ensue.db'}"
    async with LocalEngine(bills(keys), store=store) as engine:
        run = await engine.emit(Order(n=-1))
        await run.result(SECONDS)
        with closing(engine.reader()) as reader:
            [letter] = reader.dead(DeadFilter())
        await (await engine.redrive(letter.letter_id, data={"n": -2})).result(SECONDS)
    async with LocalEngine(bills(keys), store=store) as engine:
        await (await engine.redrive(letter.letter_id)).result(SECONDS)
    assert keys[0] != keys[1]
    assert keys[1] == keys[2]


async def test_a_run_whose_letters_the_store_does_not_have_can_be_retried(tmp_path: Path) -> None:
    path, keys = tmp_path / "ensue.db", list[str]()
    store = f"sqlite:///{path}"
    async with LocalEngine(bills(keys), store=store) as engine:
        run = await engine.emit(Order(n=-1))
        assert (await run.result(SECONDS)).status == "failed"
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute("DELETE FROM dead").rowcount == 1  # as a store of before there were letters
    async with LocalEngine(bills(keys, fails=False), store=store) as engine:
        assert (await (await engine.retry(run.raw_id)).result(SECONDS)).status == "completed"
        assert engine.state() == "ready"
