"""Many seeds over the zoo: `python tests/simulation/seeds.py --seeds 0:50000 [--minutes M] [--jobs 2]`.

A seed runs one pipeline of the zoo, each in its turn; two in five have operators at work too, and in one in five so
much goes wrong that little gets done. Ends at the first seed that breaks a law, prints its smallest form, and exits
with 1. The last line says how far it came.
"""

import argparse
import importlib
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from ensue.testing import Faults, SimulationFailed, simulate

zoo: Any = importlib.import_module("zoo")  # beside this file, which is run as a program
PART = 25
PROGRESS_SECONDS = 10.0
FAULTS = (Faults(), zoo.OPERATED, zoo.FRAIL, Faults(), zoo.OPERATED, zoo.HARD)


def run_part(seeds: range) -> tuple[Counter[str], str | None]:
    """Run some seeds: what that came to, and the first failure."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        animal = zoo.ZOO[seed % len(zoo.ZOO)]
        try:
            report = simulate(animal.pipeline, animal.feed, seed=seed, faults=FAULTS[seed % len(FAULTS)])
        except SimulationFailed as error:
            return counts, f"{animal.name}: {error}"
        counts["seeds"] += 1
        counts["runs"] += sum(report.statuses.values())
        counts["attempts"] += report.attempts
        counts["commits"] += report.commits
        counts["faults"] += sum(report.faults.values())
    return counts, None


def main() -> int:
    """Run the seeds that were asked for, as far as the time goes."""
    options = _options()
    first, _, last = options.seeds.partition(":")
    seeds = range(int(first), int(last))
    began = told = time.monotonic()
    deadline = began + options.minutes * 60
    counts: Counter[str] = Counter()
    for part, failure in _parts(seeds, options.jobs, deadline):
        counts += part
        if failure is not None:
            _say(f"{failure}\n{_line('FAILED', counts, began)}")
            return 1
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            _say(_line("so far", counts, began))
    _say(_line("no law was broken", counts, began))
    return 0


def _parts(seeds: range, jobs: int, deadline: float) -> Iterator[tuple[Counter[str], str | None]]:
    """The parts as they are done; none is begun once the time is over."""
    waiting = (seeds[start : start + PART] for start in range(0, len(seeds), PART))
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(run_part, part) for part in itertools.islice(waiting, 2 * jobs)}
        while running:
            done = next(as_completed(running))
            running.remove(done)
            yield done.result()
            part = next(waiting, None) if time.monotonic() < deadline else None
            if part is not None:
                running.add(pool.submit(run_part, part))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _line(what: str, counts: Counter[str], began: float) -> str:
    numbers = ", ".join(f"{counts[name]:,} {name}" for name in ("seeds", "runs", "attempts", "commits", "faults"))
    return f"{what}: {numbers} in {time.monotonic() - began:,.0f} s"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run many seeds of the simulator over the zoo.")
    parser.add_argument("--seeds", default="0:500", help="first:last, the last one excluded")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing new after so many")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
