"""The floor: group commits of W1's shape with nothing else running, as figures of the table."""

from ..figures import Figure, Settings
from ..words import FLOOR
from .log_floor import LOADS, STORES, measure

__all__ = ["measure_floor"]


def measure_floor(settings: Settings) -> list[Figure]:
    """Every store at every size of commit."""
    figures: list[Figure] = []
    for durability in STORES:
        for runs_per_commit, runs in LOADS:
            for file in settings.folder.glob("benchmark.db*"):
                file.unlink()
            floor = measure(settings.store(durability), settings.size(runs, runs // 5), runs_per_commit)
            what = f"{runs_per_commit:,} runs a commit"
            key = f"floor.{durability}.{runs_per_commit}"
            figures.append(Figure(key, FLOOR, what, durability, "runs/s", floor.runs_per_second))
            figures.append(Figure(f"{key}.rows", FLOOR, what, durability, "rows/s", floor.rows_per_second))
            figures.append(Figure(f"{key}.p50", FLOOR, f"{what}, p50", durability, "ms", floor.commit_p50_ms))
    return figures
