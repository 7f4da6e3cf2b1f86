"""Parallel primes: CPU-heavy work distributed over worker processes that claim one CPU each, and gathered.

    python examples/parallel_primes.py 200000000

`replicas` is the number of worker processes of a step, `num_cpus` what each of them claims: on a cluster Ray places
them on machines with that many free CPUs. The same pipeline runs on a laptop and on a hundred machines.
"""
# ruff: noqa: D101 - the name and the fields of an event say what it is

import asyncio
import os
import sys
import time
from itertools import pairwise
from math import isqrt

from ensue import Engine, Event, Pipeline

WORKERS = os.cpu_count() or 1
PARTS = 8 * WORKERS


class CountWanted(Event):
    limit: int
    parts: int


class Range(Event):
    first: int
    end: int


class Counted(Event):
    first: int
    primes: int
    worker: int


class Total(Event):
    primes: int
    workers: int


primes = Pipeline("parallel-primes", description="How many primes there are below a limit")


@primes.step
def split(wanted: CountWanted) -> list[Range]:
    bounds = [wanted.limit * part // wanted.parts for part in range(wanted.parts + 1)]
    return [Range(first=first, end=end) for first, end in pairwise(bounds)]


@primes.step(replicas=WORKERS, num_cpus=1)
def count(part: Range) -> Counted:
    return Counted(first=part.first, primes=count_primes(part.first, part.end), worker=os.getpid())


@primes.step
def add(counts: list[Counted]) -> Total:
    return Total(primes=sum(part.primes for part in counts), workers=len({part.worker for part in counts}))


def count_primes(first: int, end: int) -> int:
    """The number of primes from `first` up to, not including, `end`, by a sieve of that window."""
    first = max(first, 2)
    if end <= first:
        return 0
    window = bytearray(b"\x01") * (end - first)
    small = bytearray(b"\x01") * (isqrt(end) + 1)
    for prime in range(2, len(small)):
        if small[prime]:
            small[prime * prime :: prime] = bytes(len(range(prime * prime, len(small), prime)))
            start = max(prime * prime, -(-first // prime) * prime) - first
            window[start::prime] = bytes(len(range(start, len(window), prime)))
    return sum(window)


async def main(limit: int) -> None:
    started = time.perf_counter()
    serial = sum(count_primes(limit * part // PARTS, limit * (part + 1) // PARTS) for part in range(PARTS))
    serial_seconds = time.perf_counter() - started
    print(f"one process:    {serial:,} primes below {limit:,} in {serial_seconds:.2f} s")

    async with Engine(primes, store="memory://") as engine:
        started = time.perf_counter()
        run = await engine.emit(CountWanted(limit=limit, parts=PARTS))
        outcome = await run.result()
        parallel_seconds = time.perf_counter() - started
    total = outcome.event
    if not isinstance(total, Total) or total.primes != serial:
        sys.exit(f"that is not the same number: {outcome}")
    print(f"{total.workers} workers:      {total.primes:,} primes below {limit:,} in {parallel_seconds:.2f} s")
    print(f"speed-up:       {serial_seconds / parallel_seconds:.2f} x on {WORKERS} CPUs")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000_000))
