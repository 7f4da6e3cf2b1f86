"""The map and the code agree: docs/explanation/architecture.md names every folder, and no file that is not there.

The way of a webhook is not believed: one is sent through the real code, and what it enters is compared with the page.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import ARCHITECTURE, FOLDERS, GLOSSARY, PAGES, ROOT, first_column, named_files, section
from .walk import Entered, walk_webhook

if not ARCHITECTURE.exists():
    pytest.skip("only a checkout has the documents", allow_module_level=True)

SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
THREADS_OF_OTHERS = {"the event loop", "threads of asyncio and FastAPI", "a thread of Ray's", "step-NAME"}
"""Rows of the table of threads that have no name of ours, or one for each step."""
Station = tuple[str, str]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_every_folder_of_the_package_has_a_row_and_no_other_has() -> None:
    folders = {f"{_name(path.parent)}/" for path in SOURCES}
    rows = first_column(section(ARCHITECTURE, "## Folders"))
    assert len(rows) == len(set(rows))
    assert set(rows) == folders


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    missing = [name for name in named_files(page.read_text()) if not list(ROOT.glob(name.rstrip("/")))]
    assert missing == []


def test_the_threads_of_the_page_are_those_that_the_code_starts() -> None:
    started = {
        keyword.value.value
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Thread")
        for keyword in node.keywords
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant)
    }
    rows = first_column(section(ARCHITECTURE, "## Processes and threads"))
    assert set(rows) - THREADS_OF_OTHERS == started
    drawn = set(re.findall(r"\bensue-\w+", section(ARCHITECTURE, "## Processes and threads")))
    assert drawn <= started


def _imports(path: Path) -> Iterator[str]:
    """The files of the package that a file imports, also inside functions."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ROOT.joinpath(*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            for target in (base, *(base / alias.name for alias in node.names)):
                yield _name(target.with_suffix(".py"))


def test_an_arrow_between_folders_is_an_import() -> None:
    drawing = section(ARCHITECTURE, "## Layers").partition("```mermaid\n")[2].partition("```")[0]
    labels = dict(re.findall(r'(\w+)\["([^"]+)"\]', drawing))
    arrows = re.findall(r'^\s*(\w+)(?:\[".*?"\])? --> (\w+)', drawing, re.MULTILINE)
    assert len(arrows) > len(labels) > len(FOLDERS)
    untrue = []
    for start, end in arrows:
        starts, ends = labels[start].split("<br/>"), tuple(labels[end].split("<br/>"))
        files = [path for path in SOURCES if _name(path).startswith(tuple(starts))]
        if not any(target.startswith(ends) for path in files for target in _imports(path)):
            untrue.append(f"{starts} --> {ends}")
    assert untrue == []


# The way of a webhook.


def _stations(heading: str) -> list[Station]:
    return re.findall(r"^\d+\. `([\w/]+\.py)` `(\w+)`: ", section(ARCHITECTURE, heading), re.MULTILINE)


def _first_missed(stations: list[Station], calls: list[Station]) -> str:
    """The first station not entered after those before it, and what was entered of its file; empty if none."""
    rest = iter(calls)
    missed = next((station for station in stations if station not in rest), None)
    if missed is None:
        return ""
    file, function = missed
    entered = list(dict.fromkeys(name for path, name in calls if path == file))
    return f"{file} {function} is not entered after the stations before it; entered of this file: {entered}"


@pytest.fixture
async def webhook_and_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Entered, Entered]:
    return await walk_webhook(tmp_path, monkeypatch)


async def test_the_way_of_a_webhook_is_the_way_that_one_goes(webhook_and_query: tuple[Entered, Entered]) -> None:
    webhook, query = webhook_and_query
    to_commit, to_step = _stations("### From the socket to the commit"), _stations("### To a step and back")
    to_query = _stations("### To a query")
    assert not _first_missed(to_commit, webhook.calls)
    assert not _first_missed(to_step, webhook.calls)
    assert not _first_missed(to_query, query.calls)

    listed = {file for file, _ in (*to_commit, *to_step, *to_query)}
    small = set(first_column(section(ARCHITECTURE, "### Small files on the way")))
    assert listed & small == set(), "a file is a station or a small one, not both"
    assert (webhook.files | query.files) - listed - small == set(), "entered, and not on the page"
    assert small - webhook.files - query.files == set(), "on the page, and not entered"


def test_each_kind_of_thing_has_a_list_of_files_and_of_tests() -> None:
    kinds = re.findall(r"^### An? (.+)$", section(ARCHITECTURE, "## How to add"), re.MULTILINE)
    expected = "policy, input, record, log backend, API route, command, step kind, verification scheme"
    assert kinds == expected.split(", ")
    for kind in kinds:
        article = "An" if kind[0] in "Ai" else "A"
        named = named_files(section(ARCHITECTURE, f"### {article} {kind}"))
        tests = [name for name in named if name.startswith("tests/")]
        assert tests, f"{kind}: no test is named"
        assert len(named) - len(tests) > 1, f"{kind}: too few files are named"


def test_a_station_out_of_order_is_noticed() -> None:
    calls = [("a.py", "one"), ("b.py", "two"), ("a.py", "three")]
    assert not _first_missed([("a.py", "one"), ("a.py", "three")], calls)
    assert "a.py one is not entered" in _first_missed([("b.py", "two"), ("a.py", "one")], calls)


# The glossary.

OF_THE_FIELD = (
    "backpressure, circuit breaker, command, compensation, dead letter, delivery, dispatcher, drain, envelope, epoch, "
    "escalation, event, event bus, fencing token, flow control, high-water mark, idempotency key, input, keeper, lane, "
    "lease, log, mailbox, offset, outbox, partition, poison delivery, prefetch, probation run, quarantine, quorum, "
    "record, reducer, replay, saga, scheduler, snapshot, supervisor, timer, upcaster, window"
)


def test_the_words_of_the_field_are_in_the_glossary_in_order_and_each_leads_to_a_file() -> None:
    text = GLOSSARY.read_text()
    words = first_column(text)
    assert words == sorted(words, key=str.lower)
    assert len(words) == len(set(words))
    explained = {word.strip() for entry in words for word in entry.split(",")}
    assert set(OF_THE_FIELD.split(", ")) - explained == set()
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| word")]
    assert [row for row in rows if len(named_files(row.split("|")[-2])) != 1] == []
