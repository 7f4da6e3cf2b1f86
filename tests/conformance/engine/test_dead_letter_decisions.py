"""Decisions on dead letters: they keep their order, their key and their place in the run. On the local engines."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from pydantic import Field

from ensue import Event, GiveUp, Pipeline
from ensue.actors.local import LocalEngine
from ensue.cluster.log.protocol import DeadFilter, DeadLetter
from ensue.events.errors import EventInvalid, RunFinished
from ensue.events.ids import format_id
from ensue.events.state.records import RedrivenRecord, unpack_records

from ..engines import SECONDS, Rig

pytestmark = pytest.mark.timeout(60)


class Transfer(Event, key="account"):
    account: str
    n: int


class Payment(Event):
    n: int


def letters_of(rig: Rig, wanted: DeadFilter | None = None) -> list[DeadLetter]:
    with closing(rig.engine.reader()) as reader:
        return reader.dead(wanted or DeadFilter())


class Bank:
    """A pipeline that books transfers while it is up; `booked` says in which order."""

    def __init__(self) -> None:
        self.is_up = False
        self.booked: list[int] = []
        self.flow = Pipeline("bank")
        self.flow.step(retry=1, breaker=False)(self.book)

    async def book(self, event: Transfer) -> None:
        if not self.is_up:
            raise ConnectionError("down")
        self.booked.append(event.n)


async def failed_transfers(local: Rig, bank: Bank, count: int) -> None:
    """So many transfers of one account, all dead letters."""
    engine = await local.start(bank.flow)
    assert isinstance(engine, LocalEngine)
    for n in range(count):
        await (await engine.emit(Transfer(account="a", n=n))).result(SECONDS)
        engine.advance(1.0)
    bank.is_up = True


async def test_letters_of_one_key_are_redriven_in_the_order_of_their_events(local: Rig) -> None:
    bank = Bank()
    await failed_transfers(local, bank, 4)
    assert (await local.engine.redrive_all(DeadFilter())).redriven == 4
    await local.engine.idle()  # type: ignore[attr-defined]
    assert bank.booked == [0, 1, 2, 3]


async def test_a_limit_takes_the_newest_letters_and_the_oldest_of_them_first(local: Rig) -> None:
    bank = Bank()
    await failed_transfers(local, bank, 4)
    assert (await local.engine.redrive_all(DeadFilter(), limit=2)).redriven == 2
    await local.engine.idle()  # type: ignore[attr-defined]
    assert bank.booked == [2, 3]


class Till:
    """A pipeline that takes payments one at a time for each key, and none below zero; `spans` says who was at work."""

    def __init__(self) -> None:
        self.spans: list[str] = []
        self.flow = Pipeline("till")
        self.flow.step(retry=1)(self.take)
        self.flow.step(retry=1)(self.move)

    async def take(self, event: Payment) -> None:
        await self._work(event.n)

    async def move(self, event: Transfer) -> None:
        await self._work(event.n)

    async def _work(self, n: int) -> None:
        if n < 0:
            raise GiveUp("below zero")
        self.spans.append(f"begin {n}")
        await asyncio.sleep(0.01)
        self.spans.append(f"end {n}")


async def edited_beside(local: Rig, bad: Event, good: Event, data: dict[str, Any], key: str) -> list[str]:
    """What a till did of a good event with this key, and of a bad one with it that was edited meanwhile."""
    till = Till()
    engine = await local.start(till.flow)
    await (await engine.emit(bad, key=key)).result(SECONDS)
    [letter] = letters_of(local)
    first = await engine.emit(good, key=key)
    edited = await engine.redrive(letter.letter_id, data=data)
    for run in (first, edited):
        assert (await run.result(SECONDS)).status == "completed"
    return till.spans


async def test_an_edited_event_keeps_the_key_that_its_event_came_with(local: Rig) -> None:
    spans = await edited_beside(local, Payment(n=-1), Payment(n=1), {"n": 2}, "a")
    assert spans == ["begin 1", "end 1", "begin 2", "end 2"]


async def test_an_edited_event_keeps_a_key_that_was_not_of_its_field(local: Rig) -> None:
    bad, good = Transfer(account="x", n=-1), Transfer(account="y", n=1)
    spans = await edited_beside(local, bad, good, {"account": "z", "n": 2}, "a")
    assert spans == ["begin 1", "end 1", "begin 2", "end 2"]


async def test_an_edited_event_whose_key_was_its_own_has_the_key_that_it_now_names(local: Rig) -> None:
    bad, good = Transfer(account="a", n=-1), Transfer(account="a", n=1)
    spans = await edited_beside(local, bad, good, {"account": "z", "n": 2}, "a")
    assert spans == ["begin 1", "begin 2", "end 1", "end 2"]


async def test_an_event_that_is_edited_twice_keeps_its_key(local: Rig) -> None:
    engine = await local.start(Till().flow)
    await (await engine.emit(Payment(n=-1), key="a")).result(SECONDS)
    [letter] = letters_of(local)
    for n in (-2, -3):
        await (await engine.redrive(letter.letter_id, data={"n": n})).result(SECONDS)
    with closing(engine.reader()) as reader:
        records = [record for entry in reader.entries(letter.run) for record in unpack_records(entry.body)]
    assert [record.key for record in records if isinstance(record, RedrivenRecord)] == ["a", "a"]


async def test_a_retry_does_not_run_what_was_discarded(local: Rig) -> None:
    flow, ran, is_up = Pipeline("two"), list[str](), [False]

    @flow.step(retry=1)
    def first(event: Payment) -> None:
        ran.append("first")
        if not is_up[0]:
            raise GiveUp("down")

    @flow.step(retry=1)
    def second(event: Payment) -> None:
        ran.append("second")
        raise GiveUp("never")

    outcome = await local.run(flow, Payment(n=1))
    letters = {letter.step: letter for letter in letters_of(local)}
    await local.engine.discard(letters["second"].letter_id)
    is_up[0] = True
    ran.clear()
    again = await (await local.engine.retry(letters["first"].run_id)).result(SECONDS)
    assert (outcome.status, again.status, ran) == ("failed", "failed", ["first"])
    assert [error.step for error in again.errors] == ["second"]
    assert {letter.state for letter in letters_of(local, DeadFilter(step="second", state=None))} == {"discarded"}
    with pytest.raises(RunFinished, match="nothing left to retry"):
        await local.engine.retry(letters["first"].run_id)
    assert await local.engine.finished_outcome(letters["first"].run_id) == again


async def test_letters_of_a_cancelled_run_are_refused_in_bulk_and_can_be_discarded(local: Rig) -> None:
    flow, is_up, gate = Pipeline("two"), [False], asyncio.Event()

    @flow.step(retry=1)
    async def first(event: Payment) -> None:
        if not is_up[0]:
            raise GiveUp("down")
        await gate.wait()

    @flow.step(retry=1)
    async def second(event: Payment) -> None:
        raise GiveUp("never")

    await local.run(flow, Payment(n=1))
    letters = {letter.step: letter for letter in letters_of(local)}
    is_up[0] = True
    run = await local.engine.redrive(letters["first"].letter_id)
    await local.engine.cancel(run.raw_id)
    assert (await run.result(SECONDS)).status == "cancelled"
    decided = await local.engine.redrive_all(DeadFilter())
    [(letter_id, why)] = decided.refused
    assert (decided.redriven, letter_id) == (0, format_id(letters["second"].letter_id))
    assert f"ensue runs retry {format_id(run.raw_id)}" in why
    assert (await local.engine.discard_all(DeadFilter())).redriven == 1


async def test_no_letter_of_a_run_that_was_compensated_stays_open(local: Rig) -> None:
    flow, is_up = Pipeline("undone"), [False]

    @flow.step(retry=1)
    def first(event: Payment) -> Transfer:
        if not is_up[0]:
            raise GiveUp("down")
        return Transfer(account="a", n=event.n)

    @flow.step(retry=1)
    def second(event: Payment) -> None:
        raise GiveUp("never")

    @flow.step(retry=1)
    def third(event: Transfer) -> None:
        raise GiveUp("never")

    @flow.compensate(third)
    def undo(event: Transfer) -> None: ...

    await local.run(flow, Payment(n=1))
    letters = {letter.step: letter for letter in letters_of(local)}
    is_up[0] = True
    run = await local.engine.redrive(letters["first"].letter_id)
    assert (await run.result(SECONDS)).status == "compensated"
    assert letters_of(local) == []
    with closing(local.engine.reader()) as reader:
        [row] = reader.audit(subject=format_id(letters["second"].letter_id))
    assert (row.who, row.action, row.detail) == ("engine", "letter discard", "its run was undone")


async def test_a_generator_that_had_emitted_cannot_be_given_another_event(local: Rig) -> None:
    flow, counts, is_up = Pipeline("split"), list[int](), [False]

    @flow.step(retry=1)
    def split(event: Payment) -> Iterator[Transfer]:
        for n in range(event.n):
            if n == 2 and not is_up[0]:
                raise GiveUp("down")
            yield Transfer(account="a", n=n)

    @flow.step
    def total(transfers: list[Transfer]) -> None:
        counts.append(len(transfers))

    assert (await local.run(flow, Payment(n=4))).status == "failed"
    [letter] = letters_of(local)
    with pytest.raises(EventInvalid, match="had emitted 2 events") as refused:
        await local.engine.redrive(letter.letter_id, data={"n": 3})
    assert "discard it and send a new event" in str(refused.value)
    assert [kept.state for kept in letters_of(local)] == ["open"]
    is_up[0] = True
    assert (await (await local.engine.redrive(letter.letter_id)).result(SECONDS)).status == "completed"
    assert counts == [4]


@pytest.mark.parametrize("data", [{"n": 1}, {}])
async def test_a_letter_of_an_empty_list_cannot_be_edited_and_says_why(local: Rig, data: dict[str, Any]) -> None:
    flow = Pipeline("listed")

    @flow.step
    def split(event: Payment) -> list[Transfer]:
        return []

    @flow.step(retry=1)
    def total(transfers: list[Transfer]) -> None:
        raise GiveUp("nothing to add up")

    assert (await local.run(flow, Payment(n=0))).status == "failed"
    [letter] = letters_of(local)
    with pytest.raises(EventInvalid, match="step total takes several events"):
        await local.engine.redrive(letter.letter_id, data=data)


async def test_an_event_with_an_alias_is_edited_by_the_names_that_are_shown(local: Rig) -> None:
    class Priced(Event):
        amount: float = Field(alias="amt")

    flow, seen = Pipeline("priced"), list[float]()

    @flow.step(retry=1)
    def charge(event: Priced) -> None:
        if event.amount < 0:
            raise GiveUp("below zero")
        seen.append(event.amount)

    for data in ({"amount": 1.0}, {"amt": 2.0}):
        engine = await local.start(flow) if not seen else local.engine
        await (await engine.emit(Priced(amt=-1.0))).result(SECONDS)
        [letter] = letters_of(local)
        await (await engine.redrive(letter.letter_id, data=data)).result(SECONDS)
    assert seen == [1.0, 2.0]
