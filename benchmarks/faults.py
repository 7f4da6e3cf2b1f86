"""`python -m benchmarks.faults TORTURE.json SEEDS.txt`: what `make torture` found, as a section of RESULTS.md."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .machine import describe
from .sections import keep

__all__ = ["main"]

_MACHINE = ("ensue", "python", "ray", "sqlite", "system", "cpu", "memory")


def main() -> int:
    """Write the section."""
    torture, seeds = (Path(name) for name in sys.argv[1:3])
    figures = json.loads(torture.read_text(encoding="utf-8"))
    said = seeds.read_text(encoding="utf-8").splitlines()[-1] if seeds.exists() else "not run"
    text = "\n".join([*_head(), *_table(_rows(figures, said)), "", *_table(_returns(figures["crashes"]))]) + "\n"
    keep("torture", text)
    print(text)
    return 0


def _head() -> list[str]:
    machine = describe()
    where = ", ".join(f"{name} {machine[name]}" for name in _MACHINE if name in machine)
    return ["## Under torture", "", f"`make torture`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {where}.", ""]


def _rows(figures: dict[str, Any], seeds: str) -> Iterable[tuple[str, ...]]:
    crashes, fencing, poison = figures["crashes"], figures["fencing"], figures["poison"]
    yield ("what", "how far", "what went wrong")
    yield (
        "events acknowledged over kills",
        (
            f"{crashes['acknowledged']:,} of {crashes['wanted']:,} "
            f"over {crashes['kills']:,} of {crashes['kills_wanted']:,} kills "
            f"in {crashes['seconds']:,.0f} s; {crashes['attempts_crashed']:,} attempts cut off"
        ),
        f"lost {crashes['lost']}, applied twice {crashes['applied_twice']}, other {crashes['faults'] or 0}",
    )
    for durability, power in figures["power"].items():
        yield (
            f"power cuts, {durability}",
            (
                f"{power['cuts']:,} cuts, {power['commits']:,} commits, "
                f"{power['cuts_that_took_commits']:,} cuts took commits"
            ),
            f"{len(power['wrong'])}",
        )
    yield (
        "an owner stopped and taken over (SIGSTOP)",
        f"{fencing['trials']} trials, {fencing['accepted_before']:,} commits before",
        f"{len(fencing['wrong'])} stale commits",
    )
    yield (
        "poison: the others' rate over that of a clean run",
        f"{poison['poison']} of {poison['events']:,} events, steps of {poison['work_seconds']:g} s",
        (
            f"{poison['share_of_clean']:.2f} x "
            f"({poison['healthy_a_second']:g} over {poison['clean_a_second']:g} events/s); "
            f"{len(poison['wrong'])} harmed"
        ),
    )
    yield ("simulation", seeds.partition(": ")[2], seeds.partition(":")[0])


def _returns(crashes: dict[str, Any]) -> Iterable[tuple[str, ...]]:
    yield ("killed", "times", "back at work, p50, s", "p99, s", "worst, s", "stuck")
    for kind, times in crashes["back_at_work"].items():
        if times["times"]:
            seconds = (f"{times[name]:.2f}" for name in ("p50_seconds", "p99_seconds", "max_seconds"))
            yield (kind, f"{times['times']:,}", *seconds, str(times["stuck"]))


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + " --- |" * lines[0].count(" | ") + " --- |", *lines[1:]]


if __name__ == "__main__":
    sys.exit(main())
