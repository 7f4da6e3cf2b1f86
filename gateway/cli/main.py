"""The program `ensue`: its commands and their options. The work of the commands is in `commands/`.

Rules: importing this module is cheap, so that `ensue --help` is quick; each command imports what it needs when it
runs.
"""

import sys
from enum import StrEnum
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from .exit_codes import FAILED, flush_output, run_guarded
from .operator_commands import breakers_app, dead_app, pipelines_app, status
from .options import DEFAULT_STORE, TARGET_HELP, Address, AsJson, OptionalStore, RunId, Store, Target, Url

__all__ = ["app", "main"]

app = typer.Typer(
    name="ensue",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs", help="List, show, watch, cancel and retry runs.")
app.add_typer(dead_app, name="dead", help="List, show, redrive and discard dead letters.")
app.add_typer(breakers_app, name="breaker", help="List, open and close circuit breakers.")
app.add_typer(pipelines_app, name="pipelines", help="Restart a pipeline that has failed.")


class GraphFormat(StrEnum):
    """The formats of `ensue graph`."""

    MERMAID = "mermaid"
    JSON = "json"
    DOT = "dot"
    SVG = "svg"


class RunStatus(StrEnum):
    """The values of `ensue runs list --status`."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    NEEDS_MIGRATION = "needs_migration"


_FORMATS = ", ".join(form.value for form in GraphFormat)
_STATUSES = ", ".join(status.value for status in RunStatus)


class _Flags:
    """The options of every command. --debug may stand anywhere on the command line."""

    is_debug = False


@app.callback(invoke_without_command=True)
def _ensue(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks and the whole log.")] = False,
) -> None:
    """Durable pipelines of typed events: each step is a Ray actor, and every accepted event is on disk."""
    _Flags.is_debug = _Flags.is_debug or debug
    if version:
        typer.echo(f"ensue {_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(short_help="Run one event on a temporary engine and print the outcome.")
def run(  # noqa: PLR0917 - options, which are given by name
    target: Target,
    event: Annotated[
        str | None, typer.Option(metavar="TYPE", help="The event that starts the run: its type or its class.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="The data of the event: JSON, @FILE, or - for stdin; {} if omitted.",
            show_default=False,
        ),
    ] = None,
    store: Store = DEFAULT_STORE,
    address: Address = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="Exit with 1 if the run has not ended after this time; the run is kept."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start an engine, run one event until its run ends, and print the outcome."""
    from .commands.run import RunOptions, run_event

    options = RunOptions(target, event, data, store, address, timeout, as_json, _Flags.is_debug)
    raise typer.Exit(run_event(options))


@app.command(short_help="Serve pipelines over HTTP: webhooks, events and the API.")
def serve(  # noqa: PLR0917 - as above
    targets: Annotated[list[str], typer.Argument(metavar="TARGET", help=TARGET_HELP, show_default=False)],
    host: Annotated[
        str, typer.Option(metavar="HOST", help="The address to listen on; only loopback is allowed.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="The port; 0 selects a free port.")
    ] = 8484,
    store: Store = DEFAULT_STORE,
    address: Address = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait up to this time if another engine uses the store.")
    ] = 0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Also accept this name in the Host header; may be repeated."),
    ] = None,
) -> None:
    """Serve pipelines over HTTP until Ctrl-C or SIGTERM; unfinished runs continue at the next start."""
    from .commands.serve import ServeOptions, serve_pipelines

    hosts = tuple(allowed_host or ())
    options = ServeOptions(targets, host, port, store, address, _version(), _Flags.is_debug, wait, hosts)
    raise typer.Exit(serve_pipelines(options))


@app.command(short_help="Check a pipeline for errors and warnings.")
def check(target: Target, as_json: AsJson = False) -> None:
    """Check the graph of a pipeline for errors and warnings, without running it; exit with 1 if there are errors."""
    from .commands.check import check_pipeline

    raise typer.Exit(check_pipeline(target, as_json=as_json))


@app.command(short_help="Write the graph of a pipeline.")
def graph(
    target: Target,
    form: Annotated[
        GraphFormat, typer.Option("--format", metavar="FORMAT", help=f"The format: {_FORMATS}.")
    ] = GraphFormat.MERMAID,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout.")
    ] = None,
) -> None:
    """Write the graph of a pipeline: steps, event types and webhooks."""
    from .commands.check import write_graph

    raise typer.Exit(write_graph(target, form.value, output))


@app.command(short_help="Show what ensue does, in half a minute.")
def demo() -> None:
    """Show what ensue does, in half a minute: webhooks arrive, a pipeline runs, is killed, and loses nothing."""
    code: int = import_module("ensue.gateway.demo.main").main()
    raise typer.Exit(code)


app.command(short_help="Show engine, supervision, breakers, dead letters and runs.")(status)


@runs_app.command("list")
def list_runs(  # noqa: PLR0917 - as above
    pipeline: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this pipeline.")] = None,
    status: Annotated[
        list[RunStatus] | None,
        typer.Option(metavar="STATUS", help=f"Only runs in this status: {_STATUSES}; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Show at most N.")] = 20,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="next_cursor from the previous page.")] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from .commands import runs

    statuses = [one.value for one in status or ()]
    with runs.open_source(url, store) as source:
        raise typer.Exit(runs.list_runs(source, pipeline, statuses, cursor, limit, as_json=as_json))


@runs_app.command("show")
def show_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Show a run: its results, its errors, and the tree of its events."""
    from .commands import runs

    with runs.open_source(url, store) as source:
        raise typer.Exit(runs.show_run(source, run_id, as_json=as_json))


@runs_app.command("watch", short_help="Follow a run until it ends.")
def watch_run(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN_ID", help="The run; the newest if omitted.", show_default=False)
    ] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document per line at each change.")] = False,
) -> None:
    """Follow a run until it ends; exit with 1 if it does not complete."""
    from .commands import runs

    with runs.open_source(url, store) as source:
        raise typer.Exit(runs.watch_run(source, run_id, as_json=as_json))


@runs_app.command("cancel", short_help="Cancel a run.")
def cancel_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Cancel a run: it starts no further step, and its compensations run."""
    from .commands import runs

    with runs.open_source(url, store) as source:
        raise typer.Exit(runs.act(source, "cancel", run_id, as_json=as_json))


@runs_app.command("retry", short_help="Retry a run that failed or was cancelled.")
def retry_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Retry a run that failed or was cancelled; finished steps are not repeated."""
    from .commands import runs

    with runs.open_source(url, store) as source:
        raise typer.Exit(runs.act(source, "retry", run_id, as_json=as_json))


@runs_app.callback(invoke_without_command=True)
def _runs(context: typer.Context) -> None:
    """Runs of a served engine (--url) or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """Run the program with these arguments, or with those of the process, and exit."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _Flags.is_debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Unicode must not end the command
    code = run_guarded(lambda: _invoke(words), debug=_Flags.is_debug)
    sys.exit(code if flush_output() else FAILED)


def _invoke(arguments: list[str]) -> int:
    code = app(arguments, prog_name="ensue", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _version() -> str:
    from importlib.metadata import version

    return version("ensue")
