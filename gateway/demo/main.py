"""The demo: webhooks arrive, a pipeline runs, all processes are killed in the middle, and nothing is lost.

Rules: everything that it shows really happens: `ensue serve` in processes of its own, HTTP, a store on disk, `kill
-9`. Every claim at the end is checked against the log and against the journal of the steps; if one does not hold, the
exit code is 1. It leaves no processes and no files behind, also after Ctrl-C.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import httpx
from rich.console import Console
from rich.markup import escape

from .deliveries import DELIVERIES, DemoDelivery, headers_of
from .evidence import Evidence, read_journal, read_store
from .server import DemoFailed, Server
from .watch import Board, RunNow

__all__ = ["main"]

_PIPELINE = """
   [dim]push          [/]unfold ─▶ inspect, file by file ─▶ summarise ─▶ [cyan]Triaged[/]
   [dim]pull_request  [/]weigh ─▶ Routine or Serious ┐
   [dim]and issues    [/]read ──▶ Topics ────────────┴▶ assign or escalate ─▶ [cyan]Triaged[/]"""
_KILL_AFTER_FILES = 6
_WATCH_SECONDS = 90.0
_UNAUTHORIZED = 401


def main() -> int:
    """Run the demo. Returns 0 if all claims hold, 1 if one does not, 130 after Ctrl-C."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode gets question marks
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with tempfile.TemporaryDirectory(prefix="demo-of-ensue-", ignore_cleanup_errors=True) as folder:
            server = Server.in_folder(Path(folder))
            try:
                return Demo(console, server).run()
            finally:
                server.kill()
    except (DemoFailed, httpx.HTTPError) as error:
        message = str(error) if isinstance(error, DemoFailed) else str(error).partition("\n")[0]
        console.print("\n[bold red]The demo failed:[/]", escape(message), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("\nStopped; nothing is left behind.")
        return 130


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


class Demo:
    """One run of the demo, act by act."""

    def __init__(self, console: Console, server: Server) -> None:
        self._console = console
        self._server = server
        self._client = httpx.Client(base_url=server.url, trust_env=False, timeout=20.0)
        self._began = time.monotonic()
        self._held = True

    @property
    def exit_code(self) -> int:
        """0 as long as all claims hold, else 1."""
        return 0 if self._held else 1

    def run(self) -> int:
        """Run all acts; returns the exit code."""
        with self._client:
            self._say(f"\n[bold]ensue[/]: six webhooks, one pipeline, and a kill -9 in the middle.\n{_PIPELINE}")
            self._pause(1.5)
            self._start("1  Start", "gateway, engine and a worker for each step, on this machine")
            titles = self._send()
            self._pause(1.0)
            board = Board(self._console, self._client, titles)
            self._watch(board)
            before, moment = self._kill()
            self._start("5  Start again", "on the same store; the runs continue by themselves")
            self._recover(board, before, moment)
        self._server.stop()
        self._say(f"\n   That took {time.monotonic() - self._began:.0f} s. Next: README.md, then examples/\n")
        return self.exit_code

    def _start(self, title: str, what: str) -> None:
        self._act(title, what)
        self._say(f"   [dim]$ ensue {' '.join(self._server.arguments)}[/]")
        began = time.monotonic()
        with self._waiting("   starting"):
            self._server.start()
        self._say(f"   ready in {time.monotonic() - began:.1f} s")

    def _send(self) -> dict[str, str]:
        """Send all deliveries; returns the title of each run that they started."""
        self._act("2  Send", "signed GitHub deliveries over HTTP; 202 means that the event is on disk")
        runs: dict[str, str] = {}
        for delivery in DELIVERIES:
            answer = self._post(delivery, self._server.secret)
            run_id = answer.json().get("run_id")
            if run_id:
                runs[run_id] = delivery.title
            self._show_answer(delivery.title, answer, f"run {run_id}" if run_id else "the pipeline ignores it: no run")
        forged = self._post(DELIVERIES[0], "a guessed secret")
        self._show_answer("a forged push", forged, "its signature is invalid")
        self._expect(len(runs) == len(DELIVERIES) - 1 and forged.status_code == _UNAUTHORIZED)
        return runs

    def _watch(self, board: Board) -> None:
        self._act("3  Watch", "[green]✓[/] finished  [cyan]◐[/] running  · waiting")
        if not board.watch(_is_the_middle, _WATCH_SECONDS):
            raise DemoFailed("the runs did not reach the point of the kill in time")

    def _kill(self) -> tuple[Evidence, float]:
        """Kill the server; returns the contents of the log after it, and the time of the kill."""
        self._act("4  kill -9", "while the steps are at work")
        gone = self._server.kill()
        moment = time.time()
        before = read_store(self._server.store)
        self._say(f"   {gone} processes are gone: the gateway, the engine, Ray and every worker")
        self._say(
            f"   on disk: {_count(before.ended, 'run')} ended, {before.unfinished} unfinished; "
            f"{_count(len(before.finished), 'step')} finished, {len(before.interrupted)} interrupted"
        )
        self._expect(bool(before.unfinished and before.finished and before.interrupted))
        self._pause(2.0)
        return before, moment

    def _recover(self, board: Board, before: Evidence, moment: float) -> None:
        self._say("   [yellow]↻[/] [dim]was interrupted, and is tried again with the same key[/]")
        all_over = board.watch(lambda runs: all(run.ended for run in runs), _WATCH_SECONDS)
        self._act("6  Was anything lost?", "checked against the log and the journal of the steps")
        journal = read_journal(self._server.journal, moment)
        again = [key for key in before.finished if key in journal.after]
        redone = [key for key in before.interrupted if key in journal.after]
        listed = self._client.get("/runs").raise_for_status().json()["runs"]
        completed = all_over and all(run.status == "completed" and run.result for run in board.runs)
        self._check(completed and len(listed) == len(board.runs), f"all {len(board.runs)} runs completed, none twice")
        finished, interrupted = len(before.finished), len(before.interrupted)
        self._check(not again, f"{finished} steps had finished before the kill: {len(again) or 'none'} ran again")
        how_many = "all" if len(redone) == interrupted else len(redone)
        self._check(how_many == "all", f"{interrupted} steps were interrupted: {how_many} ran again and finished")
        self._send_again(board.runs)
        self._show_results(board.runs)

    def _send_again(self, runs: tuple[RunNow, ...]) -> None:
        answer = self._post(DELIVERIES[0], self._server.secret)
        same: dict[str, Any] = answer.json() if answer.is_success else {}
        self._check(
            bool(same.get("duplicate")) and same.get("run_id") == runs[0].run_id,
            f"{runs[0].title}, delivered again: {answer.status_code}, duplicate: true, the same run",
        )

    def _show_results(self, runs: tuple[RunNow, ...]) -> None:
        self._say("\n   What the pipeline found:")
        priorities = ("now", "today", "some day")
        results = [run.result for run in runs if run.result]
        for result in sorted(results, key=lambda result: priorities.index(result["priority"])):
            style = "bold red" if result["priority"] == "now" else "dim"
            self._say(f"   [{style}]{result['priority']:9}[/] {result['subject']:19} {result['summary']}")

    def _post(self, delivery: DemoDelivery, secret: str) -> httpx.Response:
        return self._client.post("/hooks/github", content=delivery.body, headers=headers_of(delivery, secret))

    def _show_answer(self, title: str, answer: httpx.Response, what: str) -> None:
        style = "green" if answer.is_success else "yellow"
        self._say(f"   {title:19} [{style}]{answer.status_code}[/]  [dim]{what}[/]")

    def _act(self, title: str, what: str) -> None:
        self._say(f"\n[bold]{title}[/]  [dim]{what}[/]" if "[" not in what else f"\n[bold]{title}[/]  {what}")

    def _check(self, holds: bool, claim: str) -> None:  # noqa: FBT001 - the subject of the call
        self._expect(holds)
        self._say(f"   {'[bold green]✓[/]' if holds else '[bold red]✗ failed:[/]'} {claim}")

    def _expect(self, holds: bool) -> None:  # noqa: FBT001 - as above
        self._held = self._held and holds

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _pause(self, seconds: float) -> None:
        """Give a person at the terminal the time to read."""
        if self._console.is_terminal:
            time.sleep(seconds)

    @contextmanager
    def _waiting(self, what: str) -> Generator[None]:
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(what, spinner="dots"):
            yield


def _is_the_middle(runs: tuple[RunNow, ...]) -> bool:
    """Whether a run has ended, several steps are running, and some files are inspected."""
    inspected = sum(step.done for run in runs for step in run.steps if step.name == "inspect")
    running = sum(step.running for run in runs for step in run.steps)
    return inspected >= _KILL_AFTER_FILES and running > 1 and any(run.ended for run in runs)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
