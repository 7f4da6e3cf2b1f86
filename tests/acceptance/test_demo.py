"""The demo: all its claims hold, it leaves nothing behind, and it fails if something is lost."""

import asyncio
import json
import os
import pty
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.demo import main as demo
from ensue.gateway.demo.deliveries import DELIVERIES, headers_of
from ensue.gateway.demo.evidence import read_journal, read_store
from ensue.gateway.demo.pipeline import from_github, triage
from ensue.gateway.demo.server import DemoFailed, Server
from ensue.testing import LocalEngine

from ..child_process import clean_environment, run_program, spawn

SLOW_SECONDS = 240
COMMAND = [sys.executable, "-P", "-c", "import sys; from ensue.gateway.demo.main import main; sys.exit(main())"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment without variables of Ray, so that the demo starts a Ray of its own."""
    return clean_environment(PYTHONUNBUFFERED="1")


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _are_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=20)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive if process.is_running())


@pytest.mark.timeout(SLOW_SECONDS)
def test_the_demo_without_a_terminal_holds_what_it_promises(environment: dict[str, str], tmp_path: Path) -> None:
    done = run_program(COMMAND, env=environment, cwd=tmp_path, timeout=SLOW_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "all 5 runs completed, none twice" in done.stdout
    assert re.search(r"✓ \d+ steps had finished before the kill: none ran again", done.stdout)
    assert re.search(r"✓ [1-9]\d* steps were interrupted: all ran again and finished", done.stdout)
    assert "202, duplicate: true, the same run" in done.stdout
    assert "401  its signature is invalid" in done.stdout
    assert "✗" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


@pytest.mark.timeout(SLOW_SECONDS)
def test_ctrl_c_in_the_middle_leaves_nothing_behind(
    environment: dict[str, str], terminal: tuple[int, int], tmp_path: Path
) -> None:
    ours, theirs = terminal
    process = spawn(
        COMMAND, env=environment, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said = b""
    while b"inspect" not in said.partition(b"Watch")[2]:
        said += os.read(ours, 65536)
    processes = _descendants(process.pid)
    folder = re.search(rb"demo-of-ensue-\w+", " ".join(_folders(processes)).encode())
    assert folder is not None
    process.send_signal(signal.SIGINT)
    said += _rest(ours)
    assert process.wait(30) == 130
    assert b"nothing is left behind" in said
    assert b"Traceback" not in said
    assert said.rstrip().endswith(b"behind.") or b"\x1b[?25h" in said  # the cursor is back
    assert _are_gone(processes)


def _folders(processes: list[psutil.Process]) -> list[str]:
    folders: list[str] = []
    for process in processes:
        try:
            folders.append(process.cwd())
        except psutil.Error:
            continue
    return folders


def _rest(terminal: int) -> bytes:
    said = b""
    try:
        while chunk := os.read(terminal, 65536):
            said += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    return said


# What it is made of.


def test_the_pipeline_of_the_demo_has_no_findings() -> None:
    assert triage.check() == []


def test_the_deliveries_are_signed_as_github_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "s3cret")
    verifier = hooks.GitHub(secret_env="A_SECRET")
    for delivery in DELIVERIES:
        headers = {name: [value] for name, value in headers_of(delivery, "s3cret").items()}
        assert verifier.verify(headers, delivery.body, time.time()) == delivery.id


def test_each_delivery_has_an_id_of_its_own() -> None:
    assert len({delivery.id for delivery in DELIVERIES}) == len(DELIVERIES)


@pytest.mark.parametrize("kind", ["push", "pull_request", "issues", "ping", "star", ""])
@pytest.mark.parametrize("payload", [None, [], {}, {"action": "opened"}, {"commits": [None, {"added": 7}], "ref": 1}])
def test_no_delivery_breaks_the_pipeline_of_the_demo(kind: str, payload: object) -> None:
    event = from_github(Webhook("github", json.dumps(payload).encode(), {"x-github-event": kind}))
    assert event is None or kind in ("push", "pull_request", "issues")


class Began(Event):
    """What the crashing pipeline hears."""


class Went(Event):
    """What its first step emits."""


async def test_the_evidence_tells_finished_from_interrupted(tmp_path: Path) -> None:
    crashing = Pipeline("crashing")
    reached = asyncio.Event()

    @crashing.step
    async def finish(event: Began) -> Went:
        return Went()

    @crashing.step
    async def hang(event: Went) -> None:
        reached.set()
        await asyncio.Event().wait()

    store = f"sqlite:///{tmp_path / 'ensue.db'}"
    engine = LocalEngine(crashing, store=store)
    await engine.start()
    await engine.emit(Began())
    await reached.wait()
    engine.crash()
    evidence = read_store(store)
    assert (evidence.ended, evidence.unfinished) == (0, 1)
    assert (len(evidence.finished), len(evidence.interrupted)) == (1, 1)


def test_the_journal_is_split_at_the_moment_of_the_kill(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    lines = [{"key": "a", "time": 1.0}, {"key": "b", "time": 2.0}, {"key": "b", "time": 4.0}]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_journal(journal, 3.0)
    assert dict(read.before) == {"a": 1, "b": 1}
    assert dict(read.after) == {"b": 1}


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    server = Server.in_folder(tmp_path)
    with (
        socket.create_server(("127.0.0.1", server.port)),
        pytest.raises(DemoFailed, match="another program uses this port"),
    ):
        server.start()
    assert server.kill() <= 1


def test_a_claim_that_does_not_hold_makes_the_demo_end_with_1(tmp_path: Path) -> None:
    with Path(os.devnull).open("w") as nowhere:
        shown = demo.Demo(Console(file=nowhere), Server.in_folder(tmp_path))
        shown._check(True, "something that holds")
        assert shown.exit_code == 0
        shown._check(False, "something that does not")
        assert shown.exit_code == 1
