"""Figures: the results of a benchmark, from the process that measured them to the table.

Rules: a figure says where it belongs (section, row, column) and under which key `reach` finds it; it is sent as JSON.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

__all__ = ["COLUMNS", "Column", "Figure", "Settings", "as_json", "from_json", "percentile", "spread"]

Column = Literal["full", "relaxed", "memory", "none"]
COLUMNS: dict[Column, str] = {"full": "FULL", "relaxed": "relaxed", "memory": "memory://", "none": "no log"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. If it was measured several times, `value` is the median, `low` and `high` the range."""

    key: str
    section: str
    what: str
    column: Column
    unit: str
    value: float
    low: float | None = None
    high: float | None = None

    def text(self) -> str:
        """The value as text."""
        if self.low is None or self.high is None:
            return _number(self.value)
        return f"{_number(self.value)} ({_number(self.low)} to {_number(self.high)})"


@dataclass(frozen=True, slots=True)
class Settings:
    """How a benchmark runs: in which folder, and whether a rough figure is enough."""

    folder: Path
    quick: bool = False

    def size(self, full: int, quick: int) -> int:
        """The small size if the benchmark is quick, otherwise the large one."""
        return quick if self.quick else full

    def store(self, durability: Column) -> str:
        """The URL of a new store."""
        if durability == "memory":
            return "memory://"
        return f"sqlite:///{self.folder.absolute() / 'benchmark.db'}?durability={durability}"


def spread(key: str, place: tuple[str, str, Column, str], values: Sequence[float]) -> Figure:
    """The median of several measurements, with their range; place is (section, what, column, unit)."""
    if len(values) == 1:
        return Figure(key, *place, values[0])
    return Figure(key, *place, median(values), min(values), max(values))


def percentile(values: Iterable[float], share: int) -> float:
    """The percentile: the value that `share` percent of these do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, len(ranked) * share // 100)]


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """Figures as plain data."""
    return [asdict(figure) for figure in figures]


def from_json(rows: Iterable[dict[str, Any]]) -> list[Figure]:
    """Figures from plain data."""
    return [Figure(**row) for row in rows]


def _number(value: float) -> str:
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
