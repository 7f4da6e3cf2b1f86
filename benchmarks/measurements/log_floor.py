"""The floor of the log: what group commits of W1's shape cost, with nothing else running.

One run is what W1 writes: 4 entries of 350 bytes, 1 start, 1 change, half of it in one commit and half in the next, as
in a run on several workers. Run `python -m benchmarks.measurements.log_floor` in the repository, or this file.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ensue.cluster.log.open import open_log
from ensue.cluster.log.protocol import Batch, Durability, Entry, RunChange, RunStart
from ensue.events.state.run_status import Status

__all__ = ["Floor", "measure", "measure_all"]

BODY_BYTES = 350
ROWS_PER_RUN = 6
LOADS = ((1, 1_000), (16, 16_000), (100, 50_000), (1_000, 100_000))  # runs a commit, runs in all
STORES: tuple[Durability, ...] = ("full", "relaxed", "memory")


class Floor(NamedTuple):
    """The speed of one store at one size of commit."""

    durability: str
    runs_per_commit: int
    runs_per_second: float
    rows_per_second: float
    commit_p50_ms: float
    commit_p99_ms: float


def batches(epoch: int, runs: int, runs_per_commit: int) -> Iterator[Batch]:
    """Commits that start some runs each, and end the runs of the commit before."""
    body, end, open_runs = os.urandom(BODY_BYTES), 1, list[int]()
    for _ in range(runs // runs_per_commit):
        batch = Batch(epoch)
        for run in open_runs:
            batch.entries += [Entry(end, run, 2, body), Entry(end + 2, run, 2, body)]
            end += 4
            batch.changed.append(RunChange(run, Status.COMPLETED, end))
        open_runs = list(range(end, end + 4 * runs_per_commit, 4))
        for run in open_runs:
            batch.started.append(RunStart(run, _run_id(run), "orders", "0a1b2c3d4e5f", "OrderPlaced", run))
            batch.entries += [Entry(run, run, 2, body), Entry(run + 2, run, 2, body)]
        end += 4 * runs_per_commit
        yield batch


def _run_id(run: int) -> bytes:
    """Like a UUIDv7: ascending milliseconds first, then random bytes."""
    return (1_700_000_000_000 + run // 40).to_bytes(6, "big") + os.urandom(10)


def measure(url: str, runs: int, runs_per_commit: int) -> Floor:
    """Commit this many runs to a new store."""
    with closing(open_log(url)) as log:
        commits = list(batches(log.acquire("benchmark"), runs, runs_per_commit))
        seconds: list[float] = []
        for batch in commits:
            begin = time.perf_counter()
            log.commit(batch)
            seconds.append(time.perf_counter() - begin)
        durability = log.durability
    speed, ranked = runs / sum(seconds), sorted(seconds)
    p50, p99 = ranked[len(ranked) // 2], ranked[len(ranked) * 99 // 100]
    return Floor(durability, runs_per_commit, speed, speed * ROWS_PER_RUN, p50 * 1e3, p99 * 1e3)


def measure_all() -> Iterator[Floor]:
    """Every store at every size of commit."""
    for durability in STORES:
        for runs_per_commit, runs in LOADS:
            with tempfile.TemporaryDirectory() as folder:
                file = f"sqlite:///{Path(folder).absolute()}/floor.db?durability={durability}"
                yield measure("memory://" if durability == "memory" else file, runs, runs_per_commit)


def main() -> None:
    print(f"{'log':8} {'runs/commit':>11} {'runs/s':>9} {'rows/s':>10} {'us/run':>7} {'p50 ms':>7} {'p99 ms':>7}")
    for floor in measure_all():
        print(
            f"{floor.durability:8} {floor.runs_per_commit:11,} {floor.runs_per_second:9,.0f} "
            f"{floor.rows_per_second:10,.0f} {1e6 / floor.runs_per_second:7.1f} "
            f"{floor.commit_p50_ms:7.2f} {floor.commit_p99_ms:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
