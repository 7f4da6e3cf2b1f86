"""The sweeper: a process beside pytest that kills what a test run leaves behind, however the run ends.

Called as `sweeper.py FOLDER PYTEST [MAKE]`: the folder of the run, the process id of pytest, and that of the `make`
which started it.

Rules:
1. A process belongs to the run if its environment names the folder of the run. Ray's processes inherit it, also those
   that have left their parent or their process group.
2. The run is over when pytest is gone, or when `make` is. Then pytest's processes are killed at once. All others have
   `GRACE_SECONDS` to end by themselves: an embedded Ray removes its folder in that time.
3. It hears no signal that a terminal or `make` sends.
"""

import shutil
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

VARIABLE = "ENSUE_TEST_RUN"
"""Names the folder of the run, behind those of the runs that this one is part of, with colons between them."""
GRACE_SECONDS = 5.0
KILL_SECONDS = 5.0
_POLL_SECONDS = 0.25


def main(folder: Path, *watched: int) -> None:
    """Wait for the end of the run, then sweep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owners = processes(watched)
    while len(owners) == len(watched) and all(map(runs, owners)):
        time.sleep(_POLL_SECONDS)
    kill(owners[:1] + processes(pytest_ids(folder)))
    wait_until_gone(folder, GRACE_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while (left := members(folder)) and time.monotonic() < deadline:
        kill(left)
        time.sleep(_POLL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)


def wait_until_gone(folder: Path, seconds: float) -> None:
    """Return when no process of the run is left, or when the time is up."""
    deadline = time.monotonic() + seconds
    while members(folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def pytest_ids(folder: Path) -> list[int]:
    """Process ids of pytest and of the workers of pytest-xdist, which `tests/conftest.py` notes."""
    return [int(path.stem) for path in folder.glob("*.pytest")]


def members(folder: Path) -> list[psutil.Process]:
    """The processes of the run that still run, except this one."""
    others = (process for process in psutil.process_iter() if process.pid != psutil.Process().pid)
    return [process for process in others if runs(process) and _is_of(process, folder)]


def runs(process: psutil.Process) -> bool:
    """Whether a process is there and is no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _is_of(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder) in process.environ().get(VARIABLE, "").split(":")
    except psutil.Error:  # it is gone, or another user's
        return False


def processes(pids: Iterable[int]) -> list[psutil.Process]:
    """Those of the processes that are there."""
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def kill(processes: Iterable[psutil.Process]) -> None:
    """Kill each of them that still is the process that it was."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
