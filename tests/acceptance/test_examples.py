"""Every example and every block of code in README and tutorials does what it says.

Examples run twice: their steps in this process (no Ray), and as the programs that they are. Documents are read block by
block, as a reader would type them: `python` blocks are files or one program, `sh` blocks are typed into a shell.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue import Event, Outcome, Pipeline, Webhook
from ensue.events.drawing.text import svg
from ensue.events.model.codec import encode
from ensue.testing import LocalEngine

from ..child_process import clean_environment, read_line, run_program, spawn

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorial").glob("*.md"))]
DATA = ROOT.parent / "shared" / "data" / "github"
TRACES = sorted((ROOT.parent / "shared" / "data" / "wfcommons").glob("*.json"))
DELIVERIES = sorted(DATA.glob("*.json"))
TRANSLATED = {"pull_request", "push", "issues", "check_run"}
SLOW_SECONDS = 240

if not EXAMPLES:
    pytest.skip("only a checkout has the examples", allow_module_level=True)


def _load(name: str) -> ModuleType:
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


orders, triage, primes = (_load(name) for name in ("orders", "github_triage", "parallel_primes"))
replay = _load("wfcommons_replay")


async def _outcome(pipeline: Pipeline, event: Event) -> Outcome:
    async with LocalEngine(pipeline) as engine:
        return await (await engine.emit(event)).result(30)


# The examples, in this process.


@pytest.mark.parametrize(
    "pipeline", [orders.orders, triage.triage, primes.primes, replay.replay], ids=lambda p: str(p.name)
)
def test_an_example_has_no_findings(pipeline: Pipeline) -> None:
    assert pipeline.check() == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_says_what_it_shows(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.match(r'"""\w.*: .+[.]$', lines[0])
    assert f"examples/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("order", "result", "failed"),
    [
        ({"amount": 250.0}, "Shipped(order_id='o-1', boxes=3, attempts=2)", []),
        ({"amount": 5000.0}, "Unpacked(order_id='o-1', reason='5000.00 is over the limit of 1000.00')", []),
        (
            {"amount": 9.5, "address": "nowhere"},
            "Refunded(order_id='o-1', amount=9.5, reason='no carrier goes there')",
            ["ship"],
        ),
    ],
    ids=["shipped at the second attempt", "declined and unpacked", "refunded by the error handler"],
)
async def test_an_order_ends_in(order: dict[str, Any], result: str, failed: list[str]) -> None:
    outcome = await _outcome(orders.orders, orders.OrderPlaced(order_id="o-1", customer="Ada", **order))
    assert outcome.ok
    assert [repr(event) for event in outcome.events] == [result]
    assert [error.step for error in outcome.errors] == failed


def test_an_old_charge_is_read_as_a_new_one() -> None:
    stored = {"order_id": "o-1", "amount": 1.0, "address": "here"}
    old = type("Charged", (Event,), {"__annotations__": dict.fromkeys(stored, Any), "__module__": __name__}, type="_")
    charged = orders.orders.registry.decode("orders.charged", 1, encode(old(**stored)))
    assert (charged.order_id, charged.receipt) == ("o-1", "none")


async def test_the_parts_count_as_many_primes_as_the_whole() -> None:
    outcome = await _outcome(primes.primes, primes.CountWanted(limit=100_000, parts=7))
    assert outcome.event == primes.Total(primes=9592, workers=1)
    assert primes.count_primes(0, 100_000) == 9592


async def test_a_replayed_task_comes_once_when_all_its_parents_are_done() -> None:
    parents: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    tasks = [replay.Task(id=task, parents=above, seconds=0.0) for task, above in parents.items()]
    assert (await _outcome(replay.replay, replay.TraceGiven(tasks=tasks))).events == [replay.Replayed(tasks=4)]


@pytest.mark.parametrize("path", TRACES, ids=lambda path: str(path.name))
async def test_a_sample_trace_is_replayed_to_its_end(path: Path) -> None:
    trace = replay.read_trace(path, 1e6)
    assert (await _outcome(replay.replay, trace)).events == [replay.Replayed(tasks=len(trace.tasks))]


# GitHub triage.


def _translate(kind: str, payload: object) -> Event | None:
    event: Event | None = triage.from_github(Webhook("github", json.dumps(payload).encode(), {"x-github-event": kind}))
    return event


