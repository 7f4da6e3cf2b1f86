"""The folder of a test run, and what watches over the run from outside.

Rules:
1. Ray's temporary files of a run lie in the folder of the run, never in the one that every Ray of the machine shares:
   there, a later `ray.init()` would read the address of a Ray that is gone.
2. A sweeper (`sweeper.py`) outlives the run, kills what is left of it and removes the folder.
3. The path is short: Ray's Unix sockets lie below it, and theirs may have 103 characters.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .sweeper import VARIABLE

__all__ = ["MAKE_VARIABLE", "current_cluster", "start_run"]

MAKE_VARIABLE = "ENSUE_TESTS_MAKE"
"""The process id of the `make` that runs the tests: the run ends with it."""
_SWEEPER = Path(__file__).with_name("sweeper.py")


def start_run(*, is_worker: bool) -> None:
    """Create the folder of this run and start its sweeper; a worker of pytest-xdist joins the run of its parent."""
    make = os.environ.pop(MAKE_VARIABLE, "")
    if not is_worker:
        _create(make)
    folder = Path(os.environ[VARIABLE].rpartition(":")[2])
    (folder / f"{os.getpid()}.pytest").touch()


def _create(make: str) -> None:
    folder = tempfile.mkdtemp(prefix="tests-of-ensue-", dir="/tmp")
    os.environ[VARIABLE] = ":".join(filter(None, (os.environ.get(VARIABLE), folder)))
    os.environ["RAY_TMPDIR"] = folder
    sweeper = subprocess.Popen(
        [sys.executable, "-P", str(_SWEEPER), folder, str(os.getpid()), *filter(None, [make])],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    sweeper.returncode = 0  # nobody waits for it: it outlives this process, and Popen is not to warn of that


def current_cluster(folder: Path) -> tuple[int, str] | None:
    """When the address file of Ray in a temporary folder was changed, and what it says; None if there is none."""
    file = folder / "ray" / "ray_current_cluster"
    try:
        return file.stat().st_mtime_ns, file.read_text()
    except FileNotFoundError:
        return None
