"""The command `ensue runs`: list, show, watch, cancel and retry runs.

Rules: --url names a served engine, --store a store; without both, the default address of `ensue serve` is used. The
documents are those of the API, and --json prints them unchanged.
"""

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..exit_codes import FAILED, OK
from ..sources.operations import DEFAULT_URL

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

    from ...schemas.runs import EventOut, RunDetailOut, RunOut
    from ..sources.store import RunSource

__all__ = ["act", "list_runs", "open_source", "show_run", "watch_run"]

_WATCH_SECONDS = 0.25
_ID_WIDTH = 36
_WIDE = 100


@contextmanager
def open_source(url: str | None, store: str | None) -> "Generator[RunSource]":
    """The source of runs that the options name."""
    if store is not None:
        from ..sources.store import StoreSource

        source: RunSource = StoreSource(store)
    else:
        from ..sources.http import HttpSource

        source = HttpSource(url or DEFAULT_URL)
    try:
        yield source
    finally:
        source.close()


def list_runs(
    source: "RunSource", pipeline: str | None, statuses: Sequence[str], cursor: str | None, limit: int, *, as_json: bool
) -> int:
    """List a page of runs."""
    from ..terminal.output import print_document, stderr

    page = source.runs(pipeline, statuses, cursor, limit)
    if as_json:
        print_document(page)
        return OK
    if not page.runs:
        stderr().print("no runs", style="dim")
        return OK
    _print_table(page.runs)
    if page.next_cursor:
        stderr().print(f"next page: --cursor {page.next_cursor}", style="dim")
    return OK


def show_run(source: "RunSource", run_id: str, *, as_json: bool) -> int:
    """Show a run with the tree of its events; with --json, its document."""
    from ..terminal.output import print_document

    run = source.run(run_id)
    if as_json:
        print_document(run)
        return OK
    _print_run(run, source.events(run_id).events)
    return OK


def watch_run(source: "RunSource", run_id: str | None, *, as_json: bool) -> int:
    """Follow a run, by default the newest, until it ends; with --json, print a document per change."""
    from ..terminal.output import print_document, print_outcome
    from ..terminal.view import view

    watched = source.watch(_newest(source) if run_id is None else run_id)
    last = ""
    with view(quiet=as_json) as shown:
        while True:
            frame = watched.frame()
            shown.show(frame)
            if as_json and (now := repr(frame)) != last:
                last = now
                print_document(watched.document(), one_line=True)
            if not frame.status.live:
                break
            time.sleep(_WATCH_SECONDS)
    document = watched.document()
    if not as_json:
        print_outcome(document)
    return OK if document.status == "completed" else FAILED


def act(source: "RunSource", action: str, run_id: str, *, as_json: bool) -> int:
    """Cancel or retry a run."""
    from rich.text import Text

    from ..terminal.output import print_document, status_text, stdout

    run = source.cancel(run_id) if action == "cancel" else source.retry(run_id)
    if as_json:
        print_document(run)
    else:
        stdout().print(Text.assemble("run ", (run.run_id, "bold"), " is ", status_text(run.status)), soft_wrap=True)
    return OK


def _newest(source: "RunSource") -> str:
    from ....events.errors import RunUnknown

    page = source.runs(None, (), None, 1)
    if not page.runs:
        raise RunUnknown("there is no run to watch yet")
    return page.runs[0].run_id


def _print_table(rows: "Sequence[RunOut]") -> None:
    from rich.table import Table

    from ..terminal.output import duration, plain, status_text, stdout
    from ..times import ago

    console = stdout()
    is_narrow = console.is_terminal and console.width < _WIDE
    names = ("run", "status", "pipeline", *(() if is_narrow else ("trigger",)), "started")
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, min_width=_ID_WIDTH if name == "run" else None, overflow="ellipsis")
    table.add_column("took", no_wrap=True, justify="right")
    for run in rows:
        took = "" if run.duration_ms is None else duration(run.duration_ms / 1000)
        trigger = () if is_narrow else (plain(run.trigger_type),)
        table.add_row(run.run_id, status_text(run.status), plain(run.pipeline), *trigger, ago(run.started), took)
    console.print(table)


def _print_run(run: "RunDetailOut", events: "Sequence[EventOut]") -> None:
    from rich.text import Text

    from ..terminal.output import duration, print_errors, status_text, stdout

    console = stdout()
    took = "" if run.duration_ms is None else f" in {duration(run.duration_ms / 1000)}"
    head = Text.assemble((run.pipeline, "bold"), "  ", status_text(run.status), took, ("  run " + run.run_id, "dim"))
    console.print(head, soft_wrap=True)
    started = run.started.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    console.print(Text(f"started {started}, version {run.version}", style="dim"), soft_wrap=True)
    if events:
        console.print(_tree(events, {event.id for event in run.events}))
    print_errors(run)


def _tree(events: "Sequence[EventOut]", results: set[str]) -> "Tree":
    """The tree of events: each event below its cause, with the step that emitted it."""
    from rich.tree import Tree

    root = Tree(_label(events[0], results), guide_style="dim")
    nodes = {events[0].id: root}
    for event in events[1:]:
        parent = nodes.get(event.cause or "", root)
        nodes[event.id] = parent.add(_label(event, results))
    return root


def _label(event: "EventOut", results: set[str]) -> "Text":
    from rich.text import Text

    from ..terminal.output import compact, plain

    step = ((f"{plain(event.step)} → ", "dim"),) if event.step else ()
    tries = ((f" (attempt {event.attempt})", "yellow"),) if event.attempt and event.attempt > 1 else ()
    name = (plain(event.type), "bold green" if event.id in results else "bold")
    return Text.assemble(*step, name, *tries, " ", (compact(event.data), "dim"), no_wrap=True, overflow="ellipsis")
