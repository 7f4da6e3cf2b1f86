"""Starts: the orders example from command to outcome, what runs then, and the rate of W1 from the first second on.

Rules: only the public interface and the command line are used, so that the same code measures older revisions.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import uvloop

from ensue import Engine

from ..figures import Figure, Settings, spread
from ..loads import Run, run_of
from ..pipelines import LOADS
from ..processes import at_rest, weigh
from ..words import STARTS, W1

__all__ = ["measure_command", "measure_first_seconds"]

_EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "orders.py"
_PROGRAM = """
try:
    from ensue.gateway.cli.main import main
except ImportError:  # revisions in which the command line was one module
    from ensue.gateway.cli import main
main()
"""
_LIMIT_SECONDS = 60.0
_IN_FLIGHT = 16
_FIRST_SECONDS = 10


def measure_command(settings: Settings) -> list[Figure]:
    """`ensue run` of the orders example: seconds until the outcome is printed, and until the command has ended."""
    outcomes, ends = zip(*(_run_orders(settings, n) for n in range(settings.size(5, 1))), strict=True)
    return [
        spread("starts.outcome", (STARTS, "ensue run, command to outcome", "full", "s"), outcomes),
        spread("starts.command", (STARTS, "ensue run, command to end", "full", "s"), ends),
    ]


def _run_orders(settings: Settings, number: int) -> tuple[float, float]:
    store = f"sqlite:///{settings.folder.absolute() / f'orders-{number}.db'}"
    event = ["--event", "OrderPlaced", "--data", '{"order_id": "o-1", "customer": "Ada", "amount": 9.5}']
    command = [sys.executable, "-c", _PROGRAM, "run", str(_EXAMPLE), *event, "--store", store]
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=settings.folder) as started:
        assert started.stdout is not None  # noqa: S101 - it is a pipe
        line = started.stdout.readline()
        outcome = time.perf_counter() - begin
        started.stdout.read()
        if started.wait(_LIMIT_SECONDS) != 0 or not line:
            raise RuntimeError(f"ensue run ended with {started.returncode}")
    return outcome, time.perf_counter() - begin


def measure_first_seconds(settings: Settings) -> list[Figure]:
    """W1 with 16 clients from the moment at which the engine is ready, and again when all processes are at rest."""
    return uvloop.run(_first_seconds(settings))


async def _first_seconds(settings: Settings) -> list[Figure]:
    load = LOADS[W1]
    async with Engine(load.pipeline, store=settings.store("full")) as engine:
        run = run_of(engine, load)
        first = await _rates(run, settings.size(_FIRST_SECONDS, 2))
        await at_rest()
        weights = weigh()
        await _rates(run, 1)
        at_rest_rates = await _rates(run, settings.size(_FIRST_SECONDS, 2))
        rest = median(at_rest_rates)
    figures = [
        spread("starts.rest", (STARTS, "W1, 16 in flight, at rest", "full", "runs/s"), [rest]),
        spread("starts.first", (STARTS, "the first second, share of it", "full", "x"), [first[0] / rest]),
        spread("starts.least", (STARTS, "the slowest of the first ten seconds", "full", "x"), [min(first) / rest]),
        spread(
            "starts.rest.least",
            (STARTS, "the slowest of ten seconds at rest", "full", "x"),
            [min(at_rest_rates) / rest],
        ),
        spread("starts.count", (STARTS, "processes at rest", "full", ""), [weights["all"].processes]),
    ]
    return figures + [
        Figure(f"starts.{group}.pss", STARTS, f"{group}, at rest", "full", "MiB PSS", weights[group].pss)
        for group in ("driver", "workers", "supervisors", "ray", "all")
    ]


async def _rates(run: Run, seconds: int) -> list[float]:
    """Runs a second, for each of the next seconds."""
    counts = [0] * seconds
    begin = time.perf_counter()

    async def client(numbers: Iterable[int]) -> None:
        for number in numbers:
            await run(number)
            second = int(time.perf_counter() - begin)
            if second >= seconds:
                return
            counts[second] += 1

    async with asyncio.TaskGroup() as clients:
        for n in range(_IN_FLIGHT):
            clients.create_task(client(range(n, 10_000_000, _IN_FLIGHT)))
    return [float(count) for count in counts]
