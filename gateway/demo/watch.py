"""The board of the demo: the runs, read from the API, on a terminal or as lines."""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

__all__ = ["Board", "RunNow", "StepNow", "fetch"]

_STEPS = ("unfold", "inspect", "summarise", "weigh", "read", "assign", "escalate")
_POLL_SECONDS = 0.12
_FAN_OUT = {"inspect": "unfold"}
"""The step whose emitted events a step handles one by one: their number is its total."""
_NOTHING = {"attempts": 0, "running": 0, "done": 0, "emitted": 0}


@dataclass(frozen=True, slots=True)
class StepNow:
    """The progress of a step. `redone` of the done and `redoing` of the running deliveries were interrupted before."""

    name: str
    done: int
    running: int
    waiting: int
    redone: int
    redoing: int


@dataclass(frozen=True, slots=True)
class RunNow:
    """The progress of a run. `result` is the data of its last event."""

    run_id: str
    title: str
    status: str
    steps: tuple[StepNow, ...]
    result: Mapping[str, Any] | None

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.status not in ("running", "waiting")


def fetch(client: httpx.Client, run_id: str, title: str) -> RunNow:
    """Read the current state of a run."""
    run = client.get(f"/runs/{run_id}").raise_for_status().json()
    events = client.get(f"/runs/{run_id}/events").raise_for_status().json()["events"]
    known = {step["name"]: step for step in run["steps"]}
    redone = {(event["step"], event["cause"]) for event in events if (event["attempt"] or 0) > 1}
    steps = tuple(
        _step(known, name, sum(step == name for step, _ in redone)) for name in _STEPS if _is_shown(known, name)
    )
    results = [event["data"] for event in run["events"] if event["type"] == "Triaged"]
    return RunNow(run_id, title, run["status"], steps, results[0] if results else None)


def _is_shown(known: Mapping[str, dict[str, Any]], name: str) -> bool:
    """Whether a step has begun, or has events to handle."""
    return name in known or (name in _FAN_OUT and known.get(_FAN_OUT[name], _NOTHING)["emitted"] > 0)


def _step(known: Mapping[str, dict[str, Any]], name: str, redone: int) -> StepNow:
    step = known.get(name, _NOTHING)
    done, running, attempts = step["done"], step["running"], step["attempts"]
    again = attempts - done - running
    total = known[_FAN_OUT[name]]["emitted"] if name in _FAN_OUT else attempts - again
    return StepNow(name, done, running, max(0, total - done - running), redone, max(0, again - redone))


class Board:
    """The live board: one row for each run on a terminal, a line for each finished step elsewhere."""

    def __init__(self, console: Console, client: httpx.Client, titles: Mapping[str, str]) -> None:
        self._console = console
        self._client = client
        self._titles = titles
        self._said: dict[tuple[str, str], int] = {}
        self.runs: tuple[RunNow, ...] = ()

    def watch(self, until: Callable[[tuple[RunNow, ...]], bool], timeout_seconds: float) -> bool:
        """Show the runs until a condition holds; false if it does not hold in time."""
        deadline = time.monotonic() + timeout_seconds
        with self._shown() as show:
            while time.monotonic() < deadline:
                known = {run.run_id: run for run in self.runs if run.ended}
                self.runs = tuple(
                    known.get(run_id) or fetch(self._client, run_id, title) for run_id, title in self._titles.items()
                )
                show()
                if until(self.runs):
                    return True
                time.sleep(_POLL_SECONDS)
        return False

    @contextmanager
    def _shown(self) -> Generator[Callable[[], None]]:
        if not self._console.is_terminal:
            yield self._say
            return
        with Live(self._table(), console=self._console, auto_refresh=False) as live:
            yield lambda: live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=18, no_wrap=True)
        table.add_column(no_wrap=True)
        for run in self.runs:
            table.add_row(Text(f"   {run.title}", "bold" if not run.ended else ""), _steps(run))
        return table

    def _say(self) -> None:
        for run in self.runs:
            for step in run.steps:
                if self._said.get((run.run_id, step.name), 0) < step.done:
                    self._said[run.run_id, step.name] = step.done
                    total = step.done + step.running + step.waiting
                    self._console.print(f"   {run.title}: {step.name} {step.done} of {total}")


def _steps(run: RunNow) -> Text:
    text = Text()
    for step in run.steps:
        text.append(f"{step.name} ", "" if step.running else "dim")
        text.append("✓" * (step.done - step.redone), "green")
        text.append("✓" * step.redone, "yellow")
        text.append("↻" * step.redoing, "bold yellow")
        text.append("◐" * (step.running - step.redoing), "bold cyan")
        text.append("·" * step.waiting, "dim")
        text.append("  ")
    if run.ended:
        text.append(run.status, "green" if run.status == "completed" else "bold red")
    return text
