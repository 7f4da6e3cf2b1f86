"""Logs that earlier versions wrote: today's code reads them, comes to the same state, and goes on with what is in them.

A folder of `stores/` is a version of the format: the store that its own code wrote, and what that code read in it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ensue.cluster.log.open import open_reader
from ensue.cluster.log.protocol import DeadFilter
from ensue.events.ids import format_id
from ensue.events.state.records import RecordKind
from ensue.events.state.run_status import Status
from ensue.testing import LocalEngine

from . import flows
from .describe import describe, kinds_in, shapes_in
from .write_store import EXPECTED, STORE, write

STORES = Path(__file__).parent / "stores"
VERSIONS = sorted(folder.name for folder in STORES.iterdir())


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    """The folder of one version of the format."""
    return STORES / str(request.param)


@pytest.fixture
def store(version: Path, tmp_path: Path) -> Path:
    """A copy of its store."""
    shutil.copy(version / STORE, tmp_path / STORE)
    return tmp_path / STORE


def test_the_store_has_every_kind_of_record(store: Path) -> None:
    assert kinds_in(store) == {kind.name for kind in RecordKind}


def test_what_the_store_says_is_what_the_version_that_wrote_it_read(version: Path, store: Path) -> None:
    expected = json.loads((version / EXPECTED).read_text(encoding="utf-8"))
    assert json.loads(json.dumps(describe(store))) == expected


async def test_the_unfinished_runs_go_on_to_their_end(version: Path, store: Path) -> None:
    expected = json.loads((version / EXPECTED).read_text(encoding="utf-8"))
    blocked = next(number for number, run in expected["live"]["runs"].items() if _is_blocked(run))
    async with LocalEngine(flows.orders, flows.trips, store=f"sqlite:///{store}") as engine:
        statuses: dict[str, str] = {}
        for number, run in expected["live"]["runs"].items():
            handle = await engine.run(bytes.fromhex(run["id"]))
            if number == blocked:
                await engine.discard(_letter_of(store, run["id"]))
            statuses[number] = (await handle.result(timeout=30)).status
    undone = {number for number, run in expected["live"]["runs"].items() if run["phase"]}
    assert statuses == {number: "compensated" if number in undone else "completed" for number in statuses}
    assert _live_runs(store) == []


def test_a_change_of_what_is_written_comes_with_a_store_of_the_version_before(tmp_path: Path) -> None:
    write(tmp_path / "today")
    shutil.copy(STORES / VERSIONS[-1] / STORE, tmp_path / STORE)
    assert shapes_in(tmp_path / "today" / STORE) == shapes_in(tmp_path / STORE)


def _is_blocked(run: dict[str, Any]) -> bool:
    return any(d["number"] == run["compensating"] and d["status"] == "FAILED" for d in run["deliveries"])


def _letter_of(store: Path, run_id: str) -> str:
    reader = open_reader(f"sqlite:///{store}")
    try:
        [letter] = reader.dead(DeadFilter(run_id=bytes.fromhex(run_id)))
    finally:
        reader.close()
    return format_id(letter.letter_id)


def _live_runs(store: Path) -> list[str]:
    reader = open_reader(f"sqlite:///{store}")
    try:
        return [format_id(row.run_id) for row in reader.runs(limit=1000) if Status(row.status).live]
    finally:
        reader.close()
