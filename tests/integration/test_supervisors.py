"""Supervisors under Ray that die or hang: no worker notices, another takes their place, and what gives up says so."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ensue import Backoff, Context, Engine, Event, Pipeline, Retry, Supervision
from ensue.actors.supervision.orders import ROOT_HISTORY
from ensue.actors.supervision.supervisor_actor import SupervisionTimeouts

from ..conformance.engines import Rig, Trace, ray_session, trace, until
from .processes import alive
from .trees import begin, child, parts, pids, rig, supervised, supervisor, watcher

__all__ = ["ray_session", "rig", "trace"]
pytestmark = pytest.mark.timeout(120)
SOON = Retry(attempts=5, wait=0.05)
QUICK = Backoff(0.01, 1.0, 0.01, 0.0)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


def title_of(pid: int) -> str:
    """What Ray calls a process."""
    return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]


async def test_every_supervisor_is_a_ray_actor_of_its_own(rig: Rig) -> None:
    flow = Pipeline("actors")

    @flow.step(replicas=2)
    def work(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def other(event: Item) -> None: ...

    engine = await begin(rig, flow)
    tree = engine.tree()
    supervisors = [part for part in parts(tree) if part["kind"] in ("supervisor", "pipeline", "step")]
    assert [part["name"] for part in supervisors] == ["root", "actors", "work", "other"]
    titles = [title_of(part["pid"]) for part in supervisors]
    kinds = [title.removeprefix("ray::").partition(".")[0] for title in titles]
    assert kinds == ["RootSupervisor", "PipelineSupervisor", "StepSupervisor", "StepSupervisor"]
    assert len({part["pid"] for part in supervisors} - pids(engine, "work")) == len(supervisors)


@pytest.mark.parametrize("step", [None, "work"], ids=["of the pipeline", "of the step"])
async def test_when_a_supervisor_dies_no_worker_notices_and_the_next_one_sees_to_them(
    rig: Rig, trace: Trace, step: str | None
) -> None:
    flow = Pipeline("orphans")

    @flow.step(retry=SOON)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        while event.n and len(trace.lines) < 2:  # noqa: ASYNC110 - the other attempt is in another process
            await asyncio.sleep(0.02)
        return Item(n=ctx.attempt)

    engine = await begin(rig, flow)
    run = await engine.emit(Order(n=1))
    await until(lambda: trace.lines == ["1"])
    before, dead = pids(engine, "work"), supervisor(engine, "orphans", step)
    os.kill(dead, signal.SIGKILL)
    await until(lambda: supervisor(engine, "orphans", step) not in (dead, None))
    assert pids(engine, "work") == before
    assert trace.lines == ["1"]
    name = "orphans" if step else ROOT_HISTORY
    await until(lambda: name in [fact.name for fact in engine.reader().facts("supervision")])
    os.kill(min(before), signal.SIGKILL)
    assert (await run.result(30)).events == [Item(n=2)]
    await until(lambda: child(child(engine.tree(), "orphans"), "work")["restarts"] == 1)


async def test_a_worker_that_ends_while_its_step_has_no_supervisor_is_replaced_by_the_next_one(rig: Rig) -> None:
    flow = Pipeline("both")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow)
    before = pids(engine, "work")
    for victim in (supervisor(engine, "both", None), supervisor(engine, "both", "work"), *before):
        os.kill(victim, signal.SIGKILL)
    (fresh,) = (await (await engine.emit(Order())).result(30)).events
    assert {fresh.n} & before == set()  # type: ignore[attr-defined]
    assert not alive(before)


async def test_a_step_whose_supervisor_keeps_dying_fails_its_pipeline_until_it_is_restarted(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("doomed", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def other(event: Item) -> None: ...

    engine = await begin(rig, flow, watcher(trace))
    os.kill(supervisor(engine, "doomed", "work"), signal.SIGKILL)
    await until(lambda: child(engine.tree(), "doomed")["status"] == "failed")
    assert "its supervisor ended" in child(engine.tree(), "doomed")["reason"]
    await until(lambda: trace.lines == ["escalated doomed to nobody failed True"])
    await until(lambda: not pids(engine, "work") | pids(engine, "other"))
    run = await engine.emit(Order(n=4))
    await engine.restart_pipeline("doomed")
    assert (await run.result(20)).status == "completed"
    await until(lambda: child(engine.tree(), "doomed")["status"] == "up")


async def test_when_the_root_dies_no_worker_notices_and_the_next_one_sees_to_the_supervisors(rig: Rig) -> None:
    flow = Pipeline("headless")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow)
    before = pids(engine, "work")
    root = child(engine.tree(), "root")["pid"]
    os.kill(root, signal.SIGKILL)
    await until(lambda: child(engine.tree(), "root")["pid"] not in (root, None))
    dead = supervisor(engine, "headless", None)
    os.kill(dead, signal.SIGKILL)
    await until(lambda: supervisor(engine, "headless", None) not in (dead, None))
    assert pids(engine, "work") == before
    assert (await (await engine.emit(Order())).result(20)).status == "completed"


async def test_a_pipeline_whose_supervisor_keeps_dying_fails_until_it_is_restarted(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("unsupervised", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow, watcher(trace))
    os.kill(child(engine.tree(), "unsupervised")["pid"], signal.SIGKILL)
    await until(lambda: child(engine.tree(), "unsupervised")["status"] == "failed")
    run = await engine.emit(Order(n=4))
    await until(lambda: trace.lines == ["escalated engine to nobody failed True"])
    await until(lambda: not pids(engine, "work"))
    await engine.restart_pipeline("unsupervised")
    assert (await run.result(20)).events == [Item(n=4)]


@pytest.mark.parametrize("step", [None, "work"], ids=["of the pipeline", "of the step"])
async def test_a_supervisor_that_hangs_is_ended_and_another_takes_its_place(rig: Rig, step: str | None) -> None:
    flow = Pipeline("hung")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = Engine(flow, store=rig.store)
    engine._patience = SupervisionTimeouts(ping_seconds=0.3)
    async with engine:
        await supervised(engine)
        before, hung = pids(engine, "work"), supervisor(engine, "hung", step)
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: supervisor(engine, "hung", step) not in (hung, None))
        assert not alive({hung})
        assert pids(engine, "work") == before
        os.kill(min(before), signal.SIGKILL)
        await until(lambda: bool(pids(engine, "work") - before))
        assert (await (await engine.emit(Order())).result(20)).status == "completed"
