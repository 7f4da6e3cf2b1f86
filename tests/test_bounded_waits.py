"""No test waits without a bound, and one module alone starts programs.

A wait inside a test is cut by pytest's timeout. A wait in the cleanup after it is not: the run would hang. So each wait
for a process, a thread or a queue names its seconds, and processes come from `child_process.py`, whose waits do. A call
that only looks like such a wait says why on its line: `# unbounded: ...`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STARTS_PROGRAMS = {HERE / name for name in ("child_process.py", "run_folder.py")}
WAITS = {"wait", "communicate", "join", "get", "readline"}
"""Methods whose wait has no bound if they get no argument."""


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """The calls of a file, except those that are awaited: they end with the event loop of their test."""
    awaited = {id(part) for node in ast.walk(tree) if isinstance(node, ast.Await) for part in _parts(node.value)}
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in awaited)


def _parts(awaited: ast.expr) -> list[ast.expr]:
    """What is awaited, and what is passed to it: the second one of `await wait_for(event.wait(), 5)`."""
    return [awaited, *(awaited.args if isinstance(awaited, ast.Call) else ())]


def _found(source: str, *, starts_programs: bool = False) -> list[str]:
    """Each call that waits without a bound or starts a program."""
    found: list[str] = []
    lines = source.splitlines()
    for call in _calls(ast.parse(source)):
        name = ast.unparse(call.func)
        waits = isinstance(call.func, ast.Attribute) and call.func.attr in WAITS and not call.args and not call.keywords
        starts = not starts_programs and name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output")
        if (waits or starts) and "# unbounded: " not in lines[call.lineno - 1]:
            found.append(f"line {call.lineno}: {name}()")
    return found


@pytest.mark.parametrize("path", sorted(HERE.rglob("*.py")), ids=lambda path: path.relative_to(HERE).as_posix())
def test_a_wait_has_a_bound_and_a_program_comes_from_child_process(path: Path) -> None:
    assert _found(path.read_text(), starts_programs=path in STARTS_PROGRAMS) == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("process.wait()", 1),
        ("process.wait(5)", 0),
        ("process.wait(timeout=5)", 0),
        ("async def f(): await event.wait()", 0),
        ("async def f(): await asyncio.wait_for(event.wait(), 5)", 0),
        ("with subprocess.Popen(['true']): pass", 1),
        ("thread.join(); queue.get(); process.communicate(); pipe.readline()", 4),
        ("capture.get()  # unbounded: a text", 0),
        ("', '.join(words); environment.get('HOME')", 0),
    ],
)
def test_the_rule_tells_a_wait_without_a_bound_from_one_with(source: str, count: int) -> None:
    assert len(_found(source)) == count
