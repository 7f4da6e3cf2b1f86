"""Restart: a log of 1,000,000 events, and how long it takes until an engine is back at work on it.

Rules: the real decider writes the log, run after run of W1. It has no snapshot unless the figure says so: this is the
worst that `kill -9` leaves. A live run waits for its second step. Ray runs before the clock starts, so only ensue is
timed: recovery, workers, the first result. The log is written and recovered in processes of their own, and is synced to
the disk before anything is timed, so garbage and writes of the setup are not measured.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from typing import NamedTuple, ParamSpec, TypeVar

import uvloop

from ensue import Engine
from ensue.actors.partition.recovery import recover
from ensue.cluster.log.open import open_log
from ensue.cluster.log.protocol import Snapshot
from ensue.cluster.ray import session as ray_session
from ensue.events.decide.commands import Decision
from ensue.events.ids import format_id
from ensue.events.state.snapshot import dump

from ..core_drive import CoreDrive, batch_of, chain_plan
from ..figures import Figure, Settings
from ..pipelines import chain
from ..words import RESTART

__all__ = ["measure"]

_EVENTS_OF_FINISHED = 4
_EVENTS_OF_ALIVE = 2
_BATCH = 1_500
_CHUNK = 20


P = ParamSpec("P")
T = TypeVar("T")


class Past(NamedTuple):
    """The contents of the log: its events, and the oldest run that is alive."""

    events: int
    alive: bytes


def measure(settings: Settings, live_name: str) -> list[Figure]:
    """Recovery, and the whole start of an engine, with few or many runs alive."""
    events = settings.size(1_000_000, 40_000)
    live = events // 10 if live_name == "many" else events // 1_000
    key, told = f"restart.{events}.{live_name}", f"{live:,} runs alive"
    past = _apart(_fill, settings, events, live)
    figures = [_figure(f"{key}.recover", f"recover(), {told}", _apart(_recover_seconds, settings, live))]
    with _ray_running():
        ready, first = uvloop.run(_start(settings, past.alive))
    figures.append(_figure(f"{key}.ready", f"engine ready, {told}", ready))
    figures.append(_figure(f"{key}.first", f"first run resumed and finished, {told}", first))
    figures.append(Figure(f"{key}.events", RESTART, f"events in the log, {told}", "full", "events", past.events))
    if live_name == "many":
        figures.append(_snapshot_figure(settings, events, live))
    return figures


def _apart(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Call a function in a process of its own, and sync the disk after it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        result = processes.submit(function, *arguments, **options).result()
    os.sync()
    return result


def _figure(key: str, what: str, seconds: float) -> Figure:
    return Figure(key, RESTART, what, "full", "s", seconds)


def _fill(settings: Settings, events: int, live: int, *, snapshot: bool = False) -> Past:
    """Write a new log: first the finished runs, then those that are alive."""
    for file in settings.folder.glob("benchmark.db*"):
        file.unlink()
    with closing(open_log(settings.store("relaxed"))) as log:
        epoch = log.acquire("benchmark")

        def commit(decision: Decision) -> None:
            if decision.writes:
                log.commit(batch_of(decision, epoch))

        drive = CoreDrive(commit, log.next_offset())
        finished = (events - live * _EVENTS_OF_ALIVE) // _EVENTS_OF_FINISHED
        drive.run(finished, _BATCH)
        for _ in range(live // _CHUNK):
            drive.turn(drive.answers(drive.turn([*drive.emits(_CHUNK)])))
        runs = drive.decider.state.runs
        if len(runs) != live:
            raise RuntimeError(f"{len(runs):,} runs are alive, not {live:,}")
        if snapshot:
            log.save_snapshot(Snapshot(drive.decider.next_offset, dump(drive.decider.state)))
    return Past(finished * _EVENTS_OF_FINISHED + live * _EVENTS_OF_ALIVE, next(iter(runs)))


def _recover_seconds(settings: Settings, live: int) -> float:
    plan = chain_plan()
    with closing(open_log(settings.store("full"))) as log:
        epoch = log.acquire("benchmark")
        begin = time.perf_counter()
        alive = recover(log, epoch, {plan.pipeline: plan}).live
        seconds = time.perf_counter() - begin
    if alive != live:
        raise RuntimeError(f"{alive:,} runs came back, not {live:,}")
    return seconds


def _snapshot_figure(settings: Settings, events: int, live: int) -> Figure:
    _apart(_fill, settings, events, live, snapshot=True)
    seconds = _apart(_recover_seconds, settings, live)
    return _figure(f"restart.{events}.snapshot.recover", f"recover() from a snapshot, {live:,} runs alive", seconds)


@contextmanager
def _ray_running() -> Generator[None]:
    session = ray_session.start()
    try:
        yield
    finally:
        ray_session.stop(session)


async def _start(settings: Settings, run_id: bytes) -> tuple[float, float]:
    """Seconds until the engine is ready, and until the oldest live run is finished."""
    engine = Engine(chain, store=settings.store("full"))
    begin = time.perf_counter()
    await engine.start()
    try:
        ready = time.perf_counter() - begin
        outcome = await (await engine.run(format_id(run_id))).result(120.0)
        if not outcome.ok:
            raise RuntimeError(f"the resumed run is {outcome.status}")
        return ready, time.perf_counter() - begin
    finally:
        await engine.stop(grace_seconds=0.0)
