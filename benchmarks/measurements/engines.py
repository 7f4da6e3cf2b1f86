"""An engine under both loads: alone, with 16 to 2,000 clients, in bulk; its memory, and the time of its start."""

import time
from statistics import median

import uvloop

from ensue import Engine

from ..figures import Column, Figure, Settings, percentile, spread
from ..loads import alone, bulk, closed_loop, run_of
from ..pipelines import LOADS
from ..processes import at_rest, weigh

__all__ = ["measure"]

_REPEATED = 256


def measure(settings: Settings, load_name: str, durability: Column) -> list[Figure]:
    """One load on one store, in a process of its own."""
    return uvloop.run(_Engine(settings, load_name, durability).measure())


class _Engine:
    """One engine from its start to its stop, and the figures on the way."""

    def __init__(self, settings: Settings, load_name: str, durability: Column) -> None:
        self._settings = settings
        self._load = LOADS[load_name]
        self._name = load_name
        self._column: Column = durability
        self._figures: list[Figure] = []

    async def measure(self) -> list[Figure]:
        """Run all measurements."""
        begin = time.perf_counter()
        async with Engine(self._load.pipeline, store=self._settings.store(self._column)) as engine:
            self._note("ready", "engine started", "s", time.perf_counter() - begin)
            run = run_of(engine, self._load)
            await run(0)
            self._note("cold", "cold start: engine started, first result", "s", time.perf_counter() - begin)
            await at_rest()
            self._note("rest", "cold start: all processes at rest", "s", time.perf_counter() - begin)
            self._weigh("rest", "at rest")
            seconds = await alone(run, self._settings)
            self._note("alone.p50", "one after another, p50", "ms", percentile(seconds, 50) * 1e3)
            self._note("alone.p99", "one after another, p99", "ms", percentile(seconds, 99) * 1e3)
            for in_flight in (16, 64, 256):
                repeats = 3 if in_flight == _REPEATED else 1
                count = self._settings.size(5_000, 1_000)
                self._rate(in_flight, [await closed_loop(run, count, in_flight) for _ in range(repeats)])
            self._rate(2_000, [await closed_loop(run, self._settings.size(20_000, 4_000), 2_000)])
            rate = await bulk(engine, self._load, self._settings.size(20_000, 5_000))
            self._note("bulk", "submitted in bulk", "runs/s", rate)
            self._note("bulk.steps", "submitted in bulk", "steps/s", rate * self._load.steps)
            self._weigh("after", "after the load")
        return self._figures

    def _rate(self, in_flight: int, rates: list[float]) -> None:
        what = f"{in_flight:,} in flight"
        key = f"{self._name}.{self._column}.{in_flight}"
        self._figures.append(spread(key, (self._name, what, self._column, "runs/s"), rates))
        self._figures.append(
            spread(f"{key}.steps", (self._name, what, self._column, "steps/s"), [median(rates) * self._load.steps])
        )

    def _weigh(self, key: str, when: str) -> None:
        for group, weight in weigh().items():
            what = f"{group} {when}" if group != "all" else f"all processes {when}"
            self._note(f"{key}.{group}.rss", what, "MiB RSS", weight.rss)
            self._note(f"{key}.{group}.pss", what, "MiB PSS", weight.pss)
            if group == "all":
                self._note(f"{key}.{group}.count", what, "processes", weight.processes)

    def _note(self, key: str, what: str, unit: str, value: float) -> None:
        full_key = f"{self._name}.{self._column}.{key}"
        self._figures.append(Figure(full_key, self._name, what, self._column, unit, value))
