"""Supervision under Ray: what is killed comes back, who is to blame is blamed, and what gives up says so."""

import asyncio
import os
import signal
import threading
from functools import partial

import pytest

from ensue import (
    Backoff,
    Engine,
    Event,
    Pipeline,
    Retry,
    Supervision,
)
from ensue.actors.partition import thread as partition_thread
from ensue.actors.partition.loop import Partition
from ensue.actors.supervision.orders import ROOT_HISTORY, SupervisionTimeouts
from ensue.cluster.log.open import open_log

from ..conformance.engines import Rig, Trace, ray_session, trace, until
from .processes import alive
from .trees import begin, child, crash, pids, remembers, rig, shown, watcher

__all__ = ["ray_session", "rig", "trace"]
pytestmark = pytest.mark.timeout(120)
SOON = Retry(attempts=5, wait=0.05)
QUICK = Backoff(0.01, 1.0, 0.01, 0.0)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Heard(Event):
    text: str


async def test_a_worker_that_is_killed_is_replaced_and_a_pipeline_hears_of_it(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("killed")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await begin(rig, flow, watcher(trace))
    (victim,) = pids(engine, "work")
    os.kill(victim, signal.SIGKILL)
    await until(lambda: bool(pids(engine, "work") - {victim}))
    outcome = await (await engine.emit(Order())).result(20)
    assert outcome.events == [Item(n=pids(engine, "work").pop())]
    await until(lambda: trace.lines == ["restarted killed/work"])
    work_now = ("up", 1, pids(engine, "work").pop())
    await until(lambda: shown(engine, "killed", "work", "work/0") == work_now)


async def test_a_step_whose_workers_keep_dying_fails_its_pipeline_whose_events_wait_until_it_is_restarted(
    rig: Rig, trace: Trace
) -> None:
    once = Supervision(intensity=1, backoff=QUICK)
    flow = Pipeline("loop", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step(supervision=once)
    def work(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def other(event: Item) -> None:
        trace.note(f"done {event.n}")

    engine = await begin(rig, flow, watcher(trace))
    first = pids(engine, "work")
    os.kill(min(first), signal.SIGKILL)
    await until(lambda: bool(pids(engine, "work") - first))
    os.kill(min(pids(engine, "work") - first), signal.SIGKILL)
    await until(lambda: child(engine.tree(), "loop")["status"] == "failed")
    await until(lambda: not pids(engine, "other"))
    run = await engine.emit(Order(n=7))
    assert engine.state() == "ready"
    said = {"escalated loop/work to loop failed False", "escalated loop to nobody failed True"}
    await until(lambda: said <= set(trace.lines))
    assert (
        "more than 0 restarts within 30 s: more than 1 restarts within 30 s" in child(engine.tree(), "loop")["reason"]
    )
    await engine.restart_pipeline("loop")
    assert (await run.result(30)).status == "completed"
    assert "done 7" in trace.lines
    await until(lambda: child(engine.tree(), "loop")["status"] == "up")


async def test_a_failed_pipeline_stays_so_when_its_engine_crashed_and_not_when_that_was_stopped_in_order(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("stays", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step(supervision=Supervision(intensity=0, backoff=QUICK))
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow, watcher(trace))
    os.kill(pids(engine, "work").pop(), signal.SIGKILL)
    said = {"escalated stays/work to stays failed False", "escalated stays to nobody failed True"}
    await until(lambda: said <= set(trace.lines))  # so its history is in the log, and the next engine tells none of it
    await rig.stop()
    before = trace.lines
    log = open_log(rig.store)
    log.acquire("somebody who crashed")
    log.close()
    engine = await begin(rig, flow, watcher(trace))
    assert child(engine.tree(), "stays")["status"] == "failed"
    await until(lambda: trace.lines == [*before, "taken over from somebody who crashed at epoch 3"])
    await rig.stop()
    engine = await begin(rig, flow)
    await until(lambda: child(engine.tree(), "stays")["status"] == "up")


async def test_a_pipeline_may_be_called_as_a_part_of_the_engine_is_and_its_history_is_its_own(
    rig: Rig,
) -> None:
    flows = [Pipeline("engine"), Pipeline("partition")]
    for flow in flows:

        @flow.step
        def work(event: Order) -> Item:
            return Item(n=event.n)

    engine = await begin(rig, *flows)
    for step, history in (("work", "engine"), (None, ROOT_HISTORY)):
        await crash(engine, f"engine/{step}" if step else "engine")
        await until(partial(remembers, engine, history))
    await rig.stop()
    engine = await begin(rig, *flows)
    outcomes = [await (await engine.emit(Order(n=1), pipeline=name)).result(20) for name in ("engine", "partition")]
    assert [outcome.status for outcome in outcomes] == ["completed"] * 2


async def test_a_partition_that_does_not_turn_while_inputs_wait_is_shown(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("still")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    monkeypatch.setattr(partition_thread, "_HUNG_SECONDS", 0.3)
    engine = await begin(rig, flow)
    held, turn = threading.Event(), Partition.turn

    def hangs(self: Partition) -> bool:
        held.wait(30)
        return turn(self)

    monkeypatch.setattr(Partition, "turn", hangs)
    run = asyncio.create_task(engine.emit(Order(n=1)))
    again = asyncio.create_task(engine.emit(Order(n=2)))
    await until(lambda: child(engine.tree(), "partition")["status"] == "down")
    held.set()
    assert (await (await run).result(20)).status == "completed"
    assert (await (await again).result(20)).status == "completed"
    await until(lambda: child(engine.tree(), "partition")["status"] == "up")


async def test_a_constructor_that_never_returns_is_a_start_that_failed(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("stuck-start")

    @flow.step
    class Work:
        def __init__(self) -> None:
            trace.note(os.getpid())
            if len(trace.lines) == 1:
                signal.pause()

        def __call__(self, event: Order) -> Item:
            return Item(n=os.getpid())

    engine = Engine(flow, store=rig.store)
    engine._supervision_timeouts = SupervisionTimeouts(start_seconds=8.0, ping_seconds=1.0)
    async with engine:
        outcome = await (await engine.emit(Order())).result(60)
    first, second = (int(line) for line in trace.lines)
    assert outcome.events == [Item(n=second)]
    assert not alive({first})


async def test_one_for_all_replaces_every_worker_of_the_step_and_nobody_else(rig: Rig) -> None:
    flow = Pipeline("together")

    @flow.step(replicas=2, supervision=Supervision("one_for_all", backoff=QUICK))
    def work(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def other(event: Item) -> None: ...

    engine = await begin(rig, flow)
    before, others = pids(engine, "work"), pids(engine, "other")
    os.kill(min(before), signal.SIGKILL)
    await until(lambda: len(pids(engine, "work") - before) == 2)
    assert not alive(before)
    assert pids(engine, "other") == others


async def test_a_temporary_worker_that_died_stays_away_and_an_operator_hears_of_it_and_wants_it_back(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("once")

    @flow.step(supervision=Supervision(child="temporary"))
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow, watcher(trace))
    os.kill(pids(engine, "work").pop(), signal.SIGKILL)
    await until(lambda: child(engine.tree(), "once")["status"] == "down")
    await until(lambda: trace.lines == ["escalated once/work to nobody failed True"])
    run = await engine.emit(Order(n=3))
    await engine.restart_pipeline("once")
    assert (await run.result(20)).events == [Item(n=3)]


async def test_a_partition_that_fails_begins_again_from_the_log_and_no_run_is_lost(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Pipeline("reborn")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow)
    turn, left = Partition.turn, [2]

    def fails(self: Partition) -> bool:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("a fault of ours")
        return turn(self)

    run = await engine.emit(Order(n=1))
    monkeypatch.setattr(Partition, "turn", fails)
    await until(lambda: left == [0])
    assert (await run.result(20)).events == [Item(n=1)]
    await until(lambda: engine.state() == "ready")
    assert child(engine.tree(), "partition")["restarts"] == 2
    assert (await (await engine.emit(Order(n=2))).result(20)).events == [Item(n=2)]


async def test_workers_that_got_something_done_before_an_event_killed_them_do_not_count_against_their_step(
    rig: Rig,
) -> None:
    flow = Pipeline("poisoned", supervision=Supervision(intensity=0))

    @flow.step(retry=1, supervision=Supervision(intensity=0, backoff=QUICK))
    def work(event: Order) -> Item:
        if event.n < 0:
            os._exit(1)
        return Item(n=event.n)

    engine = await begin(rig, flow)
    for n in range(4):
        for _ in range(5):
            assert (await (await engine.emit(Order(n=n))).result(20)).status == "completed"
        assert (await (await engine.emit(Order(n=-1))).result(20)).status == "failed"
    await until(lambda: child(engine.tree(), "poisoned")["restarts"] == 4)
    await until(lambda: child(engine.tree(), "poisoned")["status"] == "up")
