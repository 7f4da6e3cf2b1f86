"""A Ray that was started by another program, and workers that are reached by Ray calls, as on another node."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ensue import Context, Engine, Event, Pipeline, Retry
from ensue.actors.pool import worker_pool, worker_processes

from ..child_process import kill, spawn
from ..conformance.engines import Rig, Trace, by_value, make_rig, until
from .processes import EngineProcess, alive, descendants, wait_until

pytestmark = pytest.mark.timeout(120)
KEEPER = ("ray::Keeper",)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Total(Event):
    numbers: list[int]


@pytest.fixture
async def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    """An engine that takes every worker to be on another node."""

    def nowhere(_node: str, _session: object) -> bool:
        return False

    monkeypatch.setattr(worker_processes, "_is_here", nowhere)
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def test_over_ray_calls_a_pipeline_runs_to_its_end(remote: Rig) -> None:
    flow = Pipeline("remote")

    @flow.step
    def spread(event: Order) -> Iterator[Item]:
        for n in range(event.n):
            yield Item(n=n)

    @flow.step
    async def gather(items: list[Item], ctx: Context) -> Total:
        return Total(numbers=[sum(item.n for item in items), len(ctx.events(Item))])

    outcome = await remote.run(flow, Order(n=1000))
    assert outcome.events == [Total(numbers=[499500, 1000])]


async def test_over_ray_calls_a_worker_that_dies_is_replaced(remote: Rig) -> None:
    flow = Pipeline("remote-dies")

    @flow.step(retry=Retry(wait=0.05))
    def work(event: Order, ctx: Context) -> Item:
        if event.n == 5 and ctx.attempt == 1:
            os._exit(1)
        return Item(n=event.n)

    engine = await remote.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(50)])
    assert [(await run.result(30)).event for run in runs] == [Item(n=n) for n in range(50)]


async def test_over_ray_calls_a_hanging_step_loses_its_process(remote: Rig) -> None:
    flow = Pipeline("remote-hangs")

    @flow.step(timeout=0.5, retry=Retry(wait=0.05))
    def work(event: Order, ctx: Context) -> Item:
        while ctx.attempt == 1:
            import time  # noqa: PLC0415 - the step travels alone

            time.sleep(0.1)
        return Item(n=ctx.attempt)

    assert (await remote.run(flow, Order())).events == [Item(n=2)]


async def test_over_ray_calls_an_idle_worker_is_not_taken_for_dead(
    remote: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "_MAX_SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(worker_pool, "_CHECK_SECONDS", 0.2)
    flow = Pipeline("remote-idle")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=os.getpid())

    engine = await remote.start(flow)
    before = (await (await engine.emit(Order())).result(20)).events
    assert isinstance(engine, Engine)
    links, times = engine._links, set[float]()

    def heard_thrice() -> bool:
        times.update(links.last_message_at.values())
        return len(times) > 2

    await until(heard_thrice)  # longer than the liveness timeout
    assert (await (await engine.emit(Order())).result(20)).events == before


async def test_over_ray_calls_a_stop_in_the_middle_loses_nothing(remote: Rig, trace: Trace) -> None:
    flow = Pipeline("remote-stop")

    @flow.step(concurrency=1)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"{event.n} {ctx.attempt}")
        await asyncio.sleep(0.05)
        return Item(n=ctx.attempt)

    engine = await remote.start(flow)
    ids = [run.id for run in await engine.emit_many([Order(n=n) for n in range(20)])]
    await until(lambda: len(trace.lines) >= 3)
    await remote.stop(grace_seconds=10)
    engine = await remote.start(flow)
    outcomes = [await (await engine.run(run_id)).result(20) for run_id in ids]
    assert [(o.status, o.events) for o in outcomes] == [("completed", [Item(n=1)])] * 20
    assert sorted(trace.lines) == sorted(f"{n} 1" for n in range(20))


@pytest.fixture
def foreign_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, set[int]]]:
    """The address of a Ray that was started by hand, and its processes."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--port", "6391", "--num-cpus", "2"]
    command += ["--include-dashboard=false", "--disable-usage-stats", "--block"]
    log = tmp_path_factory.mktemp("ray") / "head.txt"
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    with log.open("wb") as output:
        head = spawn(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, env=environment)
    family: set[int] = set()
    try:
        wait_until(lambda: "Ray runtime started" in log.read_text(), 60, log.read_text)
        family = descendants(head.pid)
        found = re.search(r"Local node IP: ([\d.]+)", log.read_text())
        assert found, log.read_text()
        yield f"{found.group(1)}:6391", family
    finally:
        for pid in (*(family | descendants(head.pid)), head.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        kill(head)


def titled(*titles: str, within: set[int]) -> set[int]:
    """The processes below these whose title begins so."""
    below = {pid for parent in within for pid in descendants(parent)}
    return {pid for pid in below if Path(f"/proc/{pid}/cmdline").read_text().startswith(titles)}


def test_on_a_ray_that_somebody_else_runs_a_killed_engine_leaves_no_worker_and_goes_on_when_restarted(
    foreign_ray: tuple[str, set[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, family = foreign_ray
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    (tmp_path / "hold").touch()
    first = EngineProcess(tmp_path, "emit", "10", "address", address)
    second: EngineProcess | None = None
    try:
        first.expect(lambda: sum("second" in line for line in first.lines()) == 10)
        workers = {int(line.split()[-1]) for line in first.lines() if "second" in line}
        assert alive(workers) == workers
        wait_until(lambda: len(titled(*KEEPER, within=family)) == 1)
        supervisors = titled(*KEEPER, within=family)
        first.kill()
        wait_until(lambda: not alive(workers | supervisors), 30)
        assert alive(family)
        (tmp_path / "hold").unlink()
        second = again = EngineProcess(tmp_path, "address", address)
        again.expect(lambda: again.said("left"))
        ended = {int(line.split()[1]) for line in again.lines() if "second" in line}
        assert ended == set(range(10))
    finally:
        first.end()
        if second is not None:
            second.end()
