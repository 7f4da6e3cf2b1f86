"""Supervision under Ray: what is killed comes back, who is to blame is blamed, and what gives up says so."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ensue import (
    Backoff,
    Context,
    Engine,
    Event,
    PartitionTakenOver,
    Pipeline,
    Retry,
    StepEscalated,
    StepRestarted,
    Supervision,
)
from ensue.actors import partition_thread
from ensue.actors.partition import Partition
from ensue.actors.supervising import Patience
from ensue.cluster.stores import open_log

from ..conformance.engines import Rig, Trace, by_value, make_rig, ray_session, trace, until
from .processes import alive

__all__ = ["ray_session", "trace"]
pytestmark = pytest.mark.timeout(120)
SOON = Retry(attempts=5, wait=0.05)
QUICK = Backoff(0.01, 1.0, 0.01, 0.0)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Heard(Event):
    text: str


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def begin(rig: Rig, *pipelines: Pipeline) -> Engine:
    engine = await rig.start(*pipelines)
    assert isinstance(engine, Engine)
    await supervised(engine)
    return engine


async def supervised(engine: Engine) -> None:
    """Wait until all supervisors are there: they start once the workers are."""
    await until(lambda: all(part["pid"] for part in parts(engine.tree()) if is_supervised(part)))


def is_supervised(part: Any) -> bool:
    """Whether a part of the tree is a supervisor that should be there: a pipeline that was given up has none below it."""
    return part["kind"] in ("supervisor", "pipeline", "step") and part["status"] not in ("failed", "down")


def parts(tree: Any) -> list[Any]:
    """A tree's parts, itself first."""
    return [tree, *(part for child in tree["children"] for part in parts(child))]


def watcher(trace: Trace) -> Pipeline:
    """A pipeline that notes what supervisors do."""
    watch = Pipeline("watch")

    @watch.step
    def restarted(event: StepRestarted) -> None:
        trace.note(f"restarted {event.pipeline}/{event.step}")

    @watch.step
    def escalated(event: StepEscalated) -> None:
        trace.note(f"escalated {event.supervisor} to {event.to or 'nobody'} failed {event.failed}")

    @watch.step
    def taken(event: PartitionTakenOver) -> None:
        trace.note(f"taken over from {event.previous} at epoch {event.epoch}")

    return watch


def child(tree: Any, name: str) -> Any:
    """The part of a tree with this name."""
    return next(part for part in tree["children"] if part["name"] == name)


def pids(engine: Engine, step: str) -> set[int]:
    found = {worker["pid"] for worker in engine.workers() if worker["step"] == step and worker["up"]}
    assert 0 not in found
    return found


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
    worker = child(child(child(engine.tree(), "killed"), "work"), "work/0")
    assert (worker["status"], worker["restarts"], worker["pid"]) == ("up", 1, pids(engine, "work").pop())


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
    assert child(engine.tree(), "loop")["status"] == "up"


async def test_a_failed_pipeline_stays_so_when_its_engine_crashed_and_not_when_that_was_stopped_in_order(
    rig: Rig, trace: Trace
) -> None:
    flow = Pipeline("stays", supervision=Supervision(intensity=0, backoff=QUICK))

    @flow.step(supervision=Supervision(intensity=0, backoff=QUICK))
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow)
    os.kill(pids(engine, "work").pop(), signal.SIGKILL)
    await until(lambda: child(engine.tree(), "stays")["status"] == "failed")
    await (await engine.emit(Order())).cancel()  # a commit, so that the history is in the log
    await rig.stop()
    log = open_log(rig.store)
    log.acquire("somebody who crashed")
    log.close()
    engine = await begin(rig, flow, watcher(trace))
    assert child(engine.tree(), "stays")["status"] == "failed"
    await until(lambda: trace.lines == ["taken over from somebody who crashed at epoch 3"])
    await rig.stop()
    engine = await begin(rig, flow)
    assert child(engine.tree(), "stays")["status"] == "up"


def supervisor(engine: Engine, pipeline: str, step: str | None) -> Any:
    """The process of a pipeline's supervisor, or of a step's."""
    found = child(engine.tree(), pipeline)
    return (child(found, step) if step else found)["pid"]


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
    name = "orphans" if step else "engine"
    await until(lambda: name in [fact.name for fact in engine.reader().facts("supervision")])
    os.kill(min(before), signal.SIGKILL)
    assert (await run.result(30)).events == [Item(n=2)]
    assert child(child(engine.tree(), "orphans"), "work")["restarts"] == 1


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
    assert child(engine.tree(), "doomed")["status"] == "up"


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
    engine._patience = Patience(ping_seconds=0.3)
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
    assert child(engine.tree(), "partition")["status"] == "up"


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
    engine._patience = Patience(start_seconds=8.0, ping_seconds=1.0)
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


async def test_a_temporary_worker_that_died_stays_away_until_an_operator_wants_it_back(rig: Rig) -> None:
    flow = Pipeline("once")

    @flow.step(supervision=Supervision(child="temporary"))
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await begin(rig, flow)
    os.kill(pids(engine, "work").pop(), signal.SIGKILL)
    await until(lambda: child(engine.tree(), "once")["status"] == "down")
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
