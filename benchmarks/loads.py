"""Loads: how clients use an engine, timed. A client emits an event, waits for the result, and starts again.

Rules: every run must complete, or the benchmark fails; every load ends by itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from ensue import Engine, RunHandle

from .figures import Settings
from .pipelines import Load

__all__ = ["Run", "alone", "bulk", "closed_loop", "run_of"]

_CHUNK = 1_000
_TIMEOUT_SECONDS = 120.0

Run = Callable[[int], Awaitable[None]]


def run_of(engine: Engine, load: Load) -> Run:
    """One run from its trigger to its result."""

    async def run(number: int) -> None:
        await finish(await engine.emit(load.event(number)))

    return run


async def finish(handle: RunHandle) -> None:
    """Wait for a run, which must complete."""
    outcome = await handle.result(_TIMEOUT_SECONDS)
    if not outcome.ok:
        raise RuntimeError(f"run {handle.id} is {outcome.status}: {outcome.errors}")


async def _one_by_one(run: Run, count: int) -> list[float]:
    """The seconds of each run with nothing else in flight."""
    seconds: list[float] = []
    for number in range(count):
        begin = time.perf_counter()
        await run(number)
        seconds.append(time.perf_counter() - begin)
    return seconds


async def alone(run: Run, settings: Settings) -> list[float]:
    """The seconds of each run after a warm-up; for several seconds, since the speed of a machine varies."""
    await _one_by_one(run, 20)
    return await _one_by_one(run, settings.size(1_000, 50))


async def closed_loop(run: Run, count: int, in_flight: int) -> float:
    """Runs a second with this many clients."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await run(number)

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(min(in_flight, count)):
            clients.create_task(client())
    return count / (time.perf_counter() - begin)


async def bulk(engine: Engine, load: Load, count: int) -> float:
    """Runs a second if one client submits a thousand at a time, and then waits for all."""
    events = [load.event(number) for number in range(count)]
    begin = time.perf_counter()
    handles: list[RunHandle] = []
    for start in range(0, count, _CHUNK):
        handles += await engine.emit_many(events[start : start + _CHUNK])
    for handle in handles:
        await finish(handle)
    return count / (time.perf_counter() - begin)