LARGE_CHANGE: dict[str, Any] = {
    "action": "opened",
    "pull_request": {
        "number": 12,
        "title": "Rewrite the cache",
        "body": None,
        "additions": 900,
        "deletions": 20,
        "changed_files": 14,
        "labels": [{"name": "performance"}],
        "user": None,
    },
    "repository": {"full_name": "aurora-lab/telescope"},
}
PUSH: dict[str, Any] = {
    "ref": "refs/heads/main",
    "forced": True,
    "pusher": {"name": "mira"},
    "commits": [
        {"added": ["src/comet.py", "deploy/id_rsa"], "removed": [], "modified": ["README.md"]},
        {"added": [], "removed": ["tests/test_comet.py"], "modified": ["src/comet.py"]},
    ],
    "repository": {"full_name": "aurora-lab/telescope"},
}
CRASH: dict[str, Any] = {
    "action": "opened",
    "issue": {"number": 3, "title": "Crash at dawn", "body": "Traceback below", "labels": []},
}


@pytest.mark.parametrize(
    ("kind", "payload", "priority", "summary"),
    [
        ("pull_request", LARGE_CHANGE, "whenever", "920 lines in 14 files: ask for it in 3 parts"),
        (
            "push",
            PUSH,
            "now",
            (
                "commits: 2, files: 1 code, 1 docs, 1 secrets, 1 tests; deploy/id_rsa looks like a secret; "
                "tests/test_comet.py is a test that went away; history was rewritten"
            ),
        ),
        ("issues", CRASH, "now", "it crashes: reproduce it"),
    ],
    ids=["a large change", "a push with a secret", "a crash"],
)
async def test_a_delivery_is_triaged(kind: str, payload: object, priority: str, summary: str) -> None:
    event = _translate(kind, payload)
    assert event is not None
    outcome = await _outcome(triage.triage, event)
    result: Any = outcome.event
    assert (result.priority, result.summary) == (priority, summary)


@pytest.mark.skipif(not DELIVERIES, reason="the sample deliveries are not here")
async def test_every_sample_delivery_is_taken_and_runs_to_its_end() -> None:
    async with LocalEngine(triage.triage) as engine:
        for path in DELIVERIES:
            kind = path.name.partition(".")[0]
            event = _translate(kind, json.loads(path.read_bytes()))
            assert (event is not None) == (kind in TRANSLATED), path.name
            if event is not None:
                outcome = await (await engine.emit(event)).result(30)
                assert outcome.ok, path.name


_NAMES = sorted(set(re.findall(r'"([a-z_]+)"', Path(triage.__file__ or "").read_text())))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=6),
    max_leaves=25,
)


@given(kind=st.sampled_from([*sorted(TRANSLATED), "ping", "star", ""]), payload=_JSON)
@settings(max_examples=100, deadline=None)
def test_no_payload_whatever_is_in_it_breaks_the_translation(kind: str, payload: object) -> None:
    event = _translate(kind, payload)
    assert event is None or (kind in TRANSLATED and encode(event))


@pytest.mark.parametrize("kind", sorted(TRANSLATED))
@pytest.mark.parametrize("junk", [None, [], {}, "", 0, 2**70, True])
async def test_fields_of_no_use_still_make_a_run(kind: str, junk: object) -> None:
    subject = {"pull_request": "pull_request", "issues": "issue", "check_run": "check_run"}.get(kind, "commits")
    fields = dict.fromkeys([*_NAMES, "title", "labels", "number", "commits", "pull_requests"], junk)
    event = _translate(kind, {**fields, subject: [fields] if kind == "push" else fields})
    assert event is not None
    assert (await _outcome(triage.triage, event)).ok


# The examples, as programs.


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return clean_environment(PATH=path, PYTHONUNBUFFERED="1", NO_COLOR="1")


def _say(command: list[str], folder: Path, *, expect: int = 0) -> str:
    done = run_program(command, cwd=folder, env=_environment(), timeout=SLOW_SECONDS)
    assert done.returncode == expect, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(SLOW_SECONDS)
def test_the_examples_run_as_programs(tmp_path: Path) -> None:
    said = _say([sys.executable, str(ROOT / "examples" / "orders.py")], tmp_path)
    assert said == "completed: Shipped(order_id='o-1', boxes=3, attempts=2)\n"
    said = _say([sys.executable, str(ROOT / "examples" / "parallel_primes.py"), "2000000"], tmp_path)
    assert said.count("148,933 primes below 2,000,000") == 2
    assert re.search(r"speed-up: +\d+\.\d+ x", said)


