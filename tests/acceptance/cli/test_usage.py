"""The command line without Ray: wrong use gets one clear line and its exit code; check, graph and serve."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ensue.events.model.failure import FailureKind
from ensue.events.pipelines.graph import Graph
from ensue.gateway.cli.commands import serve
from ensue.gateway.cli.main import main
from ensue.gateway.cli.operator_commands import FailureClass
from ensue.gateway.cli.terminal.log import LogLines
from ensue.gateway.settings import GatewaySettings

from ...child_process import run_program

SHOP = """
from ensue import Event, Pipeline

class Placed(Event):
    order_id: str
    amount: float

class Paid(Event):
    order_id: str

class Refused(Event):
    order_id: str

shop = Pipeline("shop")

@shop.step
def charge(event: Placed) -> Paid | Refused: ...

@shop.step
def ship(event: Paid) -> None: ...
"""
NEVER = """
@shop.step
def both(paid: Paid, refused: Refused) -> None: ...
"""


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Ensue = Callable[..., Said]


@pytest.fixture
def ensue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ensue]:
    """Types a command in a folder with `cli_shop.py`; no engine may be started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("ensue.cluster.ray.session.start", None)
    (tmp_path / "cli_shop.py").write_text(SHOP)
    before = set(sys.modules)

    def type_in(*words: str) -> Said:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return Said(ended.value.code, said.out, said.err)

    yield type_in
    for name in set(sys.modules) - before:
        if name.startswith("cli_"):
            del sys.modules[name]


def _refused(said: Said) -> str:
    """The one line of an error; nothing else was said, and nothing on stdout."""
    assert (said.out, said.err.count("\n")) == ("", 1), said
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    return said.err


def _run(ensue: Ensue, *words: str) -> str:
    said = ensue("run", "cli_shop.py", *words)
    assert said.code == 2
    return _refused(said)


# Help and wrong use.


def test_help_is_quick_and_names_every_command() -> None:
    program = "import sys; from ensue.gateway.cli.main import main\n"
    command = program + "try: main(['--help'])\nfinally: print(sorted(sys.modules))"
    said = run_program([sys.executable, "-c", command], check=True)
    text, _, modules = said.stdout.rpartition("\n[")
    assert all(f"\n  {name} " in text for name in ("run", "serve", "check", "graph", "runs", "demo"))
    assert not any(f"'{heavy}'" in modules for heavy in ("ray", "fastapi", "rich", "httpx", "apsw"))


def test_ensue_alone_shows_the_help(ensue: Ensue) -> None:
    said = ensue()
    assert said.code == 0
    assert said.out.startswith("Usage: ensue")


def test_the_version_is_printed(ensue: Ensue) -> None:
    assert ensue("--version").out.startswith("ensue 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fly"], "No such command 'fly'"),
        (["run"], "Missing argument 'TARGET'"),
        (["serve"], "Missing argument 'TARGET'"),
        (["run", "cli_shop.py", "--colour"], "No such option: --colour"),
        (["serve", "cli_shop.py", "--port", "http"], "'--port'"),
        (["serve", "cli_shop.py", "--port", "99999"], "'--port'"),
        (["graph", "cli_shop.py", "--format", "png"], "'--format'"),
        (["runs", "list", "--limit", "0"], "'--limit'"),
        (["runs", "show"], "Missing argument 'RUN_ID'"),
    ],
)
def test_wrong_use_is_one_line_that_leads_to_the_help(ensue: Ensue, words: list[str], said: str) -> None:
    result = ensue(*words)
    line = _refused(result)
    assert result.code == 2
    assert said in line
    assert "see ensue" in line
    assert "--help" in line


@pytest.mark.parametrize("command", ["run", "serve", "check", "graph"])
def test_a_target_that_is_not_there_is_wrong_use_everywhere(ensue: Ensue, command: str) -> None:
    said = ensue(command, "cli_nowhere.py")
    assert said.code == 2
    assert "cli_nowhere.py: no such file" in _refused(said)


def test_debug_shows_the_traceback_wherever_it_stands(ensue: Ensue) -> None:
    for words in (["--debug", "check", "cli_nowhere.py"], ["check", "cli_nowhere.py", "--debug"]):
        said = ensue(*words)
        assert said.code == 2
        assert "Traceback" in said.err


