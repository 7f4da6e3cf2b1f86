"""Fencing trials: an engine is stopped while it commits, another one takes over its store, and the first continues.

Rules: both are real processes on one file. A process that is stopped while it holds SQLite's write lock keeps all
others out until it continues or is killed. That is not a fencing trial, so it continues for a moment and is stopped
again.
"""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw

from ensue.actors.local import LocalEngine
from ensue.cluster.log.open import open_log, open_reader
from ensue.events.model.codec import unpack
from ensue.events.state.records import EventRecord, unpack_records

from ..child_process import kill, read_line, spawn
from .fenced_program import Order, flow

__all__ = ["Fencing", "fence", "stop_unlocked"]

_PROGRAM = Path(__file__).with_name("fenced_program.py")
_OURS = 1_000_000
"""Numbers of the events of the engine that takes over begin here."""
_EVENTS = 20
_MOST_EVENTS = 200


@dataclass(slots=True)
class Fencing:
    """Of all trials: what the stopped engines had had accepted, how often the lock was found held, what was wrong."""

    trials: int = 0
    accepted: int = 0
    found_locked: int = 0
    last_words: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])


def fence(folder: Path, trials: int, seed: int) -> Fencing:
    """So many trials, each on a store of its own."""
    found, random = Fencing(), Random(seed)  # noqa: S311 - seeded, so that it can be had again
    for number in range(trials):
        path = folder / f"fenced-{number}.db"
        asyncio.run(_trial(path, random, found, f"trial {number} of seed {seed}"))
    return found


async def _trial(path: Path, random: Random, found: Fencing, where: str) -> None:
    store = f"sqlite:///{path}"
    first = _start(store)
    assert first.stdout is not None
    try:
        accepted = [int(read_line(first)) for _ in range(random.randrange(1, _MOST_EVENTS))]
        found.found_locked += stop_unlocked(first.pid, path)
        taken_at = await _take_over(store, first.pid)
        words = first.stdout.read().split("\n")
    finally:
        kill(first)
    accepted += [int(word) for word in words if word.isdigit()]
    found.trials += 1
    found.accepted += len(accepted)
    found.last_words.append(next((word for word in words if word.startswith("ended: ")), "it said nothing"))
    found.wrong += [f"{where}: {fault}" for fault in _faults(store, taken_at, set(accepted))]


def _start(store: str) -> "subprocess.Popen[str]":
    return spawn([sys.executable, str(_PROGRAM), store], stdout=subprocess.PIPE, text=True)


def stop_unlocked(pid: int, path: Path) -> int:
    """Stop a process at a moment in which it holds no lock; how often it did hold it."""
    held = 0
    while True:
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        with closing(apsw.Connection(str(path))) as other:
            try:
                other.execute("BEGIN IMMEDIATE; ROLLBACK")
            except apsw.BusyError:
                held += 1
                os.kill(pid, signal.SIGCONT)
            else:
                return held


async def _take_over(store: str, stopped: int) -> int:
    """The end of the log when it was taken over. The new owner works, before and after the old one continues."""
    with closing(open_log(store)) as log:
        log.acquire("the one that comes after")
        taken_at = log.next_offset()
    async with LocalEngine(flow, store=store) as engine:
        for n in range(_OURS, _OURS + _EVENTS):
            await (await engine.emit(Order(n=n))).result(20)
        os.kill(stopped, signal.SIGCONT)
        for n in range(_OURS + _EVENTS, _OURS + 2 * _EVENTS):
            await (await engine.emit(Order(n=n))).result(20)
        await asyncio.to_thread(os.waitid, os.P_PID, stopped, os.WEXITED | os.WNOWAIT)
        last = await (await engine.emit(Order(n=_OURS + 2 * _EVENTS))).result(20)
        assert last.status == "completed"
    return taken_at


def _faults(store: str, taken_at: int, accepted: set[int]) -> list[str]:
    faults: list[str] = []
    with closing(open_reader(store)) as reader:
        entries = reader.scan(0, 10**6)
        numbers = [(offset, n) for entry in entries for offset, n in _orders(entry.offset, entry.body)]
    if stale := [offset for offset, n in numbers if offset >= taken_at and n < _OURS]:
        faults.append(f"the log was taken over at {taken_at}, and the old owner wrote at {stale}")
    if lost := accepted - {n for _, n in numbers}:
        faults.append(f"accepted and not in the log: {sorted(lost)}")
    ends = [entry.offset + entry.count for entry in entries]
    if [entry.offset for entry in entries] != [1, *ends[:-1]]:
        faults.append("the offsets have gaps")
    return faults


def _orders(offset: int, body: bytes) -> list[tuple[int, int]]:
    """The events from outside in an entry: (offset, number)."""
    found: list[tuple[int, int]] = []
    for place, record in enumerate(unpack_records(body)):
        if isinstance(record, EventRecord) and record.type == "Order":
            data: Any = unpack(record.data, 1 << 20)
            found.append((offset + place, data["n"]))
    return found