@pytest.mark.timeout(SLOW_SECONDS)
def test_the_orders_run_on_the_command_line(tmp_path: Path) -> None:
    command = ["ensue", "run", str(ROOT / "examples" / "orders.py"), "--json"]
    data = json.dumps({"order_id": "o-7", "customer": "Ada", "amount": 9.5})
    document = json.loads(_say([*command, "--event", "OrderPlaced", "--data", data], tmp_path))
    assert document["status"] == "completed"
    assert [event["data"] for event in document["events"]] == [{"order_id": "o-7", "boxes": 1, "attempts": 2}]


# The documents.


class Block(NamedTuple):
    """A fenced block of a document: its language, its text, the line that it begins in."""

    language: str
    text: str
    line: int


def _blocks(document: Path) -> list[Block]:
    text = document.read_text()
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in found]


class Reader:
    """Somebody who types a document, block by block, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = _environment()
        self.program = ""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        self.server: subprocess.Popen[str] | None = None

    def type(self, block: Block) -> None:
        """What a block asks for."""
        if block.language == "python":
            self._python(block.text)
        elif block.language == "sh":
            self._shell(
                block.text.replace("127.0.0.1:8484", f"127.0.0.1:{self.port}").replace("curl -s ", "curl -sSf ")
            )
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language in ("mermaid", "text"), (
                f"line {block.line}: a block of {block.language or 'no language'}"
            )

    def finish(self) -> None:
        """Run what was typed as one program, its tests included."""
        if self.program:
            tests = re.findall(r"^async def (test_\w+)", self.program, re.MULTILINE)
            calls = "".join(f"    asyncio.run({name}())\n" for name in tests)
            file = self.folder / "program.py"
            file.write_text(f"{self.program}\nif __name__ == '__main__':\n    import asyncio\n{calls}")
            _say([sys.executable, str(file)], self.folder)

    def end(self) -> None:
        """End the server, if one was started."""
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            _, said = self.server.communicate(timeout=60)
            assert self.server.returncode == 0, said

    def _python(self, text: str) -> None:
        named = re.match(r"# (\w+\.py)(, continued)?\n", text)
        if named is None:
            self.program += text + "\n\n"
            return
        file = self.folder / named[1]
        file.write_text(file.read_text() + text if named[2] else text)
        _say([sys.executable, "-c", f"import runpy; runpy.run_path({str(file)!r})"], self.folder)

    def _shell(self, text: str) -> None:
        typed: list[str] = []
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
            elif words[:1] == ["export"]:
                name, _, value = words[1].partition("=")
                self.environment[name] = value
            elif words[:2] == ["ensue", "serve"]:
                self._serve(words[2])
            else:
                typed.append(line)
        command = ["bash", "-euo", "pipefail", "-c", "\n".join(typed)]
        done = run_program(command, cwd=self.folder, env=self.environment, timeout=SLOW_SECONDS)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"

    def _serve(self, target: str) -> None:
        command = ["ensue", "serve", target, "--port", str(self.port)]
        self.server = spawn(
            command, cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, start_new_session=True, text=True
        )
        said: list[str] = []
        while not any(f"serves http://127.0.0.1:{self.port}" in line for line in said):
            said.append(read_line(self.server, stderr=True))
            assert said[-1], f"ensue serve {target} ended:\n{''.join(said)}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    typing = Reader(tmp_path)
    yield typing
    typing.end()


@pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("openssl")) and os.environ.get("CI") != "true",
    reason="the documents use curl and openssl",
)
@pytest.mark.timeout(SLOW_SECONDS)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_every_block_of_a_document_works(document: Path, reader: Reader) -> None:
    blocks = _blocks(document)
    assert {"python", "sh"} <= {block.language for block in blocks}
    for block in blocks:
        reader.type(block)
    reader.finish()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_a_link_of_a_document_leads_to_a_file(document: Path) -> None:
    text = document.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    missing = [link for link in links if link and not (document.parent / link).exists()]
    assert missing == []


def test_the_picture_of_the_orders_is_that_of_the_example() -> None:
    def described(picture: str) -> list[str]:
        return re.findall(r"<desc.*?</desc>", picture)

    picture = (ROOT / "docs" / "assets" / "orders.svg").read_text()
    assert described(picture) == described(svg(orders.orders.graph())) != []
