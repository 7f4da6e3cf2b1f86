"""The power is cut, the disk is full, the disk fails: what `commit` returned from is there, and nothing half is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import apsw
import pytest

from ensue import Event, Pipeline
from ensue.actors.client.engine_api import EngineApi
from ensue.cluster.log.open import open_reader
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.errors import EnsueError, LogUnavailable
from ensue.events.state.run_status import Status

from ..conformance.engines import Rig, by_value, make_rig, until
from .power import Disk, disk_on
from .power_trial import Story, Tally, check, cuts, write

pytestmark = pytest.mark.timeout(120)
CUTS = 100
ROUNDS = 100


def test_no_power_cut_takes_what_was_acknowledged_or_leaves_half_of_anything(tmp_path: Path) -> None:
    found = cuts(tmp_path, CUTS, seed=1)
    assert found.wrong == []
    assert (found.cuts, found.losing) == (CUTS, 0)
    assert found.commits > CUTS


def test_with_relaxed_durability_a_power_cut_takes_the_last_batches_whole_and_no_more(tmp_path: Path) -> None:
    found = cuts(tmp_path, CUTS, seed=2, durability="relaxed")
    assert found.wrong == []
    assert found.cuts == CUTS
    assert found.losing > 0, "a disk that loses nothing proves nothing"


def test_a_log_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    found = cuts(tmp_path, 20, seed=3, spoil=lambda log: log._open().pragma("synchronous", 0))
    assert found.losing > 0


# A disk that fails for a while


class Fault:
    """Raises in place of one call in so many, while `odds` is above 0."""

    def __init__(self, disk: Disk) -> None:
        self.odds = 0.0
        self.raised = 0
        self._disk = disk
        disk.before = self

    def __call__(self, call: str, _name: str) -> None:
        if self._disk.random.random() < self.odds:
            self.raised += 1
            full = call == "write" and self._disk.random.randrange(2)
            raise apsw.FullError("ENOSPC") if full else apsw.IOError("EIO")


@pytest.fixture
def fault() -> Iterator[Fault]:
    disk, unplug = disk_on("failing", seed=4)
    yield Fault(disk)
    unplug()


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_a_commit_on_a_failing_disk_is_refused_whole_and_the_same_log_goes_on_when_it_heals(
    tmp_path: Path, fault: Fault, durability: Literal["full", "relaxed"]
) -> None:
    story, tally, refused = Story(), Tally(), 0
    with closing(SqliteLog(str(tmp_path / "ensue.db"), durability)) as log:
        for number in range(ROUNDS):
            fault.odds = 0.02
            try:
                write(log, story, fault._disk.random)
            except LogUnavailable:
                refused += 1
            fault.odds = 0.0
            story.unsure = None  # the process lives, so what was refused is not there
            story = check(log, story, durability, tally, f"round {number}")
            write(log, story, fault._disk.random, batches=1)
    assert tally.wrong == []
    assert tally.losing == 0
    assert refused > ROUNDS // 4


class Order(Event):
    n: int


class Item(Event):
    n: int


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path, fault: Fault) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    yield made
    await made.stop()


async def emit_until_it_fails(engine: EngineApi) -> list[str]:
    """The runs of those that were accepted; the others heard that they were not."""
    accepted: list[str] = []
    while not engine.state().startswith("failed"):
        with suppress(EnsueError):
            accepted.append((await engine.emit(Order(n=len(accepted)))).id)
        await asyncio.sleep(0)
    return accepted


async def test_an_engine_on_a_failing_disk_begins_again_by_itself_and_loses_nothing(rig: Rig, fault: Fault) -> None:
    flow = Pipeline("failing-disk")

    @flow.step(replicas=2)
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await rig.start(flow)
    accepted: list[str] = []
    for _ in range(3):
        fault.odds = 0.005
        accepted += await emit_until_it_fails(engine)
        fault.odds = 0.0
        await until(lambda: engine.state() == "ready")
    assert fault.raised
    assert len(accepted) > 3
    for run_id in accepted:
        outcome = await (await engine.run(run_id)).result(30)
        assert outcome.status == "completed"
    reader = open_reader(rig.store)
    try:
        await until(lambda: {status for _, status in reader.counts()} == {Status.COMPLETED})
    finally:
        reader.close()
