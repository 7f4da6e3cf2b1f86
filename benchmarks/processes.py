"""Processes: the memory of an engine and of all that it started, when they are at rest, and how to kill them."""

import asyncio
import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

__all__ = ["Weight", "at_rest", "end_tree", "rss_bytes", "weigh"]

_MIB = 1024 * 1024
_KILL_SECONDS = 10.0
_REST_SECONDS = 60.0
_LOOK_SECONDS = 0.5
_REST_SHARE = 0.3  # of one core, all together; thirteen idle processes of Ray take 0.15


class Weight(NamedTuple):
    """Memory of a group of processes, in MiB: pages that several share count fully in RSS and by share in PSS."""

    processes: int
    rss: float
    pss: float


def weigh() -> dict[str, Weight]:
    """This process and all below it, by group: `driver`, `workers`, `supervisors`, `ray` (its own), and `all`."""
    groups: dict[str, list[tuple[float, float]]] = {
        "driver": [],
        "workers": [],
        "supervisors": [],
        "ray": [],
        "all": [],
    }
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(OSError, psutil.Error):
            weight = _weigh_one(process.pid)
            groups["driver" if process == me else _group(process)].append(weight)
            groups["all"].append(weight)
    return {name: Weight(len(found), *map(sum, zip(*found, strict=True))) for name, found in groups.items() if found}


async def at_rest() -> None:
    """Wait until this process and all below it are idle, so that a figure does not include a start."""
    ends = time.monotonic() + _REST_SECONDS
    before: dict[int, float] = {}
    while time.monotonic() < ends:
        now = _cpu_seconds()
        if before.keys() == now.keys() and sum(now.values()) - sum(before.values()) < _REST_SHARE * _LOOK_SECONDS:
            return
        before = now
        await asyncio.sleep(_LOOK_SECONDS)
    raise TimeoutError(f"not at rest after {_REST_SECONDS:.0f} s: measure on a machine that has nothing else to do")


def _cpu_seconds() -> dict[int, float]:
    me = psutil.Process()
    found: dict[int, float] = {}
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid] = times.user + times.system
    return found


def _group(process: psutil.Process) -> str:
    title = " ".join(process.cmdline())
    if title.startswith("ray::Keeper") or (title.startswith("ray::") and "Supervisor" in title):  # older: one each
        return "supervisors"
    return "workers" if title.startswith("ray::Worker") else "ray"


def _weigh_one(pid: int) -> tuple[float, float]:
    fields = {"Rss": 0.0, "Pss": 0.0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) * 1024 / _MIB
    return fields["Rss"], fields["Pss"]


def rss_bytes() -> int:
    """The resident memory of this process."""
    return psutil.Process(os.getpid()).memory_info().rss


def end_tree(started: subprocess.Popen[Any]) -> None:
    """Kill a process that we started, unless it has ended, and all that it started."""
    if started.poll() is not None:
        return
    try:
        root = psutil.Process(started.pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(family, timeout=_KILL_SECONDS)
