"""The command `ensue dead`: list, show, redrive and discard dead letters.

Rules: one dead letter is named by its id, many are selected by a filter or by `--all`. Before many are changed, the
command asks for confirmation on a terminal; elsewhere it requires `--yes`. The documents are those of the API.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..exit_codes import FAILED, OK, WrongUse

if TYPE_CHECKING:
    from rich.text import Text

    from ...schemas.dead_letters import AttemptOut, DecidedOut, LetterDetailOut, LetterOut
    from ..sources.dead_letter_filter import DeadLetterFilter
    from ..sources.operations import Operations

__all__ = ["DeadOptions", "decide", "filter_of", "list_dead", "show"]

_WIDE = 110
_ID_WIDTH = 36
_MOST_SHOWN = 500
_DONE = {"redrive": "redriven", "discard": "discarded"}


@dataclass(frozen=True, slots=True)
class DeadOptions:
    """The options of `ensue dead redrive` and `ensue dead discard`."""

    action: str
    letter_id: str | None
    filters: "DeadLetterFilter"
    everything: bool
    limit: int | None
    yes: bool
    as_json: bool
    data: str | None = None


def filter_of(  # noqa: PLR0917 - the options, in their order
    pipeline: str | None,
    step: str | None,
    kind: str | None,
    error: str | None,
    event_type: str | None,
    run_id: str | None,
    since: str | None,
    before: str | None,
) -> "DeadLetterFilter":
    """The filter of these options, with the parameter names of the API."""
    from ..times import moment_of

    after = None if since is None else _wire(moment_of(since, "--since"))
    until = None if before is None else _wire(moment_of(before, "--before"))
    filters = {
        "pipeline": pipeline,
        "step": step,
        "kind": kind,
        "error": error,
        "event_type": event_type,
        "run_id": run_id,
        "after": after,
        "before": until,
    }
    return {name: value for name, value in filters.items() if value is not None}


def list_dead(
    source: "Operations", filters: "DeadLetterFilter", state: str, cursor: str | None, limit: int, *, as_json: bool
) -> int:
    """List a page of dead letters."""
    from ..terminal.output import print_document, stderr

    page = source.dead(filters, state, cursor, limit)
    if as_json:
        print_document(page)
        return OK
    if not page.dead:
        stderr().print("no dead letters", style="dim")
        return OK
    _print_table(page.dead, is_mixed=state == "any")
    if page.next_cursor:
        stderr().print(f"next page: --cursor {page.next_cursor}", style="dim")
    return OK


def show(source: "Operations", letter_id: str, *, as_json: bool) -> int:
    """Show a dead letter with its history; with --json, its document."""
    from ..terminal.output import print_document

    letter = source.letter(letter_id)
    if as_json:
        print_document(letter)
    else:
        _print_letter(letter)
    return OK


def decide(source: "Operations", options: DeadOptions) -> int:
    """Redrive or discard one dead letter, or many."""
    _check(options)
    if options.letter_id is None:
        return _decide_many(source, options)
    if options.action == "discard":
        source.discard(options.letter_id)
        return _print_one(options, f"dead letter {options.letter_id} is discarded", {"id": options.letter_id})
    run_id = source.redrive(options.letter_id, _data(options.data))
    done = {"id": options.letter_id, "run_id": run_id}
    return _print_one(options, f"dead letter {options.letter_id} is redriven: run {run_id} continues", done)


def _check(options: DeadOptions) -> None:
    given = bool(options.filters) or options.everything
    if options.letter_id is not None and (given or options.limit is not None):
        raise WrongUse("pass the ID of one dead letter or a filter, not both")
    if options.letter_id is None and options.data is not None:
        raise WrongUse("--data needs the ID of one dead letter")
    if options.letter_id is None and not given:
        raise WrongUse(f"pass the ID of a dead letter, a filter such as --step, or --all to {options.action} all")
    if options.filters and options.everything:
        raise WrongUse("pass a filter or --all, not both")


def _decide_many(source: "Operations", options: DeadOptions) -> int:
    from ..terminal.output import print_document, stdout

    if not options.yes and not _is_confirmed(source, options):
        return OK
    decided = source.decide_all(options.action, options.filters, options.limit)
    if options.as_json:
        print_document(decided)
    else:
        stdout().print(f"{_letters(decided.decided)} {_DONE[options.action]}")
        _print_refused(decided)
    return FAILED if decided.refused else OK


def _is_confirmed(source: "Operations", options: DeadOptions) -> bool:
    from ..terminal.output import stderr

    if options.as_json or not sys.stdin.isatty():
        raise WrongUse(f"{options.action} changes many dead letters: confirm it with --yes")
    most = _MOST_SHOWN if options.limit is None else min(options.limit, _MOST_SHOWN)
    page = source.dead(options.filters, "open", None, most)
    more = "at least " if page.next_cursor and options.limit is None else ""
    if not page.dead:
        stderr().print("no dead letters", style="dim")
        return False
    stderr().print(f"{options.action.title()} {more}{_letters(len(page.dead))}? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _data(text: str | None) -> Any:
    from ..event_data import read_object

    return None if text is None else read_object(text)


def _print_one(options: DeadOptions, text: str, document: dict[str, Any]) -> int:
    from ..terminal.output import print_document, say, stdout

    if options.as_json:
        print_document(document)
    else:
        say(stdout(), text)
    return OK


def _letters(number: int) -> str:
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _print_refused(decided: "DecidedOut") -> None:
    from ..terminal.output import plain, say, stdout

    for refused in decided.refused:
        say(stdout(), f"  {refused.id} refused: {plain(refused.reason)}")


def _print_table(letters: "Sequence[LetterOut]", *, is_mixed: bool) -> None:
    from rich.text import Text

    from ..terminal.output import plain, stdout
    from ..terminal.table import print_rows
    from ..times import ago

    console = stdout()
    is_narrow = console.is_terminal and console.width < _WIDE
    names = [
        "dead letter",
        *(["state"] if is_mixed else []),
        "step",
        *([] if is_narrow else ["event", "attempts"]),
        "died",
    ]
    rows: list[list[Text]] = []
    for letter in letters:
        cells = {
            "dead letter": Text(letter.id, style="bold" if console.is_terminal else ""),
            "state": Text(letter.state),
            "step": Text(plain(f"{letter.pipeline}/{letter.step}")),
            "event": Text(plain(letter.event_type)),
            "attempts": Text(str(letter.attempts)),
            "died": Text(ago(letter.time)),
        }
        rows.append([cells[name] for name in names])
    print_rows(names, rows, [_error(letter) for letter in letters], "error")


def _error(letter: "LetterOut") -> "Text":
    from rich.text import Text

    from ..terminal.output import plain

    text = f"{letter.error}: {letter.message}" if letter.message else letter.error
    blocked = ("blocked ", "bold red") if letter.blocked else ""
    return Text.assemble(blocked, plain(" ".join(text.split())))


def _print_letter(letter: "LetterDetailOut") -> None:
    from rich.text import Text

    from ..terminal.output import compact, say, stdout
    from ..times import ago

    console = stdout()
    style = "red" if letter.state == "open" else "green"
    head = ((f"{letter.pipeline}/{letter.step}", "bold"), "  ", (letter.state, style))
    say(console, Text.assemble(*head, (f"  died {ago(letter.time)}", "dim")))
    say(console, Text(f"dead letter {letter.id}\nrun         {letter.run_id}", style="dim"))
    if letter.blocked:
        say(
            console,
            Text("a blocked compensation: the rest of its run waits until you redrive or discard it", style="bold red"),
        )
    for event in letter.events:
        say(console, Text.assemble("  ", (event.type, "bold"), " ", (compact(event.data), "dim")))
    _print_attempts(letter.history)
    if letter.trace:
        console.print(Text(_indented(letter.trace), style="dim"), soft_wrap=True)
    for row in letter.audit:
        say(
            console,
            Text.assemble(f"  {_local(row.time)} ", (row.action, "bold"), f" by {row.who} ", (row.detail, "dim")),
        )


def _print_attempts(attempts: "Sequence[AttemptOut]") -> None:
    from rich.table import Table
    from rich.text import Text

    from ..terminal.output import plain, stdout

    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for attempt in attempts:
        number = f"attempt {attempt.number}" if attempt.number else "no attempt"
        style = {"done": "green", "failed": "red", "crashed": "red"}.get(attempt.outcome, "cyan")
        error = f"{attempt.error}: {attempt.message}" if attempt.error else ""
        note = Text.assemble(plain(" ".join(error.split())), (_took(attempt), "dim"))
        table.add_row(f"  {number}", _local(attempt.started), Text(attempt.outcome, style=style), note)
    stdout().print(table)


def _took(attempt: "AttemptOut") -> str:
    from ..terminal.output import duration

    if attempt.ended is None or not attempt.kind:
        return ""
    return f"  ({attempt.kind}, after {duration((attempt.ended - attempt.started).total_seconds())})"


def _indented(trace: str) -> str:
    from ..terminal.output import plain

    return "\n".join(f"    {plain(line)}" for line in trace.rstrip().splitlines())


def _local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _wire(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
