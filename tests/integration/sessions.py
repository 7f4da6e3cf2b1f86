"""Scripts that start a Ray or attach to one, each in a process of its own.

A process can have one Ray, and Ray reads many settings once, so each session runs in a script of its own. A script
prints one JSON document of what it saw.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from .. import child_process
from ..child_process import clean_environment

__all__ = ["CLEAN", "PRELUDE", "eventually", "launch", "run", "runs", "said", "two_lines"]

CLEAN = clean_environment()

PRELUDE = """
import json, os, stat, sys, threading
from pathlib import Path
from ensue.cluster.ray import session
from ensue.events.errors import RayUnavailable

def say(**facts): print(json.dumps(facts), flush=True)

def refusal(*args, **kwargs):
    try: session.start(*args, **kwargs)
    except RayUnavailable as error: return str(error)

def workers(count):
    ray = session.ray_module()
    @ray.remote(num_cpus=0)
    class Worker:
        def pid(self): return os.getpid()
    handles = [Worker.remote() for _ in range(count)]
    return handles, ray.get([handle.pid.remote() for handle in handles])

def mode(path): return stat.S_IMODE(Path(path).stat().st_mode)
"""


def run(
    script: str, *arguments: str, environment: Mapping[str, str] = CLEAN, timeout_seconds: float = 60
) -> dict[str, Any]:
    """The last document that a script prints."""
    done = child_process.run_program(
        [sys.executable, "-c", PRELUDE + script, *arguments], env=CLEAN | {**environment}, timeout=timeout_seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def launch(script: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run the script in a process group of its own, as a terminal would; it is killed if it outlives the block."""
    return child_process.spawned(
        [sys.executable, "-c", PRELUDE + script],
        env=CLEAN,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(child_process.read_line(process))
    return facts


def eventually(condition: Callable[[], bool], deadline_seconds: float) -> bool:
    """Poll a condition until it holds or the time is up; whether it holds."""
    ends = time.monotonic() + deadline_seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > ends:
            return False
        pause.wait(0.05)
    return True


def runs(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def two_lines(message: str) -> bool:
    return len(message.splitlines()) == 2
