"""The command line with a real Ray: a run is run, interrupted, resumed and served."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ...child_process import run_program
from ..programs import ENSUE, started

STEPS = """
import time
from pathlib import Path
from ensue import Event, Pipeline
from cli_words import WORD

class Go(Event):
    n: int
    until: str = ""

class Half(Event):
    n: int

class Gone(Event):
    n: int
    word: str

steps = Pipeline("steps")

@steps.step
def halve(event: Go) -> list[Half]:
    with open(f"halved-{event.n}", "a") as file:
        file.write("x")
    return [Half(n=event.n), Half(n=event.n + 1)]

@steps.step(retry=1)
def nap(event: Go) -> Gone:
    while event.until and not Path(event.until).exists():
        time.sleep(0.05)
    if event.n == 13:
        raise LookupError("nothing for 13")
    Path(f"napped-{event.n}").touch()
    return Gone(n=event.n, word=WORD)
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working folder whose modules are not those of the target, but have their names."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "cli_steps.py").write_text(STEPS)
    (tmp_path / "far" / "cli_words.py").write_text("WORD = 'right'")
    here = tmp_path / "here"
    here.mkdir()
    (here / "cli_steps.py").write_text("raise RuntimeError('the wrong module')")
    (here / "cli_words.py").write_text("WORD = 'wrong'")
    return here


def _run(folder: Path, data: str, *words: str) -> tuple[int, str, str]:
    with started(folder, "run", "../far/cli_steps.py", "--event", "Go", "--data", data, *words) as program:
        return program.end()


def _runs(folder: Path, *words: str) -> dict[str, Any]:
    said = run_program([ENSUE, "runs", *words, "--json"], cwd=folder, check=True)
    document: dict[str, Any] = json.loads(said.stdout)
    return document


def test_a_run_as_json_is_one_document_and_its_workers_run_the_code_of_the_target(here: Path) -> None:
    code, out, err = _run(here, '{"n": 1}', "--json")
    run = json.loads(out)
    assert (code, run["status"], err) == (0, "completed", "")
    assert {"n": 1, "word": "right"} in [event["data"] for event in run["events"]]
    assert run == _runs(here, "show", run["run_id"], "--store", "sqlite:///ensue.db")


def test_a_run_that_fails_ends_with_1_and_says_where(here: Path) -> None:
    code, out, err = _run(here, '{"n": 13}', "--store", "memory://")
    assert code == 1
    assert out.startswith("failed in ")
    assert "  nap LookupError: nothing for 13  (transient, 1 attempt, " in out
    assert "far/cli_steps.py:" in out
    assert "nap: failed" in err
    assert "Traceback" not in out + err
    assert not list(here.glob("*.db*"))


def test_an_interrupted_run_leaves_no_process_and_goes_on_at_the_next_start(here: Path) -> None:
    target = "../far/cli_steps.py"
    with started(here, "run", target, "--event", "Go", "--data", f'{{"n": 1, "until": "{here}/go"}}') as program:
        program.wait_for("nap: running")
        processes = program.processes()
        program.signal(signal.SIGINT)
        code, out, err = program.end()
    assert (code, out) == (130, "")
    (last,) = [text for text in err.splitlines() if text.startswith("interrupted")]
    assert "it continues when an engine starts on sqlite:///ensue.db" in last
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(processes[1:], timeout=10)
    assert not alive

    (here / "go").touch()
    assert _run(here, f'{{"n": 2, "until": "{here}/napped-1"}}')[0] == 0
    runs = _runs(here, "list", "--store", "sqlite:///ensue.db")["runs"]
    assert [run["status"] for run in runs] == ["completed", "completed"]
    assert runs[1]["run_id"] in last
    assert [(here / f"halved-{n}").read_text() for n in (1, 2)] == ["x", "x"]


def test_a_served_engine_is_read_and_changed_over_http(here: Path) -> None:
    with started(here, "serve", "../far/cli_steps.py", "--port", "0") as program:
        program.wait_for("durability full")
        url = program.url
        where = ("--url", url)
        sent = [
            httpx.post(f"{url}/events", json={"type": "Go", "data": d}) for d in ({"n": 13}, {"n": 5, "until": "never"})
        ]
        failing, lasting = (answer.json()["run_id"] for answer in sent)

        watched = run_program([ENSUE, "runs", "watch", failing, *where], cwd=here)
        assert (watched.returncode, "nothing for 13" in watched.stdout) == (1, True)
        assert [run["run_id"] for run in _runs(here, "list", *where)["runs"]] == [lasting, failing]
        assert _runs(here, "show", failing, *where)["status"] == "failed"
        assert _runs(here, "cancel", lasting, *where)["status"] == "cancelled"
        again = run_program([ENSUE, "runs", "cancel", lasting, *where], cwd=here)
        assert (again.returncode, again.stdout) == (1, "")
        assert "nothing to cancel" in again.stderr
        assert _runs(here, "retry", failing, *where)["status"] in {"running", "failed"}

        code, out, err = _run(here, '{"n": 1}')
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "in use by `ensue serve`" in err

        program.process.send_signal(signal.SIGTERM)
        code, out, err = program.end()
    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == "stopped"
