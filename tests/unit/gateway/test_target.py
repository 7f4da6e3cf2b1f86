"""TARGET: what a user writes leads to the pipeline that it means, or to one line that says why not."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensue.events.errors import PipelineInvalid, TargetInvalid
from ensue.gateway.cli.target import load

ONE = """
from ensue import Event, Pipeline

class Ping(Event):
    n: int

pings = Pipeline("pings")

@pings.step
def hear(event: Ping) -> None: ...
"""
TWO = ONE + '\nothers = Pipeline("others")\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder; what a test imports is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _write(path: Path, text: str = ONE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _refusal(target: str) -> str:
    with pytest.raises(TargetInvalid) as caught:
        load(target)
    message = str(caught.value)
    assert "\n" not in message
    assert target.partition(":")[0] in message
    return message


@pytest.mark.parametrize("target", ["t_one.py", "t_one.py:pings", "./t_one.py", "t_one:pings", "t_one"])
def test_every_way_to_write_a_target_leads_to_its_pipeline(folder: Path, target: str) -> None:
    _write(folder / "t_one.py")
    assert load(target).name == "pings"


def test_a_file_outside_of_the_working_folder_finds_what_lies_beside_it(folder: Path) -> None:
    _write(folder / "far" / "t_words.py", "NAME = 'pings'")
    _write(folder / "far" / "t_far.py", "import t_words\n" + ONE)
    (folder / "here").mkdir()
    assert load(str(folder / "here" / ".." / "far" / "t_far.py")).name == "pings"
    assert sys.path[0] == str(folder / "far")


def test_a_file_of_a_package_is_imported_as_part_of_it(folder: Path) -> None:
    _write(folder / "src" / "t_pack" / "__init__.py", "")
    _write(folder / "src" / "t_pack" / "names.py", "NAME = 'pings'")
    _write(folder / "src" / "t_pack" / "lines.py", "from .names import NAME\n" + ONE)
    pipeline = load("src/t_pack/lines.py")
    assert pipeline.steps["hear"].target.__module__ == "t_pack.lines"


def test_a_package_is_named_like_a_module(folder: Path) -> None:
    _write(folder / "t_whole" / "__init__.py")
    assert load("t_whole:pings").name == "pings"


def test_of_two_pipelines_the_named_one_is_taken(folder: Path) -> None:
    _write(folder / "t_two.py", TWO)
    assert load("t_two.py:others").name == "others"


def test_a_pipeline_with_two_names_is_one_pipeline(folder: Path) -> None:
    _write(folder / "t_alias.py", ONE + "\napp = pings\n")
    assert load("t_alias.py").name == "pings"


def test_two_pipelines_and_no_name_shows_what_to_write(folder: Path) -> None:
    _write(folder / "t_both.py", TWO)
    assert "t_both.py:pings or t_both.py:others" in _refusal("t_both.py")


def test_a_file_without_a_pipeline_says_so(folder: Path) -> None:
    _write(folder / "t_none.py", "x = 1")
    assert "it has no pipeline" in _refusal("t_none.py")


def test_a_name_that_is_not_there_shows_those_that_are(folder: Path) -> None:
    _write(folder / "t_named.py")
    assert "pipelines in it: pings" in _refusal("t_named.py:pongs")


def test_a_name_of_something_else_says_what_it_is(folder: Path) -> None:
    _write(folder / "t_other.py")
    assert "hear is a function, not a pipeline" in _refusal("t_other.py:hear")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("t_gone.py", "no such file"),
        ("t_gone/x.py", "no such file"),
        (".", "a folder"),
        ("t_gone_module:app", "no module 't_gone_module'"),
        ("not a module", "names no pipeline"),
        (":app", "names no pipeline"),
    ],
)
def test_what_does_not_exist_is_said_in_one_line(folder: Path, target: str, said: str) -> None:
    with pytest.raises(TargetInvalid, match=said):
        load(target)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nx = 1 / 0\n", "t_bad.py:2: ZeroDivisionError"),
        ("def broken(:\n", "t_bad.py:1: SyntaxError"),
        ("import t_missing_thing\n", "t_bad.py:1: ModuleNotFoundError: No module named 't_missing_thing'"),
        ("import sys\nsys.exit(3)\n", "t_bad.py:2: SystemExit: 3"),
    ],
)
def test_a_file_that_does_not_import_names_the_line_and_the_reason(folder: Path, text: str, said: str) -> None:
    _write(folder / "t_bad.py", text)
    assert f"the import failed: {said}" in _refusal("t_bad.py")


def test_a_module_that_does_not_import_is_told_from_one_that_is_not_there(folder: Path) -> None:
    _write(folder / "t_inner.py", "import t_absent")
    assert "the import failed: t_inner.py:1" in _refusal("t_inner:app")


def test_a_wrong_declaration_names_its_line(folder: Path) -> None:
    _write(folder / "t_wrong.py", ONE + "\n@pings.step\ndef again(event) -> None: ...\n")
    with pytest.raises(PipelineInvalid, match=r"t_wrong\.py:\d+: step again: parameter 'event' has no annotation"):
        load("t_wrong.py")


def test_a_file_named_like_a_module_of_python_is_refused(folder: Path) -> None:
    _write(folder / "json.py")
    assert "rename the file" in _refusal("json.py")


def test_two_files_of_one_name_are_refused_rather_than_mixed_up(folder: Path) -> None:
    _write(folder / "a" / "t_same.py")
    _write(folder / "b" / "t_same.py")
    load("a/t_same.py")
    assert "already loaded" in _refusal("b/t_same.py")


@pytest.mark.parametrize("name", ["t_x.txt", "t.x.py"])
def test_a_file_that_cannot_be_a_module_is_refused(folder: Path, name: str) -> None:
    _write(folder / name)
    with pytest.raises(TargetInvalid):
        load(f"./{name}")
