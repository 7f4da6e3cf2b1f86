"""The command line: `ensue`, its commands and their options. What they do is in the `cli_*` files, one a command.

Rules: this file imports nothing that takes time, so that `ensue --help` is quick; each command imports what it needs.
Exit codes: 0 done, 1 the run failed or a check found errors, 2 wrong use.
"""

import sys
from enum import StrEnum
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from .exit_codes import FAILED, flushed, run_guarded
from .operator_commands import breakers_app, dead_app, pipelines_app, status
from .options import DEFAULT_STORE, TARGET_HELP, Address, AsJson, OptionalStore, RunId, Store, Target, Url

__all__ = ["app", "main"]

app = typer.Typer(
    name="ensue",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(rich_markup_mode=None)
app.add_typer(runs_app, name="runs", help="List, show, watch, cancel and retry runs.")
app.add_typer(dead_app, name="dead", help="List, show, redrive and discard dead letters.")
app.add_typer(breakers_app, name="breaker", help="List, open and close circuit breakers.")
app.add_typer(pipelines_app, name="pipelines", help="Restart a pipeline that was given up.")


class GraphFormat(StrEnum):
    """What `ensue graph` writes."""

    MERMAID = "mermaid"
    JSON = "json"
    DOT = "dot"
    SVG = "svg"


class RunStatus(StrEnum):
    """What a list of runs can be narrowed to."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    NEEDS_MIGRATION = "needs_migration"


class _Flags:
    """What holds for every command; --debug may stand anywhere."""

    debug = False


@app.callback(invoke_without_command=True)
def _ensue(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the whole log.")] = False,
) -> None:
    """Reactive pipelines of typed events: every step a Ray actor, every accepted event on disk."""
    _Flags.debug = _Flags.debug or debug
    if version:
        typer.echo(f"ensue {_version()}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(short_help="Run one event to its end and print the outcome.")
def run(  # noqa: PLR0917 - options, which are given by name
    target: Target,
    event: Annotated[str | None, typer.Option(metavar="TYPE", help="The event that begins the run.")] = None,
    data: Annotated[
        str | None, typer.Option(metavar="JSON", help="Its data: JSON, @file, or - for stdin.", show_default="{}")
    ] = None,
    store: Store = DEFAULT_STORE,
    address: Address = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="Wait no longer for the run to end.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run one event to its end on an engine of its own, and print the outcome."""
    from .commands import run as cli_run

    raise typer.Exit(
        cli_run.run(cli_run.RunOptions(target, event, data, store, address, timeout, as_json, _Flags.debug))
    )


@app.command(short_help="Serve pipelines over HTTP: webhooks, events, runs.")
def serve(  # noqa: PLR0917 - as above
    targets: Annotated[list[str], typer.Argument(metavar="TARGET...", help=TARGET_HELP, show_default=False)],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8484,
    store: Store = DEFAULT_STORE,
    address: Address = None,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait so long for another engine to leave the store.")
    ] = 0,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A name beside localhost that requests may be for; may be repeated."),
    ] = None,
) -> None:
    """Serve pipelines: webhooks and events come in over HTTP, runs go on until Ctrl-C and after the next start."""
    from .commands import serve as cli_serve

    hosts = tuple(allowed_host or ())
    order = cli_serve.ServeOptions(targets, host, port, store, address, _version(), _Flags.debug, wait, hosts)
    raise typer.Exit(cli_serve.serve(order))


@app.command(short_help="Say what is wrong or doubtful in a pipeline.")
def check(target: Target, as_json: AsJson = False) -> None:
    """Say what is wrong or doubtful in a pipeline's graph, before anything runs; 1 where an error is."""
    from .commands import check as cli_check

    raise typer.Exit(cli_check.check(target, as_json=as_json))


@app.command()
def graph(
    target: Target,
    form: Annotated[GraphFormat, typer.Option("--format", help="What to write.")] = GraphFormat.MERMAID,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there instead of stdout.")
    ] = None,
) -> None:
    """Write a pipeline's graph."""
    from .commands import check as cli_check

    raise typer.Exit(cli_check.graph(target, form.value, output))


@app.command(short_help="Show what ensue is, in two minutes.")
def demo() -> None:
    """Show what ensue is, in two minutes: webhooks come in, a pipeline runs, is killed, and loses nothing."""
    code: int = import_module("ensue.gateway.demo.main").main()
    raise typer.Exit(code)


app.command(short_help="Say how things stand, on one screen.")(status)


@runs_app.command("list")
def list_runs(  # noqa: PLR0917 - as above
    pipeline: Annotated[str | None, typer.Option(metavar="NAME", help="Only runs of this pipeline.")] = None,
    status: Annotated[list[RunStatus] | None, typer.Option(help="Only runs in this status; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="next_cursor of the page before.")] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    from .commands import runs as cli_runs

    names = [one.value for one in status or ()]
    with cli_runs.source(url, store) as runs:
        raise typer.Exit(cli_runs.list_runs(runs, pipeline, names, cursor, limit, as_json=as_json))


@runs_app.command("show")
def show_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Show a run: results, errors, and what ensued from what."""
    from .commands import runs as cli_runs

    with cli_runs.source(url, store) as runs:
        raise typer.Exit(cli_runs.show_run(runs, run_id, as_json=as_json))


@runs_app.command("watch")
def watch_run(
    run_id: Annotated[
        str | None, typer.Argument(metavar="[RUN_ID]", help="The newest where it is left out.", show_default=False)
    ] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document a line, at each change.")] = False,
) -> None:
    """Follow a run to its end; 1 where it does not complete."""
    from .commands import runs as cli_runs

    with cli_runs.source(url, store) as runs:
        raise typer.Exit(cli_runs.watch_run(runs, run_id, as_json=as_json))


@runs_app.command("cancel")
def cancel_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """End a run: nothing more of it is started, and where its steps have compensations those run."""
    from .commands import runs as cli_runs

    with cli_runs.source(url, store) as runs:
        raise typer.Exit(cli_runs.act(runs, "cancel", run_id, as_json=as_json))


@runs_app.command("retry")
def retry_run(run_id: RunId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Go on with a run that failed or was cancelled: what is done stays done."""
    from .commands import runs as cli_runs

    with cli_runs.source(url, store) as runs:
        raise typer.Exit(cli_runs.act(runs, "retry", run_id, as_json=as_json))


@runs_app.callback(invoke_without_command=True)
def _runs(context: typer.Context) -> None:
    """Runs of a served engine (--url), or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """The program."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _Flags.debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows no arrows is no reason to fail
    code = run_guarded(lambda: _invoke(words), debug=_Flags.debug)
    sys.exit(code if flushed() else FAILED)


def _invoke(words: list[str]) -> int:
    code = app(words, prog_name="ensue", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _version() -> str:
    from importlib.metadata import version

    return version("ensue")
