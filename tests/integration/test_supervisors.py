"""Supervisors under Ray that crash, and keepers that die or hang: no worker notices, and what gives up says so."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from ensue import Backoff, Context, Event, Pipeline, Retry, Supervision
from ensue.actors.supervision.orders import ROOT, ROOT_HISTORY

from ..conformance.engines import Rig, Trace, ray_session, trace, until
from .processes import alive
from .trees import begin, child, crash, keeper, parts, pids, remembers, rig, supervised, supervisor, watcher

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


async def test_all_supervisors_are_in_one_keeper_which_is_a_ray_actor(rig: Rig) -> None:
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
    (pid,) = {part["pid"] for part in supervisors}
    assert pid not in pids(engine, "work") | pids(engine, "other") | {os.getpid()}
    assert title_of(pid).removeprefix("ray::").partition(".")[0] == "Keeper"


@pytest.mark.parametrize("step", [None, "work"], ids=["of the pipeline", "of the step"])
async def test_when_a_supervisor_crashes_no_worker_notices_and_the_next_one_sees_to_them(
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
    before, process = pids(engine, "work"), keeper(engine)
    await crash(engine, f"orphans/{step}" if step else "orphans")
    await until(lambda: supervisor(engine, "orphans", step) == process)
    assert pids(engine, "work") == before
    assert trace.lines == ["1"]
    await until(lambda: remembers(engine, "orphans" if step else ROOT_HISTORY))
    os.kill(min(before), signal.SIGKILL)
    assert (await run.result(30)).events == [Item(n=2)]
    await until(lambda: child(child(engine.tree(), "orphans"), "work")["restarts"] == 1)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP], ids=["that is killed", "that hangs"])
async def test_a_keeper_is_replaced_and_no_worker_notices_and_no_history_is_lost(
    rig: Rig, trace: Trace, sign: signal.Signals
) -> None:
    flow = Pipeline("headless")

    @flow.step(supervision=Supervision(intensity=1, backoff=QUICK))
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow, watcher(trace))
    first = pids(engine, "work")
    os.kill(min(first), signal.SIGKILL)
    await until(lambda: bool(pids(engine, "work") - first) and trace.lines == ["restarted headless/work"])
    before, dead = pids(engine, "work"), keeper(engine)
    os.kill(dead, sign)
    for _ in range(3):
        assert (await (await engine.emit(Order())).result(20)).events == [Item(n=min(before))]
    await until(lambda: keeper(engine) not in (dead, None), 90)
    assert not alive({dead})
    await supervised(engine)
    assert (pids(engine, "work"), child(engine.tree(), "root")["restarts"]) == (before, 1)
    await until(lambda: child(child(engine.tree(), "headless"), "work")["restarts"] == 1)
    await crash(engine, "headless")
    await until(lambda: supervisor(engine, "headless", None) is not None)
    assert pids(engine, "work") == before
    assert (await (await engine.emit(Order())).result(20)).status == "completed"


async def test_a_keeper_whose_root_crashes_is_replaced_and_no_worker_notices(rig: Rig) -> None:
    flow = Pipeline("rootless")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow)
    before, dead = pids(engine, "work"), keeper(engine)
    assert engine._pool.keeper.order(ROOT, "not a message")
    await until(lambda: keeper(engine) not in (dead, None))
    await until(lambda: not alive({dead}))
    assert pids(engine, "work") == before
    assert (await (await engine.emit(Order())).result(20)).events == [Item(n=min(before))]


async def test_a_worker_that_ends_while_there_is_no_keeper_is_replaced_by_the_next_one(rig: Rig) -> None:
    flow = Pipeline("both")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow)
    before = pids(engine, "work")
    for victim in (keeper(engine), *before):
        os.kill(victim, signal.SIGKILL)
    (fresh,) = (await (await engine.emit(Order())).result(30)).events
    assert {fresh.n} & before == set()  # type: ignore[attr-defined]
    assert not alive(before)


async def test_a_pipeline_that_was_given_up_stays_so_when_its_keeper_dies(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("still-failed", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow, watcher(trace))
    await crash(engine, "still-failed/work")
    await until(lambda: trace.lines == ["escalated still-failed to nobody failed True"])
    dead = keeper(engine)
    os.kill(dead, signal.SIGKILL)
    await until(lambda: keeper(engine) not in (dead, None))
    await supervised(engine)
    assert (child(engine.tree(), "still-failed")["status"], pids(engine, "work")) == ("failed", set())
    await engine.restart_pipeline("still-failed")
    assert (await (await engine.emit(Order(n=4))).result(20)).events == [Item(n=4)]


async def test_a_step_whose_supervisor_keeps_crashing_fails_its_pipeline_until_it_is_restarted(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("doomed", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def other(event: Item) -> None: ...

    engine = await begin(rig, flow, watcher(trace))
    await crash(engine, "doomed/work")
    await until(lambda: child(engine.tree(), "doomed")["status"] == "failed")
    assert "its supervisor ended" in child(engine.tree(), "doomed")["reason"]
    await until(lambda: trace.lines == ["escalated doomed to nobody failed True"])
    await until(lambda: not pids(engine, "work") | pids(engine, "other"))
    run = await engine.emit(Order(n=4))
    await engine.restart_pipeline("doomed")
    assert (await run.result(20)).status == "completed"
    await until(lambda: child(engine.tree(), "doomed")["status"] == "up")


async def test_a_pipeline_whose_supervisor_keeps_crashing_fails_until_it_is_restarted(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("unsupervised", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow, watcher(trace))
    await crash(engine, "unsupervised")
    await until(lambda: child(engine.tree(), "unsupervised")["status"] == "failed")
    run = await engine.emit(Order(n=4))
    await until(lambda: trace.lines == ["escalated engine to nobody failed True"])
    await until(lambda: not pids(engine, "work"))
    await engine.restart_pipeline("unsupervised")
    assert (await run.result(20)).events == [Item(n=4)]
