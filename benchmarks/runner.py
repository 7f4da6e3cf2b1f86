"""The runner: every case in a process of its own, one after another, each killed when its time is over.

Rules: if a case fails, only its own figures are missing; its folder and all its processes are removed afterwards.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .cases import CASES, FIGURES_FILE, Case
from .figures import Figure, from_json
from .measurements.webhooks import is_here
from .processes import end_tree

__all__ = ["Run", "run_cases"]

_TOLD_CHARACTERS = 300
_ROOT = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Run:
    """The result of the cases: their figures, and the reason for each case without figures."""

    figures: list[Figure] = field(default_factory=list[Figure])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    skipped: dict[str, str] = field(default_factory=dict[str, str])
    seconds: dict[str, float] = field(default_factory=dict[str, float])


def run_cases(names: Iterable[str], parent: Path | None, tell: Callable[[str], None], *, quick: bool) -> Run:
    """Run these cases; their files are in `parent`, or in the folder of temporary files."""
    run = Run()
    for name in names:
        if CASES[name].needs == "wrk" and not is_here():
            run.skipped[name] = "wrk is not installed"
            tell(f"{name}: skipped, wrk is not installed")
            continue
        begin = time.monotonic()
        try:
            run.figures += _run_one(name, CASES[name], parent, quick=quick)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            run.failed[name] = str(error)
        run.seconds[name] = time.monotonic() - begin
        tell(f"{name}: {f'failed: {run.failed[name]}' if name in run.failed else f'{run.seconds[name]:.0f} s'}")
    return run


def _run_one(name: str, case: Case, parent: Path | None, *, quick: bool) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="ensue-benchmark-", dir=parent) as folder:
        command = [sys.executable, "-m", "benchmarks.cases", name, folder, "quick" if quick else "full"]
        said = Path(folder) / "said.txt"
        with said.open("wb") as output, subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=output) as process:
            try:
                code = process.wait(case.limit_seconds)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"not over after {case.limit_seconds:g} s") from None
            finally:
                end_tree(process)
        if code != 0:
            text = said.read_text(encoding="utf-8", errors="replace").strip()
            raise RuntimeError(f"exit code {code}: {_reason(text)}")
        return from_json(json.loads((Path(folder) / FIGURES_FILE).read_text(encoding="utf-8")))


def _reason(text: str) -> str:
    """The last line of a traceback that names an error, or the last line."""
    lines = [line.strip(" |+-") for line in text.splitlines()]
    named = [line for line in lines if "Error" in line.partition(":")[0]]
    return (named or lines or ["it said nothing"])[-1][:_TOLD_CHARACTERS]
