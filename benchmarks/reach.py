"""Targets of the project, each beside the figure that was measured in the same run.

Rules: a target is a row; a verdict is computed from the figures. A target that was not measured is open.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from .figures import Figure

__all__ = ["TARGETS", "Reached", "Target", "judge"]

Verdict = Literal["aim", "pass", "missed", "open"]


@dataclass(frozen=True, slots=True)
class Target:
    """A target of a figure, or of its ratio to the figure that `over` names; `lower` if less is better."""

    what: str
    figure: str
    over: str
    least: float
    aim: float
    unit: str
    lower: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """A target and its verdict; `how` shows the figures that it was computed from."""

    target: Target
    value: float | None
    verdict: Verdict
    how: str


TARGETS = (
    Target("W1 runs/s, 256 in flight, FULL, over naive Ray calls", "W1.full.256", "naive.256", 10, 18, "x"),
    Target("W1 runs/s, 2,000 in flight, FULL, over naive Ray calls (256)", "W1.full.2000", "naive.256", 14, 25, "x"),
    Target("W1 runs/s, 16 in flight, FULL, over naive Ray calls (16)", "W1.full.16", "naive.16", 4, 10, "x"),
    Target("W1 alone, p50, over naive Ray calls", "W1.full.alone.p50", "naive.alone.p50", 0.9, 0.4, "x", lower=True),
    Target("W2 runs/s over W1's, 256 in flight", "W2.full.256", "W1.full.256", 0.35, 0.5, "x"),
    Target(
        "signed webhooks/s, durable, over FastAPI without storage",
        "webhooks.ensue.full",
        "webhooks.fastapi.none",
        1,
        2,
        "x",
    ),
    Target("memory of a waiting run", "waiting", "", 2, 1, "KiB", lower=True),
    Target("restart on 1,000,000 events, few alive: ready", "restart.1000000.few.ready", "", 20, 5, "s", lower=True),
    Target(
        "restart on 1,000,000 events, 100,000 alive: ready", "restart.1000000.many.ready", "", 20, 5, "s", lower=True
    ),
    Target("runs/s with 100,000 in flight over 1,000", "in-flight.100000", "in-flight.1000", 0.8, 1, "x"),
    Target("import ensue", "import ensue", "", 0.5, 0.25, "s", lower=True),
)


def judge(figures: Iterable[Figure]) -> list[Reached]:
    """Every target with its verdict."""
    by_key = {figure.key: figure for figure in figures}
    return [_judge(target, by_key) for target in TARGETS]


def _judge(target: Target, figures: Mapping[str, Figure]) -> Reached:
    figure, over = figures.get(target.figure), figures.get(target.over)
    if figure is None or (target.over and over is None):
        return Reached(target, None, "open", "")
    how = f"{figure.text()} {figure.unit}"
    if over is None:
        return Reached(target, figure.value, _verdict(target, figure.value), how)
    value = figure.value / over.value
    return Reached(target, value, _verdict(target, value), f"{how} over {over.text()}")


def _verdict(target: Target, value: float) -> Verdict:
    sign = -1 if target.lower else 1
    if sign * value >= sign * target.aim:
        return "aim"
    return "pass" if sign * value >= sign * target.least else "missed"
