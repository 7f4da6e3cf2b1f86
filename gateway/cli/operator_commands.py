"""The commands of an operator and their options: dead letters, breakers, status and pipelines.

Rules: those of `main.py`.
"""

from enum import StrEnum
from typing import Annotated

import typer

from .options import AsJson, OptionalStore, Url

__all__ = ["FailureClass", "breakers_app", "dead_app", "pipelines_app", "status"]

dead_app = typer.Typer(rich_markup_mode=None)
breakers_app = typer.Typer(rich_markup_mode=None)
pipelines_app = typer.Typer(rich_markup_mode=None)


class LetterStateOption(StrEnum):
    """The values of `ensue dead list --state`."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"
    ANY = "any"


class FailureClass(StrEnum):
    """The values of --kind: those of `FailureKind`, repeated here because importing it would slow down the help."""

    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    PERMANENT = "permanent"
    RESOURCE = "resource"
    TIMEOUT = "timeout"


_TIME = "90s, 30m, 2h or 7d ago, or a time such as 2026-05-04T09:00Z."
_KINDS = ", ".join(kind.value for kind in FailureClass)
_STATES = ", ".join(state.value for state in LetterStateOption)
LetterId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
OptionalLetterId = Annotated[
    str | None,
    typer.Argument(metavar="ID", help="One dead letter; omit it to select many by options.", show_default=False),
]
InPipeline = Annotated[
    str | None, typer.Option("--pipeline", metavar="NAME", help="Only dead letters of this pipeline.")
]
Step = Annotated[str | None, typer.Option(metavar="NAME", help="Only dead letters of this step.")]
Kind = Annotated[FailureClass | None, typer.Option(metavar="KIND", help=f"Only this kind of failure: {_KINDS}.")]
Error = Annotated[str | None, typer.Option(metavar="NAME", help="Only this exception type.")]
EventType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only events of this type.")]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Only dead letters of this run.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"Only dead letters since this time: {_TIME}")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Only dead letters before this time.")]
All = Annotated[bool, typer.Option("--all", help="Select all open dead letters.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
AtMost = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Only the N newest; they are handled oldest first.")
]
BreakerName = Annotated[
    str, typer.Argument(metavar="NAME", help="PIPELINE/STEP, or the name of a dependency.", show_default=False)
]


@dead_app.callback(invoke_without_command=True)
def _dead(context: typer.Context) -> None:
    """Dead letters of a served engine (--url) or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@breakers_app.callback(invoke_without_command=True)
def _breakers(context: typer.Context) -> None:
    """Circuit breakers of a served engine (--url) or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@pipelines_app.callback(invoke_without_command=True)
def _pipelines(context: typer.Context) -> None:
    """Pipelines of a served engine (--url)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@dead_app.command("list")
def list_dead(  # noqa: PLR0917 - options, which are given by name
    pipeline: InPipeline = None,
    step: Step = None,
    kind: Kind = None,
    error: Error = None,
    event_type: EventType = None,
    run: OfRun = None,
    since: Since = None,
    before: Before = None,
    state: Annotated[
        LetterStateOption, typer.Option(metavar="STATE", help=f"Only this state: {_STATES}.")
    ] = LetterStateOption.OPEN,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Show at most N.")] = 20,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="next_cursor from the previous page.")] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    from .commands import dead
    from .sources.operations import operations

    filters = dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    with operations(url, store) as source:
        raise typer.Exit(dead.list_dead(source, filters, state.value, cursor, limit, as_json=as_json))


@dead_app.command("show", short_help="Show a dead letter with its events and attempts.")
def show_letter(letter_id: LetterId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Show a dead letter: its events, its error with the traceback, its attempts and its audit rows."""
    from .commands import dead
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(dead.show(source, letter_id, as_json=as_json))


@dead_app.command("redrive", short_help="Run one dead letter or many again.")
def redrive(  # noqa: PLR0913, PLR0917 - as above
    letter_id: OptionalLetterId = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="Replace the data of its event: JSON, @FILE, or - for stdin.", show_default=False
        ),
    ] = None,
    pipeline: InPipeline = None,
    step: Step = None,
    kind: Kind = None,
    error: Error = None,
    event_type: EventType = None,
    run: OfRun = None,
    since: Since = None,
    before: Before = None,
    everything: All = False,
    limit: AtMost = None,
    yes: Yes = False,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """Run a dead letter again, with its own or with other data; or many, selected by options."""
    from .commands import dead
    from .sources.operations import operations

    filters = dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    options = dead.DeadOptions("redrive", letter_id, filters, everything, limit, yes, as_json, data)
    with operations(url, store) as source:
        raise typer.Exit(dead.decide(source, options))


@dead_app.command("discard", short_help="Discard one dead letter or many.")
def discard(  # noqa: PLR0913, PLR0917 - as above
    letter_id: OptionalLetterId = None,
    pipeline: InPipeline = None,
    step: Step = None,
    kind: Kind = None,
    error: Error = None,
    event_type: EventType = None,
    run: OfRun = None,
    since: Since = None,
    before: Before = None,
    everything: All = False,
    limit: AtMost = None,
    yes: Yes = False,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """Discard a dead letter, or many, selected by options. They are kept in the state discarded."""
    from .commands import dead
    from .sources.operations import operations

    filters = dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    options = dead.DeadOptions("discard", letter_id, filters, everything, limit, yes, as_json)
    with operations(url, store) as source:
        raise typer.Exit(dead.decide(source, options))


@breakers_app.command("list")
def list_breakers(url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """List circuit breakers."""
    from .commands import breaker
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(breaker.list_breakers(source, as_json=as_json))


@breakers_app.command("open")
def open_breaker(
    name: BreakerName,
    duration: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", help="Open it for this time, such as 90s, 10m or 2h; otherwise until it is closed."
        ),
    ] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """Open a breaker: deliveries wait and lose no attempt."""
    from .commands import breaker
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(breaker.force(source, name, duration, opens=True, as_json=as_json))


@breakers_app.command("close")
def close_breaker(name: BreakerName, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Close a breaker: deliveries go through again."""
    from .commands import breaker
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(breaker.force(source, name, None, opens=False, as_json=as_json))


@pipelines_app.command("restart")
def restart_pipeline(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], url: Url = None, as_json: AsJson = False
) -> None:
    """Restart a pipeline, also one that has failed, and reset its restart counters."""
    from .commands.status import restart
    from .sources.operations import operations

    with operations(url, None) as source:
        raise typer.Exit(restart(source, name, as_json=as_json))


def status(url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Show the engine, the supervision tree, breakers that are not closed, dead letters and runs."""
    from .commands.status import show
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(show(source, as_json=as_json))
