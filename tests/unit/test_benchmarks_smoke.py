"""The benchmarks can be run and their verdicts are right; nothing is said here of how fast anything is."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..child_process import run_program

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").exists(), reason="only a checkout has the benchmarks")


def _benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return run_program(command, cwd=ROOT)


def test_one_case_prints_its_table_and_writes_both_files_where_it_is_told(tmp_path: Path) -> None:
    done = _benchmarks("--quick", "--only", "codec", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "encode an event" in done.stdout
    document = json.loads((tmp_path / "results.json").read_text())
    assert {figure["unit"] for figure in document["figures"]} == {"us", "bytes"}
    assert {entry["verdict"] for entry in document["reach"]} == {"open"}
    results = (tmp_path / "RESULTS.md").read_text()
    assert "encode an event" in results
    assert str(ROOT) not in results


def test_a_case_that_does_not_exist_is_wrong_use() -> None:
    done = _benchmarks("--only", "nonsense")
    assert done.returncode == 2
    assert "no case is called nonsense" in done.stderr


def test_every_case_names_a_function_that_there_is() -> None:
    program = "from benchmarks.cases import CASES; print(*(case.load() and name for name, case in CASES.items()))"
    done = run_program([sys.executable, "-c", program], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "webhooks" in done.stdout.split()


@pytest.mark.parametrize("module", ["benchmarks.against", "benchmarks.faults", "benchmarks.measurements.log_floor"])
def test_a_program_of_its_own_can_be_started(module: str) -> None:
    program = f"import importlib; importlib.import_module({module!r}).main"
    done = run_program([sys.executable, "-c", program], cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("measured", "over", "verdict"),
    [(1_800.0, 100.0, "aim"), (1_000.0, 100.0, "pass"), (999.0, 100.0, "missed"), (999.0, None, "open")],
)
def test_a_verdict_follows_from_the_figures(
    monkeypatch: pytest.MonkeyPatch, measured: float, over: float | None, verdict: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    figures: Any = importlib.import_module("benchmarks.figures")
    reach: Any = importlib.import_module("benchmarks.reach")
    found = [figures.Figure("W1.full.256", "W1", "256 in flight", "full", "runs/s", measured)]
    if over is not None:
        found.append(figures.Figure("naive.256", "W1", "256 in flight", "none", "runs/s", over))
    assert reach.judge(found)[0].verdict == verdict


def test_less_is_better_where_a_target_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    figures: Any = importlib.import_module("benchmarks.figures")
    reach: Any = importlib.import_module("benchmarks.reach")
    found = [
        figures.Figure("waiting", "Small costs", "a waiting run", "none", "KiB", value) for value in (0.9, 1.5, 2.5)
    ]
    verdicts = [next(r.verdict for r in reach.judge([one]) if r.target.figure == "waiting") for one in found]
    assert verdicts == ["aim", "pass", "missed"]
