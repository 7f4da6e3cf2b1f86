"""A delivery that gave up and that no step handles is a dead letter: it is kept, and an operator decides on it."""

from pathlib import Path

import pytest

from ensue import Context, Event, Pipeline, Retry, StepFailed
from ensue.cluster.log.protocol import DeadFilter, DeadLetter
from ensue.events.errors import EventInvalid, LetterClosed, LetterUnknown

from ..engines import SECONDS, Rig, Trace

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int


class Line(Event):
    n: int


class Billed(Event):
    n: int


def bills(trace: Trace, gate: Path) -> Pipeline:
    """Two lines an order; a line fails while `gate` is there, or where its number is negative."""
    flow = Pipeline("bills")
    path, gates = trace.path, str(gate)

    @flow.step
    def split(event: Order) -> list[Line]:
        return [Line(n=event.n), Line(n=event.n + 1)]

    @flow.step(retry=Retry(attempts=2, wait=0.0))
    def bill(event: Line) -> Billed:
        Trace(Path(path)).note(event.n)
        if event.n < 0 or Path(gates).exists():
            raise ValueError(f"no price for {event.n}")
        return Billed(n=event.n)

    return flow


async def letters_of(rig: Rig, wanted: DeadFilter | None = None) -> list[DeadLetter]:
    reader = rig.engine.reader()
    found = reader.dead(wanted or DeadFilter())
    reader.close()
    return found


async def test_a_failure_without_a_handler_becomes_a_dead_letter(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    engine = await rig.start(bills(trace, tmp_path / "gate"))
    run = await engine.emit(Order(n=-1))
    outcome = await run.result(SECONDS)
    assert outcome.status == "failed"
    [letter] = await letters_of(rig)
    assert (letter.pipeline, letter.step, letter.event_type, letter.attempts) == ("bills", "bill", "Line", 2)
    assert (letter.kind, letter.error, letter.message) == ("transient", "ValueError", "no price for -1")
    assert letter.run_id == run.raw_id
    assert not letter.blocked
    assert [(error.step, error.attempts, error.handled) for error in outcome.errors] == [("bill", 2, False)]


async def test_what_is_handled_is_no_dead_letter(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    flow = bills(trace, tmp_path / "gate")

    @flow.on_error("bill")
    def excuse(event: StepFailed) -> Billed:
        return Billed(n=0)

    outcome = await rig.run(flow, Order(n=-1))
    assert outcome.status == "completed"
    assert [(error.step, error.handled) for error in outcome.errors] == [("bill", True)]
    assert await letters_of(rig) == []


async def test_a_redriven_letter_takes_its_run_to_the_end(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(bills(trace, gate))
    run = await engine.emit(Order(n=1))
    await run.result(SECONDS)
    letters = await letters_of(rig)
    gate.unlink()
    for letter in letters:
        outcome = await (await engine.redrive(letter.letter_id, who="ann")).result(SECONDS)
    assert (outcome.status, sorted(event.n for event in outcome.events)) == ("completed", [1, 2])  # type: ignore[attr-defined]
    assert await letters_of(rig) == []
    with pytest.raises(LetterClosed):
        await engine.redrive(letters[0].letter_id)


async def test_a_letter_that_dies_again_is_open_again(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    engine = await rig.start(bills(trace, tmp_path / "gate"))
    await (await engine.emit(Order(n=-1))).result(SECONDS)
    [letter] = await letters_of(rig)
    outcome = await (await engine.redrive(letter.letter_id)).result(SECONDS)
    assert outcome.status == "failed"
    [again] = await letters_of(rig)
    assert again.letter_id == letter.letter_id
    assert len(outcome.errors) == 1


async def test_a_letter_can_be_redriven_with_another_event(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    engine = await rig.start(bills(trace, tmp_path / "gate"))
    await (await engine.emit(Order(n=-1))).result(SECONDS)
    [letter] = await letters_of(rig)
    with pytest.raises(EventInvalid):
        await engine.redrive(letter.letter_id, data={"n": "many"})
    outcome = await (await engine.redrive(letter.letter_id, data={"n": 5}, who="ann")).result(SECONDS)
    assert sorted(event.n for event in outcome.events) == [0, 5]  # type: ignore[attr-defined]
    reader = engine.reader()
    assert [(row.who, row.action) for row in reader.audit()] == [("ann", "letter edit")]
    reader.close()


async def test_a_letter_of_several_events_cannot_be_edited_and_says_so(rig: Rig) -> None:
    flow = Pipeline("joined")

    @flow.step
    def line(event: Order) -> Line:
        return Line(n=event.n)

    @flow.step(retry=1)
    def both(order: Order, part: Line) -> Billed:
        raise ValueError(f"no price for {order.n}")

    assert (await rig.run(flow, Order(n=1))).status == "failed"
    [letter] = await letters_of(rig)
    with pytest.raises(EventInvalid, match="redrive the letter without data, or discard it"):
        await rig.engine.redrive(letter.letter_id, data={"n": 5})
    assert [kept.state for kept in await letters_of(rig)] == ["open"]


async def test_a_discarded_letter_is_gone_and_its_run_stays_failed(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    engine = await rig.start(bills(trace, tmp_path / "gate"))
    run = await engine.emit(Order(n=-1))
    await run.result(SECONDS)
    [letter] = await letters_of(rig)
    await engine.discard(letter.letter_id, who="ann")
    assert await letters_of(rig) == []
    assert [kept.state for kept in await letters_of(rig, DeadFilter(state=None))] == ["discarded"]
    with pytest.raises(LetterClosed):
        await engine.discard(letter.letter_id)
    with pytest.raises(LetterUnknown):
        await engine.discard(run.raw_id)


async def test_letters_are_redriven_in_bulk(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(bills(trace, gate))
    runs = [await engine.emit(Order(n=n)) for n in range(5)]
    for run in runs:
        await run.result(SECONDS)
    letters = await letters_of(rig)
    assert {letter.step for letter in letters} == {"bill"}
    gate.unlink()
    assert (await engine.redrive_all(DeadFilter(step="split"))).redriven == 0
    done = await engine.redrive_all(DeadFilter(step="bill", error="ValueError"), limit=3)
    assert (done.redriven, done.refused) == (3, [])
    done = await engine.redrive_all(DeadFilter(pipeline="bills"))
    assert done.redriven == len(letters) - 3
    outcomes = [await (await engine.run(run.raw_id)).result(SECONDS) for run in runs]
    assert {outcome.status for outcome in outcomes} == {"completed"}
    assert await letters_of(rig) == []


async def test_retrying_a_run_settles_its_letters(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(bills(trace, gate))
    run = await engine.emit(Order(n=1))
    await run.result(SECONDS)
    gate.unlink()
    assert (await (await engine.retry(run.raw_id)).result(SECONDS)).status == "completed"
    assert await letters_of(rig) == []


async def test_later_steps_are_told_of_the_edited_event_in_the_place_of_the_first(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("told")

    @flow.step(retry=1)
    def bill(event: Order) -> Billed:
        if event.n < 0:
            raise ValueError(f"no price for {event.n}")
        return Billed(n=event.n)

    @flow.step
    def ship(event: Billed, ctx: Context) -> None:
        trace.note([order.n for order in ctx.events(Order)])

    assert (await rig.run(flow, Order(n=-1))).status == "failed"
    [letter] = await letters_of(rig)
    run = await rig.engine.redrive(letter.letter_id, data={"n": 5})
    assert (await run.result(SECONDS)).status == "completed"
    assert trace.lines == ["[5]"]
