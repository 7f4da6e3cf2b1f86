"""A partition saves snapshots, but never stops its loop for one with very many runs."""

import asyncio

import pytest

from ensue import Event, Pipeline
from ensue.actors.partition import loop as partition
from ensue.testing import LocalEngine


class Begun(Event):
    """A run that stays alive."""


@pytest.mark.parametrize(("most_runs", "snapshots"), [(2, 1), (1, 0)])
async def test_a_snapshot_is_kept_unless_too_many_runs_are_alive(
    monkeypatch: pytest.MonkeyPatch, most_runs: int, snapshots: int
) -> None:
    pipeline = Pipeline("long")
    release = asyncio.Event()

    @pipeline.step
    async def stay(event: Begun) -> None:
        await release.wait()

    async with LocalEngine(pipeline) as engine:
        await engine.emit(Begun())
        monkeypatch.setattr(partition, "_SNAPSHOT_RECORDS", 0)
        monkeypatch.setattr(partition, "_SNAPSHOT_RUNS", most_runs)
        await engine.emit(Begun())
        assert len(list(engine._log.log.snapshots())) == snapshots
        release.set()
