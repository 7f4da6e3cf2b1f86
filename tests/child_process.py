"""Child processes of tests: the one place that starts a program, and the waits for it, each of which has a bound.

Rules:
1. A child starts with the default action for each signal: `tests/conftest.py` sees to it for the whole run.
2. A wait that is over kills the child and fails the test. A test that fails never waits for its child without a bound.
3. What a child leaves behind is killed at the latest when the run ends (`tests/sweeper.py`).
"""

import os
import subprocess
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

__all__ = ["DEADLINE_SECONDS", "clean_environment", "kill", "read_line", "run_program", "spawn", "spawned"]

DEADLINE_SECONDS = 60.0
Command = Sequence[str | Path]


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment of a child that knows no Ray but ours: without `RAY_*`, apart from the run's temporary folder."""
    kept = {name: value for name, value in os.environ.items() if name == "RAY_TMPDIR" or not name.startswith("RAY_")}
    return kept | variables


def spawn(command: Command, **options: Any) -> "subprocess.Popen[Any]":
    """Start a program; the options are those of `subprocess.Popen`. The caller ends it, with `kill` at the latest."""
    return subprocess.Popen(command, **options)


@contextmanager
def spawned(command: Command, **options: Any) -> "Generator[subprocess.Popen[Any]]":
    """A program for as long as the block lasts; it is killed if it still runs after that."""
    process = spawn(command, **options)
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """Kill a child if it still runs, wait until it is gone, and close its pipes."""
    process.kill()
    process.wait(DEADLINE_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            _close(pipe)


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except BrokenPipeError:  # the child ended before it read everything
        return


def read_line(process: "subprocess.Popen[Any]", seconds: float = DEADLINE_SECONDS, *, stderr: bool = False) -> Any:
    """The next line that a child prints; empty once it has closed its output. Kills it if no line comes in time."""
    pipe = process.stderr if stderr else process.stdout
    assert pipe is not None
    lines: list[Any] = []
    reader = threading.Thread(target=lambda: lines.append(pipe.readline(-1)), daemon=True)
    reader.start()
    reader.join(seconds)
    if reader.is_alive():
        process.kill()
        reader.join(DEADLINE_SECONDS)
        pytest.fail(f"the child printed no line within {seconds:g} s: {process.args!r}")
    return lines[0]


def run_program(
    command: Command, *, timeout: float = DEADLINE_SECONDS, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end and return its exit code and its output as text. Kills it if it takes longer."""
    given: dict[str, Any] = {"capture_output": True, "check": False, "text": True} | options
    return cast("subprocess.CompletedProcess[str]", subprocess.run(command, timeout=timeout, **given))  # noqa: PLW1510
