"""A run that fails or is cancelled compensates its steps: newest first, one at a time, none skipped."""

import asyncio
from pathlib import Path

import pytest

from ensue import Context, Event, GiveUp, Pipeline, Retry
from ensue.cluster.log.protocol import DeadFilter
from ensue.events.errors import LetterClosed, RunFinished, RunPastPivot
from ensue.events.ids import format_id

from ..engines import SECONDS, Rig, Trace, until

pytestmark = pytest.mark.timeout(60)

NOW = Retry(attempts=2, wait=0.0)


class Ordered(Event):
    n: int


class Reserved(Event):
    n: int


class Paid(Event):
    n: int


class Sent(Event):
    n: int


class Returned(Event):
    n: int


def shop(trace: Trace, gate: Path, *, pivot: bool = False) -> Pipeline:
    """reserve, pay, send; sending fails while `gate` is there, paying back fails for good while `gate.2` is."""
    flow = Pipeline("shop")
    path, gates = trace.path, str(gate)

    @flow.step
    def reserve(event: Ordered) -> Reserved:
        Trace(Path(path)).note("reserve")
        return Reserved(n=event.n)

    @flow.step(pivot=pivot)
    def pay(event: Reserved) -> Paid:
        Trace(Path(path)).note("pay")
        return Paid(n=event.n)

    @flow.step(retry=NOW)
    def send(event: Paid) -> Sent:
        Trace(Path(path)).note("send")
        if Path(gates).exists():
            raise ValueError("no van")
        return Sent(n=event.n)

    @flow.compensate(reserve)
    def release(event: Ordered, ctx: Context) -> Returned:
        Trace(Path(path)).note(f"release {ctx.errors[0].error if ctx.errors else 'nothing'}")
        return Returned(n=event.n)

    @flow.compensate(pay, retry=Retry(attempts=3, wait=0.0))
    def refund(event: Reserved) -> None:
        Trace(Path(path)).note(f"refund {event.n}")
        if Path(f"{gates}.2").exists():
            raise GiveUp("the bank is closed")

    return flow


async def test_a_run_that_fails_compensates_its_steps_newest_first(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    outcome = await rig.run(shop(trace, gate), Ordered(n=7))
    assert outcome.status == "compensated"
    assert trace.lines == ["reserve", "pay", "send", "send", "refund 7", "release ValueError"]
    assert [error.step for error in outcome.errors] == ["send"]
    assert outcome.events == [Returned(n=7)]


async def test_a_run_that_completes_compensates_nothing(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    outcome = await rig.run(shop(trace, tmp_path / "gate"), Ordered(n=1))
    assert (outcome.status, trace.lines) == ("completed", ["reserve", "pay", "send"])


async def test_after_a_pivot_a_run_only_goes_forward(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(shop(trace, gate, pivot=True))
    run = await engine.emit(Ordered(n=1))
    assert (await run.result(SECONDS)).status == "failed"
    assert trace.lines == ["reserve", "pay", "send", "send"]
    gate.unlink()
    again = await engine.retry(run.raw_id)
    assert (await again.result(SECONDS)).events == [Sent(n=1)]


async def test_a_compensation_that_gives_up_waits_for_the_operator(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "gate.2").touch()
    engine = await rig.start(shop(trace, gate))
    run = await engine.emit(Ordered(n=1))
    reader = engine.reader()
    await until(lambda: bool(reader.dead(DeadFilter())))
    letter = reader.dead(DeadFilter())[0]
    assert (letter.step, letter.blocked, letter.error) == ("refund", True, "GiveUp")
    assert not any(line.startswith("release") for line in trace.lines)
    with pytest.raises(RunFinished):
        await engine.cancel(run.raw_id)
    (tmp_path / "gate.2").unlink()
    await engine.redrive(letter.letter_id, who="ann")
    assert (await run.result(SECONDS)).status == "compensated"
    assert trace.lines[-3:] == ["refund 1", "refund 1", "release ValueError"]
    with pytest.raises(LetterClosed):
        await engine.redrive(letter.letter_id)
    assert [(row.who, row.action) for row in reader.audit()] == [("ann", "letter redrive")]
    reader.close()


async def test_an_operator_can_settle_what_cannot_be_compensated(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    (tmp_path / "gate.2").touch()
    engine = await rig.start(shop(trace, gate))
    run = await engine.emit(Ordered(n=1))
    reader = engine.reader()
    await until(lambda: bool(reader.dead(DeadFilter())))
    (letter,) = reader.dead(DeadFilter())
    swept = await engine.discard_all(DeadFilter(pipeline="shop"), who="ann")
    assert (swept.redriven, [letter_id for letter_id, _ in swept.refused]) == (0, [format_id(letter.letter_id)])
    assert "it is compensation refund, which somebody has to settle" in swept.refused[0][1]
    assert [each.state for each in reader.dead(DeadFilter())] == ["open"]
    assert (await engine.discard_all(DeadFilter(step="refund"), who="ann")).redriven == 1
    assert (await run.result(SECONDS)).status == "compensated"
    assert trace.lines[-1] == "release ValueError"
    assert reader.dead(DeadFilter()) == []
    reader.close()


def waiting(trace: Trace, gate: Path, *, pivot: bool) -> Pipeline:
    flow = Pipeline("waiting")
    path, gates = trace.path, str(gate)

    @flow.step(pivot=pivot)
    def pay(event: Ordered) -> Paid:
        Trace(Path(path)).note("pay")
        return Paid(n=event.n)

    @flow.step
    async def send(event: Paid) -> Sent:
        Trace(Path(path)).note("send")
        while Path(gates).exists():  # noqa: ASYNC110, ASYNC240 - another process lets it go
            await asyncio.sleep(0.01)
        return Sent(n=event.n)

    @flow.compensate(pay)
    def refund(event: Ordered) -> None:
        Trace(Path(path)).note(f"refund {event.n}")

    return flow


async def test_cancelling_a_run_compensates_its_steps(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(waiting(trace, gate, pivot=False))
    run = await engine.emit(Ordered(n=1))
    await until(lambda: "send" in trace.lines)
    await engine.cancel(run.raw_id, who="ann")
    outcome = await run.result(SECONDS)
    assert (outcome.status, trace.lines) == ("compensated", ["pay", "send", "refund 1"])
    with pytest.raises(RunFinished, match="compensated"):
        await engine.retry(run.raw_id)


async def test_a_run_past_its_pivot_cannot_be_cancelled(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(waiting(trace, gate, pivot=True))
    run = await engine.emit(Ordered(n=1))
    await until(lambda: "send" in trace.lines)
    with pytest.raises(RunPastPivot):
        await engine.cancel(run.raw_id)
    gate.unlink()
    assert (await run.result(SECONDS)).status == "completed"
