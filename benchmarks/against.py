"""`python -m benchmarks.against REVISION`: this code side by side with an older revision.

Both run the same cases in turn, old, new, old, new, so that other load on the machine affects both alike. The older
revision is checked out into a folder of its own; the libraries and the benchmark are those of this checkout for both.
A measurement starts after all processes are at rest, so it does not include the start of an engine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from .cases import FIGURES_FILE
from .sections import keep

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parents[1]
_W1 = ("w1-full",)
_STARTS = ("start-command", "start-seconds")
_SHOWN = {
    "W1.full.alone.p50": "one after another, p50, ms",
    "W1.full.16": "16 in flight, runs/s",
    "W1.full.256": "256 in flight, runs/s",
    "W1.full.2000": "2,000 in flight, runs/s",
    "W1.full.bulk": "submitted in bulk, runs/s",
    "starts.outcome": "ensue run, command to outcome, s",
    "starts.first": "W1 in the first second, share of its rate at rest",
    "starts.least": "W1 in the slowest of the first ten seconds, share",
    "starts.rest.least": "W1 in the slowest of ten seconds at rest, share",
    "starts.count": "processes at rest",
    "starts.supervisors.pss": "supervisors at rest, MiB PSS",
    "starts.all.pss": "all processes at rest, MiB PSS",
}


def main() -> int:
    """Measure both, and write the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against")
    parser.add_argument("revision", help="the older revision, as git knows it")
    parser.add_argument("--times", type=int, default=5, help="how often each is measured")
    parser.add_argument("--starts", action="store_true", help="measure starts and sizes instead of W1")
    options = parser.parse_args()
    cases = _STARTS if options.starts else _W1
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "old"
        _git("worktree", "add", "--detach", "--quiet", str(old), options.revision)
        try:
            figures = _alternate({"old": old, "new": _ROOT}, cases, options.times)
        finally:
            _git("worktree", "remove", "--force", str(old))
    command = f"{_git('rev-parse', '--short', options.revision)} --times {options.times}{' --starts' * options.starts}"
    text = _section(command, figures)
    keep("against-starts" if options.starts else "against", text)
    print(text)
    return 0


def _alternate(trees: dict[str, Path], cases: Iterable[str], times: int) -> dict[str, dict[str, list[float]]]:
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in trees}
    for turn in range(times):
        for name, tree in trees.items():
            print(f"{turn + 1} of {times}: {name}", file=sys.stderr)
            for case in cases:
                for key, value in _measure(tree, case).items():
                    figures[name].setdefault(key, []).append(value)
    return figures


def _measure(tree: Path, case: str) -> dict[str, float]:
    """One case in a process of its own, with this tree's engine."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.cases", case, folder, "full"],
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(tree / "src")},
            check=True,
            stdout=subprocess.DEVNULL,
        )
        rows = json.loads((Path(folder) / FIGURES_FILE).read_text(encoding="utf-8"))
    return {row["key"]: row["value"] for row in rows if row["key"] in _SHOWN}


def _section(command: str, figures: dict[str, dict[str, list[float]]]) -> str:
    revision = command.partition(" ")[0]
    title = "Starts and sizes" if "--starts" in command else "Cost"
    lines = [
        f"## {title} against an older revision",
        "",
        f"`python -m benchmarks.against {command}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: old and new in turn;",
        "medians, with the least and the most.",
        "",
        f"| what | {revision} | here | here over old |",
        "| --- | --- | --- | --- |",
    ]
    for key, title in _SHOWN.items():
        old, new = figures["old"].get(key), figures["new"].get(key)
        if old and new:
            lines.append(f"| {title} | {_spread(old)} | {_spread(new)} | {median(new) / median(old):.2f} x |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    digits = 2 if max(values) < 100 else 0
    return f"{median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=_ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
