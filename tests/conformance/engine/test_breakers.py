"""An open breaker calls nothing: deliveries that wait lose no attempt, and go on when a probe succeeds."""

import time
from pathlib import Path

import pytest

from ensue import Breaker, BreakerClosed, BreakerOpened, Event, Pipeline, Retry
from ensue.actors.client.engine_api import EngineApi
from ensue.actors.local import LocalEngine
from ensue.events.errors import BreakerUnknown
from ensue.events.policies.breaker import BreakerView

from ..engines import SECONDS, Rig, Trace, until

pytestmark = pytest.mark.timeout(60)

QUICK = Breaker(failures_in_row=2, open_seconds=0.3, max_open_seconds=0.3, probes=2)


class Order(Event):
    n: int


class Charged(Event):
    n: int


class Told(Event):
    breaker: str


def shop(trace: Trace, gate: Path, breaker: Breaker | str | bool = QUICK) -> Pipeline:
    """Charge cannot connect while `gate` is there; alarm hears of the breaker."""
    flow = Pipeline("shop")
    path, gates = trace.path, str(gate)

    @flow.step(breaker=breaker, retry=Retry(attempts=6, wait=0.0), concurrency=1)
    def charge(event: Order) -> Charged:
        if Path(gates).exists():
            Trace(Path(path)).note("down")
            raise ConnectionError("refused")
        return Charged(n=event.n)

    @flow.step
    def alarm(event: BreakerOpened | BreakerClosed) -> Told:
        Trace(Path(path)).note(f"{type(event).__name__} {event.breaker}")
        return Told(breaker=event.breaker)

    return flow


def breaker_of(engine: EngineApi, name: str) -> BreakerView:
    return next(view for view in engine.breakers() if view.name == name)


async def test_an_outage_opens_the_breaker_and_costs_no_event(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    engine = await rig.start(shop(trace, gate))
    runs = await engine.emit_many([Order(n=n) for n in range(4)])
    await until(lambda: "BreakerOpened shop/charge" in trace.lines)
    gate.unlink()
    outcomes = [await run.result(SECONDS) for run in runs]
    assert {outcome.status for outcome in outcomes} == {"completed"}
    await until(lambda: "BreakerClosed shop/charge" in trace.lines)
    assert breaker_of(engine, "shop/charge").status == "closed"


async def test_what_a_worker_has_and_has_not_begun_is_handed_back_when_the_breaker_opens(
    rig: Rig, trace: Trace, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    path, gates = trace.path, str(gate)
    flow = Pipeline("prefetched")

    @flow.step(breaker=Breaker(failures_in_row=5, open_seconds=1.0), retry=Retry(attempts=3, wait=0.0), concurrency=1)
    def charge(event: Order) -> Charged:
        if Path(gates).exists():
            Trace(Path(path)).note("down")
            time.sleep(0.01)  # what is called takes its time to refuse
            raise ConnectionError("refused")
        return Charged(n=event.n)

    engine = await rig.start(flow)
    for run in await engine.emit_many([Order(n=n) for n in range(400)]):  # quick, so that much is sent ahead
        await run.result(SECONDS)
    gate.touch()
    runs = await engine.emit_many([Order(n=n) for n in range(400)])
    await until(lambda: breaker_of(engine, "prefetched/charge").status == "open")
    gate.unlink()
    assert {(await run.result(SECONDS)).status for run in runs} == {"completed"}
    assert 5 <= trace.lines.count("down") < 200


@pytest.mark.parametrize("rig", ["local-sqlite"], indirect=True)
async def test_a_notice_step_that_calls_the_dependency_that_is_down_does_not_call_itself_endlessly(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("alarmed")

    @flow.step(breaker=Breaker(name="mail", failures_in_row=2, open_seconds=10), retry=1)
    def send(event: Order) -> None:
        raise ConnectionError("refused")

    @flow.step(breaker="mail", retry=1)
    def alarm(event: BreakerOpened) -> None:
        trace.note("called")
        raise ConnectionError("refused")

    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    for n in range(2):
        await (await engine.emit(Order(n=n))).result(SECONDS)
    for _ in range(5):
        engine.advance(400)
        await engine.idle()
    assert trace.lines == []


async def test_what_is_no_outage_opens_nothing(rig: Rig) -> None:
    flow = Pipeline("faulty")

    @flow.step(retry=Retry(attempts=9, wait=0.0))
    def charge(event: Order) -> Charged:
        raise KeyError(event.n)

    engine = await rig.start(flow)
    await (await engine.emit(Order(n=1))).result(SECONDS)
    assert breaker_of(engine, "faulty/charge").status == "closed"


async def test_an_operator_opens_and_closes_one(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    engine = await rig.start(shop(trace, tmp_path / "gate", breaker=False))
    view = await engine.force_breaker("shop/charge", opens=True, who="ann")
    assert (view.status, view.forced, view.reason) == ("open", True, "opened by ann")
    run = await engine.emit(Order(n=1))
    await until(lambda: breaker_of(engine, "shop/charge").waiting == 1)
    await engine.force_breaker("shop/charge", opens=False, who="ann")
    assert (await run.result(SECONDS)).status == "completed"
    with pytest.raises(BreakerUnknown):
        await engine.force_breaker("charge", opens=True)
    reader = engine.reader()
    assert [(row.who, row.action) for row in reader.audit()] == [("ann", "breaker close"), ("ann", "breaker open")]
    reader.close()


async def test_steps_that_name_one_dependency_share_its_breaker(rig: Rig) -> None:
    flow = Pipeline("shared")

    @flow.step(breaker="bank")
    def charge(event: Order) -> Charged:
        return Charged(n=event.n)

    @flow.step(breaker="bank")
    def note(event: Charged) -> None: ...

    engine = await rig.start(flow)
    assert breaker_of(engine, "bank").steps == ("shared/charge", "shared/note")
    await engine.force_breaker("bank", opens=True)
    await engine.emit(Order(n=1))
    await until(lambda: breaker_of(engine, "bank").waiting == 1)
    await engine.force_breaker("bank", opens=False)


@pytest.mark.parametrize("rig", ["local-sqlite"], indirect=True)
async def test_a_crash_closes_no_breaker(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    flow = shop(trace, tmp_path / "gate", breaker=Breaker(failures_in_row=2, open_seconds=60))
    (tmp_path / "gate").touch()
    engine = await rig.start(flow)
    run = await engine.emit(Order(n=1))
    await until(lambda: breaker_of(engine, "shop/charge").status == "open")
    until_us = breaker_of(engine, "shop/charge").until_us
    await rig.crash()
    engine = await rig.start(flow)
    view = breaker_of(engine, "shop/charge")
    assert (view.status, view.until_us) == ("open", until_us)
    assert isinstance(engine, LocalEngine)
    (tmp_path / "gate").unlink()
    engine.advance(61)
    outcome = await (await engine.run(run.raw_id)).result(SECONDS)
    assert outcome.status == "completed"
