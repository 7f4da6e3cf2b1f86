"""The commands of an operator and their options: dead letters, breakers, status, pipelines.

Rules: those of `cli.py`. What they do is in `cli_dead`, `cli_breakers` and `cli_status`.
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
    """What a list of dead letters can be narrowed to."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"
    ANY = "any"


class FailureClass(StrEnum):
    """What a failure can be (`events.failure.FailureKind`, which would cost a word of help its import)."""

    TRANSIENT = "transient"
    UNKNOWN = "unknown"
    PERMANENT = "permanent"
    RESOURCE = "resource"
    TIMEOUT = "timeout"


_TIME = "Such as 90s, 30m, 2h, 7d (ago), or 2026-05-04T09:00Z."
LetterId = Annotated[str, typer.Argument(metavar="ID", show_default=False)]
OptionalLetterId = Annotated[
    str | None, typer.Argument(metavar="ID", help="One letter; without it those of the filter.", show_default=False)
]
InPipeline = Annotated[str | None, typer.Option("--pipeline", metavar="NAME", help="Only of this pipeline.")]
Step = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this step.")]
Kind = Annotated[FailureClass | None, typer.Option(help="Only failures of this kind.")]
Error = Annotated[str | None, typer.Option(metavar="NAME", help="Only this type of exception.")]
EventType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only of events of this type.")]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN_ID", help="Only of this run.")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help=f"Only those that died since. {_TIME}")]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Only those that died before.")]
All = Annotated[bool, typer.Option("--all", help="All that are open.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AtMost = Annotated[
    int | None, typer.Option("--limit", min=1, help="At most so many: the newest; they are decided on oldest first.")
]
BreakerName = Annotated[
    str, typer.Argument(metavar="NAME", help="PIPELINE/STEP, or that of a dependency.", show_default=False)
]


@dead_app.callback(invoke_without_command=True)
def _dead(context: typer.Context) -> None:
    """Dead letters of a served engine (--url), or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@breakers_app.callback(invoke_without_command=True)
def _breakers(context: typer.Context) -> None:
    """Circuit breakers of a served engine (--url), or in a store (--store)."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@pipelines_app.callback(invoke_without_command=True)
def _pipelines(context: typer.Context) -> None:
    """Pipelines of a served engine."""
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
    state: Annotated[LetterStateOption, typer.Option(help="Settled ones are kept too.")] = LetterStateOption.OPEN,
    limit: Annotated[int, typer.Option(min=1, max=500, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="next_cursor of the page before.")] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    from .commands import dead as cli_dead
    from .sources.operations import operations

    words = cli_dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    with operations(url, store) as source:
        raise typer.Exit(cli_dead.list_dead(source, words, state.value, cursor, limit, as_json=as_json))


@dead_app.command("show")
def show_letter(letter_id: LetterId, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Show a dead letter: its events, its error with the trace, its attempts, what was decided."""
    from .commands import dead as cli_dead
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(cli_dead.show(source, letter_id, as_json=as_json))


@dead_app.command("redrive")
def redrive(  # noqa: PLR0913, PLR0917 - as above
    letter_id: OptionalLetterId = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Other data for its event: JSON, @file, or - for stdin.", show_default=False),
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
    """Run a dead letter again, as it is or with other data; or many, by a filter."""
    from .commands import dead as cli_dead
    from .sources.operations import operations

    words = cli_dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    order = cli_dead.DeadOptions("redrive", letter_id, words, everything, limit, yes, as_json, data)
    with operations(url, store) as source:
        raise typer.Exit(cli_dead.decide(source, order))


@dead_app.command("discard")
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
    """Let a dead letter go; or many, by a filter. They are kept, as discarded."""
    from .commands import dead as cli_dead
    from .sources.operations import operations

    words = cli_dead.filter_of(pipeline, step, kind, error, event_type, run, since, before)
    order = cli_dead.DeadOptions("discard", letter_id, words, everything, limit, yes, as_json)
    with operations(url, store) as source:
        raise typer.Exit(cli_dead.decide(source, order))


@breakers_app.command("list")
def list_breakers(url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """List circuit breakers."""
    from .commands import breaker as cli_breakers
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(cli_breakers.list_breakers(source, as_json=as_json))


@breakers_app.command("open")
def open_breaker(
    name: BreakerName,
    lasting: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Such as 90s, 10m, 2h; without it until it is closed.")
    ] = None,
    url: Url = None,
    store: OptionalStore = None,
    as_json: AsJson = False,
) -> None:
    """Open a breaker: nothing is called; what waits loses no attempt."""
    from .commands import breaker as cli_breakers
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(cli_breakers.force(source, name, lasting, opens=True, as_json=as_json))


@breakers_app.command("close")
def close_breaker(name: BreakerName, url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Close a breaker: calls go through again."""
    from .commands import breaker as cli_breakers
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(cli_breakers.force(source, name, None, opens=False, as_json=as_json))


@pipelines_app.command("restart")
def restart_pipeline(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)], url: Url = None, as_json: AsJson = False
) -> None:
    """Begin anew with a pipeline that was given up."""
    from .commands import status as cli_status
    from .sources.operations import operations

    with operations(url, None) as source:
        raise typer.Exit(cli_status.restart(source, name, as_json=as_json))


def status(url: Url = None, store: OptionalStore = None, as_json: AsJson = False) -> None:
    """Say how things stand: engine, supervision, breakers that are not closed, dead letters, runs."""
    from .commands import status as cli_status
    from .sources.operations import operations

    with operations(url, store) as source:
        raise typer.Exit(cli_status.show(source, as_json=as_json))
