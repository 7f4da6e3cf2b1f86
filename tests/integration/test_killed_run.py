"""A test run that is killed leaves no process behind: no Ray, no worker, no program of a test."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ..child_process import clean_environment, kill, spawn
from ..run_folder import MAKE_VARIABLE
from .processes import alive, wait_until

ROOT = Path(__file__).resolve().parents[2]
HELD = Path(__file__).with_name("held_run.py")
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(HELD)]
MAKE = ["make", "-o", "lint", "-o", "types", "test", f"VENV={sys.prefix}", f"PYTEST_ARGS=-p no:cacheprovider {HELD}"]
SECONDS = 15.0
"""So long may it take until all is gone."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Path]:
    """Where the run that is killed writes the ids of its processes; what is left of them is killed in the end."""
    notes = tmp_path / "processes"
    yield notes
    for pid in alive(noted(notes)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def noted(notes: Path) -> set[int]:
    """The ids that the run has written."""
    return {int(line) for line in notes.read_text().split()} if notes.exists() else set()


def titles(pids: set[int]) -> str:
    """What processes are called."""
    return " ".join(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in alive(pids))


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param([*PYTEST, "-n", "0"], signal.SIGTERM, id="pytest-SIGTERM"),
        pytest.param([*PYTEST, "-n", "2"], signal.SIGKILL, id="xdist-SIGKILL"),
        pytest.param(MAKE, signal.SIGTERM, id="make-SIGTERM", marks=pytest.mark.needs("make")),
        pytest.param(MAKE, signal.SIGKILL, id="make-SIGKILL", marks=pytest.mark.needs("make")),
    ],
)
def test_a_run_that_is_killed_leaves_no_process_behind(command: list[str], number: int, notes: Path) -> None:
    process = start(command, notes)
    try:
        held = processes_of(process, notes)
        assert "gcs_server" in titles(held)
        process.send_signal(number)
        process.wait(SECONDS)
        wait_until(lambda: not alive(held), SECONDS, lambda: f"left behind: {titles(held)}")
    finally:
        kill(process)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param([*PYTEST, "-n", "0"], id="pytest"),
        pytest.param(MAKE, id="make", marks=pytest.mark.needs("make")),
    ],
)
def test_ctrl_c_on_the_terminal_of_a_run_leaves_no_process_behind(command: list[str], notes: Path) -> None:
    process = start(command, notes)
    try:
        held = processes_of(process, notes)
        os.killpg(process.pid, signal.SIGINT)
        process.wait(SECONDS)
        wait_until(lambda: not alive(held), SECONDS, lambda: f"left behind: {titles(held)}")
    finally:
        kill(process)


def start(command: list[str], notes: Path) -> "subprocess.Popen[bytes]":
    """Start a run in a process group of its own, as a shell does."""
    environment = clean_environment(HELD_RUN=str(notes))
    environment.pop(MAKE_VARIABLE, None)
    with notes.with_suffix(".output").open("wb") as output:
        return spawn(command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True)


def processes_of(process: "subprocess.Popen[bytes]", notes: Path) -> set[int]:
    """The ids of all that the run has started, once it has started it."""
    wait_until(lambda: notes.exists() or process.poll() is not None, explain=notes.with_suffix(".output").read_text)
    assert notes.exists(), notes.with_suffix(".output").read_text()
    return noted(notes)
