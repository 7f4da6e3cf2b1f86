"""Starts under Ray that fail at once, or hang: they are seen, they are tried again, and nobody else waits for them."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from ensue import Backoff, Engine, Event, Pipeline, Supervision
from ensue.actors.pool import keeper_client
from ensue.actors.supervision import keeper as keeper_module
from ensue.actors.supervision.orders import SupervisionTimeouts
from ensue.events.errors import PipelineInvalid

from ..conformance.engines import Rig, Trace, by_value, make_rig, ray_session, trace, until
from .processes import alive
from .trees import child, keeper, pids, shown, supervised

__all__ = ["ray_session", "trace"]
pytestmark = pytest.mark.timeout(120)
QUICK = Supervision(backoff=Backoff(0.01, 1.0, 0.01, 0.0))


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def test_a_step_whose_workers_ray_refuses_to_start_is_broken_and_the_steps_after_it_work(rig: Rig) -> None:
    flow = Pipeline("refused")

    @flow.step(supervision=QUICK)
    def first(event: Order) -> None: ...

    @flow.step
    def second(event: Item) -> Item | None:
        return Item(n=0) if event.n else None

    cast("dict[str, float]", flow.steps["first"].resources.custom)["memory"] = 1  # past the check of its declaration
    engine = await rig.start(flow)
    assert (await (await engine.emit(Item(n=1))).result(20)).status == "completed"
    outcome = await (await engine.emit(Order())).result(20)
    assert (outcome.status, [error.error for error in outcome.errors]) == ("failed", ["StepBroken"])
    assert "must not contain the key 'memory'" in outcome.errors[0].message


async def test_a_claim_that_ray_never_grants_is_refused_when_the_engine_starts(rig: Rig) -> None:
    flow = Pipeline("granted")

    @flow.step(resources={"TPU": 3})
    def work(event: Order) -> None: ...

    with pytest.raises(PipelineInvalid, match=r"step work: Ray refuses its claims: .*'TPU' was set to 3"):
        await rig.start(flow)


async def test_a_keeper_that_hangs_in_its_start_is_ended_and_another_takes_its_place(
    rig: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("hung-start")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    hang_first_keeper(monkeypatch, trace)
    monkeypatch.setattr(keeper_client, "_LATE_SECONDS", 1.0)
    engine = Engine(flow, store=rig.store)
    engine._supervision_timeouts = SupervisionTimeouts(start_seconds=6.0, ping_seconds=1.0)
    async with engine:
        assert (await (await engine.emit(Order())).result(60)).status == "completed"
        await supervised(engine)
        (hung,) = (int(line) for line in trace.lines)
        await until(lambda: not alive({hung}))
        assert child(engine.tree(), "root")["restarts"] == 1


async def test_a_worker_that_worked_and_ends_does_not_wait_for_a_keeper_that_is_on_its_way(
    rig: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("early")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    hang_first_keeper(monkeypatch, trace)
    monkeypatch.setattr(keeper_client, "_LATE_SECONDS", 1.0)
    engine = Engine(flow, store=rig.store)
    engine._supervision_timeouts = SupervisionTimeouts(start_seconds=15.0, ping_seconds=1.0)
    async with engine:
        first = (await (await engine.emit(Order())).result(60)).events[0]
        await until(lambda: bool(trace.lines))
        os.kill(first.n, signal.SIGKILL)  # type: ignore[attr-defined]
        second = (await (await engine.emit(Order())).result(60)).events[0]
        (hung,) = (int(line) for line in trace.lines)
        assert alive({hung}), "so it was not this one that saw to it"
        await until(lambda: child(engine.tree(), "early")["restarts"] == 1, 60)
        assert pids(engine, "work") == {second.n}  # type: ignore[attr-defined]
        await until(lambda: not alive({hung}), 60)
        await supervised(engine)
        await until(lambda: shown(engine, "early", "work") == ("up", 1, keeper(engine)))
        assert pids(engine, "work") == {second.n}  # type: ignore[attr-defined]


def hang_first_keeper(monkeypatch: pytest.MonkeyPatch, trace: Trace) -> None:
    """Have the first keeper stop itself before it says anything."""

    class Hangs(keeper_module.Keeper):
        def __init__(self, spec: Any) -> None:
            if not trace.lines:
                trace.note(os.getpid())
                os.kill(os.getpid(), signal.SIGSTOP)
            super().__init__(spec)

    monkeypatch.setattr(keeper_module, "Keeper", Hangs)
