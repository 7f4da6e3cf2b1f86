"""SIGTERM with a real Ray: the first drains, the second ends at once, and the next engine takes over if it may wait."""

import signal
from pathlib import Path

import httpx
import pytest

from ensue.cluster.log.open import open_reader
from ensue.events.state.run_status import Status

from ..programs import DEADLINE_SECONDS, Program, started, wait

STORE = "sqlite:///ensue.db"
STEPS = """
import time
from pathlib import Path
from ensue import Event, Pipeline

class Go(Event):
    until: str

class Gone(Event):
    until: str

naps = Pipeline("naps")

@naps.step(concurrency=1)
def nap(event: Go) -> Gone:
    Path(event.until + ".begun").touch()
    while not Path(event.until).exists():
        time.sleep(0.05)
    return Gone(until=event.until)
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "drain_naps.py").write_text(STEPS)
    return tmp_path


def _begin(program: Program, until: Path) -> None:
    """A run whose step has begun."""
    answer = httpx.post(f"{program.url}/events", json={"type": "Go", "data": {"until": str(until)}})
    assert answer.status_code == 202
    wait(until.with_name(until.name + ".begun").exists)


def _statuses(folder: Path) -> list[Status]:
    reader = open_reader(f"sqlite:///{folder}/ensue.db")
    try:
        return [Status(row.status) for row in reader.runs()]
    finally:
        reader.close()


def test_the_first_sigterm_drains_and_the_next_engine_waits_for_the_store(here: Path) -> None:
    with started(here, "serve", "drain_naps.py", "--port", "0") as first:
        first.wait_for("durability full")
        _begin(first, here / "one")
        queued = httpx.post(f"{first.url}/events", json={"type": "Go", "data": {"until": str(here / "one.too")}})
        first.terminate()
        first.wait_for("stopping")
        assert httpx.get(f"{first.url}/readyz").status_code == 503
        refused = httpx.post(f"{first.url}/events", json={"type": "Go", "data": {"until": "x"}})
        assert (queued.status_code, refused.status_code) == (202, 503)
        with started(here, "serve", "drain_naps.py", "--port", "0", "--wait", str(DEADLINE_SECONDS)) as second:
            second.wait_for(
                f"waiting up to 1 min 00 s for the store, which is in use by `ensue serve` (pid {first.process.pid})"
            )
            (here / "one").touch()
            assert first.end()[0] == 0
            assert not (here / "one.too.begun").exists()
            second.wait_for("durability full")
            (here / "one.too").touch()
            wait(lambda: _statuses(here) == [Status.COMPLETED, Status.COMPLETED])
            second.terminate()
            assert second.end()[0] == 0


def test_a_second_sigterm_ends_serve_at_once_and_nothing_is_lost(here: Path) -> None:
    with started(here, "serve", "drain_naps.py", "--port", "0") as program:
        program.wait_for("durability full")
        _begin(program, here / "never")
        program.terminate()
        program.wait_for("stopping")
        program.terminate()
        assert program.end()[0] == 128 + signal.SIGTERM
    assert _statuses(here) == [Status.RUNNING]


def test_a_second_sigterm_ends_run_at_once_and_its_run_is_kept(here: Path) -> None:
    data = f'{{"until": "{here}/never"}}'
    with started(here, "run", "drain_naps.py", "--event", "Go", "--data", data) as program:
        wait((here / "never.begun").exists)
        wait(lambda: _ended_or_told_again(program))
        assert program.end()[0] == 128 + signal.SIGTERM
    assert "it continues when" not in program.said  # the last line of a clean stop
    assert _statuses(here) == [Status.RUNNING]


def _ended_or_told_again(program: Program) -> bool:
    program.terminate()
    return program.process.poll() is not None