# The event.


def test_an_unknown_event_type_shows_those_that_steps_take(ensue: Ensue) -> None:
    assert "no such event type; it takes Placed, Paid" in _run(ensue, "--event", "Arrived")


def test_a_typing_error_gets_a_suggestion(ensue: Ensue) -> None:
    assert "did you mean Placed?" in _run(ensue, "--event", "Plaecd")


def test_an_event_that_no_step_takes_starts_no_run(ensue: Ensue) -> None:
    assert "no step of pipeline shop takes it" in _run(ensue, "--event", "Refused", "--data", '{"order_id": "a"}')


def test_a_missing_event_shows_those_that_steps_take(ensue: Ensue) -> None:
    assert "--event is missing: pipeline shop takes Placed" in _run(ensue)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ('{"order_id": 7, "amount": 1.5}', "order_id: Input should be a valid string, got 7"),
        ('{"order_id": "a", "amount": "much"}', "amount: Input should be a valid number, got 'much'"),
        ('{"order_id": "a", "amount": NaN}', "not JSON"),
        ('{"order_id": "a"}', "amount: Field required"),
        ('{"order_id": "a", "amount": 1, "colour": "red"}', "colour: Extra inputs are not permitted"),
        ("[1]", "expected a JSON object"),
        ('{"order_id" 7}', "--data is not JSON: Expecting ':' delimiter (line 1, column 13"),
        ('{"order_id":\n "a",}', "line 2, column"),
        ("", "line 1, column 1"),
        ("[" * 100_000, "--data is n"),
        ("@nothing.json", "the file cannot be read: No such file"),
        ("@", "the file cannot be read"),
    ],
)
def test_invalid_data_names_the_field_or_the_position(ensue: Ensue, data: str, said: str) -> None:
    assert said in _run(ensue, "--event", "Placed", "--data", data)


