"""In flight: whether an engine that holds 100,000 runs works as fast as one that holds 1,000.

Rules: in both cases clients submit a hundred runs at once, and the next hundred when those are finished; only the
number of clients differs. The drain of 100,000 runs that were submitted at once is measured too.
"""

import asyncio
import time

import uvloop

from ensue import Engine
from ensue.events.state.run_status import Status

from ..figures import Figure, Settings
from ..loads import closed_loop, finish, run_of
from ..pipelines import LOADS
from ..words import IN_FLIGHT

__all__ = ["measure"]

_LOAD = LOADS["W1"]
_CHUNK = 100


def measure(settings: Settings) -> list[Figure]:
    """Completions a second with few and with many in flight."""
    return uvloop.run(_measure(settings))


async def _measure(settings: Settings) -> list[Figure]:
    many = settings.size(100_000, 10_000)
    seconds = float(settings.size(12, 3))
    async with Engine(_LOAD.pipeline, store=settings.store("full")) as engine:
        run = run_of(engine, _LOAD)
        await closed_loop(run, 2_000, 256)
        few_rate = await _steady(engine, 1_000, seconds / 2)
        many_rate = await _steady(engine, many, seconds)
        alone_rate = await closed_loop(run, settings.size(15_000, 3_000), 1_000)
        drain_rate = await _drain(engine, many)
    return [
        _figure("in-flight.1000", "1,000 in flight, clients of 100", few_rate),
        _figure(f"in-flight.{many}", f"{many:,} in flight, clients of 100", many_rate),
        _figure("in-flight.loop", "1,000 in flight, clients of 1", alone_rate),
        _figure("in-flight.drain", f"drain of {many:,} submitted at once", drain_rate),
    ]


def _figure(key: str, what: str, value: float) -> Figure:
    return Figure(key, IN_FLIGHT, what, "full", "runs/s", value)


async def _steady(engine: Engine, in_flight: int, seconds: float) -> float:
    """Runs a second while this many are in flight, counted after all clients have started theirs."""
    done = under_way = 0
    ended = False
    all_under_way = asyncio.Event()
    clients = in_flight // _CHUNK

    async def client() -> None:
        nonlocal done, under_way
        first = True
        while not ended:
            handles = await engine.emit_many([_LOAD.event(number) for number in range(_CHUNK)])
            under_way += first
            first = False
            if under_way == clients:
                all_under_way.set()
            for handle in handles:
                await finish(handle)
                done += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
        await all_under_way.wait()
        before, begin = done, time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (done - before) / (time.perf_counter() - begin)
        ended = True
    return rate


async def _drain(engine: Engine, count: int) -> float:
    """Runs a second from the acceptance of the last run to the end of the last run."""
    reader = engine.reader()
    events = [_LOAD.event(number) for number in range(count)]
    ended_before = sum(found for (_, status), found in reader.counts().items() if status == Status.COMPLETED)
    handles = await engine.emit_many(events)
    begin = time.perf_counter()
    ended = sum(found for (_, status), found in reader.counts().items() if status == Status.COMPLETED) - ended_before
    for handle in handles:
        await finish(handle)
    rate = (count - ended) / (time.perf_counter() - begin)
    reader.close()
    return rate
