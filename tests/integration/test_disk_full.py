"""A full disk: callers get an error, no accepted event is lost, and the engine continues once there is room again."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ensue import Context, Event, Outcome, Pipeline
from ensue.actors.client.engine_api import EngineApi
from ensue.cluster.log.open import open_reader
from ensue.events.errors import EnsueError, LogUnavailable, Overloaded

from ..child_process import run_program
from ..conformance.engines import Rig, Trace, by_value, make_rig, until

pytestmark = pytest.mark.timeout(90)


class Order(Event):
    n: int
    padding: str = ""


class Item(Event):
    n: int


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes; only root can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = run_program(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)])
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    run_program(["umount", "-l", str(folder)], check=True)


@pytest.fixture
async def rig(request: pytest.FixtureRequest, small_disk: Path) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", small_disk)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def emit_when_it_can(engine: EngineApi, event: Event) -> Outcome:
    """As a sender does: send it again while it is refused."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await (await engine.emit(event)).result(30)
        except (Overloaded, LogUnavailable):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)


async def test_while_the_disk_is_full_callers_hear_of_it_and_afterwards_all_goes_on(
    rig: Rig, trace: Trace, small_disk: Path
) -> None:
    flow = Pipeline("full-disk")

    @flow.step
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(event.n)
        if event.n == 0:
            await until(lambda: "go on" in trace.lines)
        return Item(n=event.n)

    engine = await rig.start(flow)
    held = await engine.emit(Order(n=0))
    await until(lambda: trace.lines == ["0"])
    ballast = small_disk / "ballast"
    accepted: list[str] = []
    with ballast.open("wb") as file:
        space = os.statvfs(small_disk)
        file.write(bytes(max(0, space.f_bavail * space.f_frsize - 300_000)))

    async def fill() -> None:
        for n in range(1, 200):
            run = await engine.emit(Order(n=n, padding="x" * 10_000))
            accepted.append(run.id)

    with pytest.raises(LogUnavailable, match="has no room left: nothing of this was written"):
        await fill()
    with pytest.raises(EnsueError):
        await engine.emit(Order(n=999, padding="x" * 100_000))
    trace.note("go on")
    ballast.unlink()
    assert (await emit_when_it_can(engine, Order(n=1000))).events == [Item(n=1000)]
    assert (await held.result(30)).events == [Item(n=0)]
    outcomes = [await (await engine.run(run_id)).result(30) for run_id in accepted]
    assert [outcome.status for outcome in outcomes] == ["completed"] * len(accepted)
    reader = open_reader(rig.store)
    try:
        assert {status for _, status in reader.counts()} == {3}
    finally:
        reader.close()