def test_data_is_read_from_a_file(ensue: Ensue, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_text('{"order_id": "a", "amount": "x"}')
    assert "amount: Input should be a valid number" in _run(ensue, "--event", "Placed", "--data", "@order.json")


def test_a_file_that_is_not_text_is_refused(ensue: Ensue, tmp_path: Path) -> None:
    (tmp_path / "order.json").write_bytes(b'{"order_id": "\xff"}')
    assert "not UTF-8 text, at byte 14" in _run(ensue, "--event", "Placed", "--data", "@order.json")


@pytest.mark.parametrize(
    ("store", "said"),
    [
        ("sqlite:///no/such/folder/x.db", "does not exist"),
        ("mysql://x", "of no known kind"),
        ("postgresql://x", "not in this version"),
        ("sqlite:///.", "is a folder"),
        ("sqlite:///cli_shop.py", "cli_shop.py"),
    ],
)
def test_an_invalid_store_is_wrong_use(ensue: Ensue, tmp_path: Path, store: str, said: str) -> None:
    line = _refused(
        ensue("run", "cli_shop.py", "--event", "Paid", "--data", '{"order_id": "a"}', "--store", store, "--json")
    )
    assert said in line
    assert (tmp_path / "cli_shop.py").read_text() == SHOP
    assert not list(tmp_path.glob("*-lock"))


# check and graph.


def test_a_good_pipeline_has_no_findings(ensue: Ensue) -> None:
    said = ensue("check", "cli_shop.py")
    assert (said.code, said.out, said.err) == (0, "shop: 2 steps, 3 event types: no findings\n", "")


def test_check_prints_each_error_and_exits_with_1(ensue: Ensue, tmp_path: Path) -> None:
    (tmp_path / "cli_never.py").write_text(SHOP + NEVER)
    said = ensue("check", "cli_never.py")
    assert said.code == 1
    assert said.out.startswith("error: step both")
    assert "[join-never-completes]" in said.out


def test_check_as_json_is_one_document(ensue: Ensue, tmp_path: Path) -> None:
    (tmp_path / "cli_never.py").write_text(SHOP + NEVER)
    said = ensue("check", "cli_never.py", "--json")
    document = json.loads(said.out)
    assert (said.code, said.err, document["errors"]) == (1, "", 1)
    assert document["findings"][0]["code"] == "join-never-completes"


@pytest.mark.parametrize(
    "more", ["@shop.step\ndef bad(event) -> None: ...\n", "@shop.step\ndef ship(event: Paid) -> None: ...\n"]
)
def test_check_reports_an_invalid_declaration_as_a_finding(ensue: Ensue, tmp_path: Path, more: str) -> None:
    (tmp_path / "cli_wrong.py").write_text(SHOP + more)
    said = ensue("check", "cli_wrong.py", "--json")
    assert said.code == 1
    assert [finding["code"] for finding in json.loads(said.out)["findings"]] == ["declaration"]
    assert ensue("run", "cli_wrong.py").code == 2


def test_a_run_of_a_pipeline_with_errors_is_not_started(ensue: Ensue, tmp_path: Path) -> None:
    (tmp_path / "cli_never.py").write_text(SHOP + NEVER)
    said = ensue("run", "cli_never.py", "--event", "Placed")
    assert said.code == 1
    assert "both" in _refused(said)


@pytest.mark.parametrize(("form", "start"), [("mermaid", "flowchart TD"), ("dot", "digraph"), ("svg", "<svg")])
def test_the_graph_is_drawn(ensue: Ensue, form: str, start: str) -> None:
    said = ensue("graph", "cli_shop.py", "--format", form)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(start)


def test_the_graph_as_json_reads_back(ensue: Ensue) -> None:
    graph = Graph.from_json(ensue("graph", "cli_shop.py", "--format", "json").out)
    assert [step.name for step in graph.steps()] == ["charge", "ship"]


def test_the_graph_goes_to_a_file(ensue: Ensue, tmp_path: Path) -> None:
    said = ensue("graph", "cli_shop.py", "--output", "shop.mmd")
    assert (said.code, said.out) == (0, "")
    assert (tmp_path / "shop.mmd").read_text().startswith("flowchart TD")


def test_a_graph_that_cannot_be_written_is_one_line(ensue: Ensue) -> None:
    said = ensue("graph", "cli_shop.py", "--output", "no/such/shop.mmd")
    assert said.code == 2
    assert "cannot be written" in _refused(said)


def test_serve_refuses_a_webhook_without_its_secret(
    ensue: Ensue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = 'from ensue import Webhook, hooks\n@shop.webhook("gh", verify=hooks.GitHub(secret_env="CLI_SECRET"))\n'
    (tmp_path / "cli_hook.py").write_text(f"{SHOP}{hook}def gh(hook: Webhook) -> Placed | None: ...\n")
    monkeypatch.delenv("CLI_SECRET", raising=False)
    said = ensue("serve", "cli_hook.py", "--port", "0")
    assert said.code == 2
    assert "CLI_SECRET is not set" in _refused(said)


def test_serve_refuses_an_address_that_other_machines_reach(ensue: Ensue) -> None:
    said = ensue("serve", "cli_shop.py", "--host", "0.0.0.0", "--port", "0")  # noqa: S104 - what is refused
    assert said.code == 2
    assert "not loopback" in _refused(said)


def test_serve_allows_the_hosts_of_its_option(ensue: Ensue, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[GatewaySettings] = []

    def record(*_: object, settings: GatewaySettings, **__: object) -> None:
        given.append(settings)

    monkeypatch.setattr(serve, "serve", record)
    words = ("--allowed-host", "hooks.example", "--allowed-host", "a.example")
    assert ensue("serve", "cli_shop.py", "--store", "memory://", *words).code == 0
    assert given == [GatewaySettings(allowed_hosts=("hooks.example", "a.example"))]


@pytest.mark.parametrize("is_debug", [False, True])
def test_an_exception_in_the_log_is_named(capsys: pytest.CaptureFixture[str], *, is_debug: bool) -> None:
    error = LookupError("nothing for 13")
    fields = {"levelname": "ERROR", "msg": "webhook shop failed", "exc_info": (LookupError, error, None)}
    LogLines(is_timed=False, is_debug=is_debug).handle(logging.makeLogRecord(fields))
    said = capsys.readouterr().err
    between = "\n" if is_debug else ": "
    assert said == f"error webhook shop failed{between}LookupError: nothing for 13\n"


def test_the_option_kind_takes_every_kind_of_failure() -> None:
    assert {kind.value for kind in FailureClass} == {kind.value for kind in FailureKind}
