"""The output of the commands: results on stdout, everything else on stderr; JSON documents or text for people.

Rules: with --json, stdout has only JSON. Text from outside (data, errors, names) is never printed as markup, and its
control characters are escaped.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ...schemas.runs import ErrorOut, EventOut, Out, RunDetailOut

__all__ = [
    "STATUS_STYLES",
    "compact",
    "duration",
    "plain",
    "print_document",
    "print_error",
    "print_errors",
    "print_outcome",
    "say",
    "status_text",
    "stderr",
    "stdout",
]

STATUS_STYLES: Mapping[str, str] = {
    "running": "cyan",
    "waiting": "blue",
    "completed": "green",
    "failed": "red",
    "cancelled": "yellow",
    "compensated": "magenta",
    "needs_migration": "yellow",
}
_UNBOUND = 1000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_PLACE = re.compile(r'File "([^"]+)", line (\d+)')


@cache
def stdout() -> "Console":
    """The console for results. In a file or a pipe no line is cut."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _UNBOUND
    return console


@cache
def stderr() -> "Console":
    """The console for everything else."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, markup=False)


def say(console: "Console", text: "Text | str") -> None:
    """Print a line; it is wrapped between words on a terminal, and never elsewhere."""
    console.print(text, soft_wrap=not console.is_terminal)


def plain(text: str) -> str:
    """Text from outside, with its control characters escaped."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text)


def compact(data: Any) -> str:
    """Data as JSON on one line."""
    return plain(json.dumps(data, ensure_ascii=False, default=str))


def duration(seconds: float) -> str:
    """A duration for people, such as `120 ms`, `2.5 s` or `3 min 05 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def status_text(status: str) -> "Text":
    """A run's status in its colour."""
    from rich.text import Text

    return Text(status, style=STATUS_STYLES.get(status, ""))


def print_document(document: "Out | Mapping[str, Any]", *, one_line: bool = False) -> None:
    """Print a document as JSON on stdout, indented or on one line."""
    if isinstance(document, Mapping):
        text = json.dumps(document, ensure_ascii=False, indent=None if one_line else 2)
    else:
        text = document.model_dump_json(indent=None if one_line else 2)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_outcome(run: "RunDetailOut") -> None:
    """Print the outcome of a run: its results and errors, and its status if no picture above shows it."""
    from rich.text import Text

    console = stdout()
    if console.is_terminal and stderr().is_terminal:
        console.print()
    else:
        took = "" if run.duration_ms is None else f" in {duration(run.duration_ms / 1000)}"
        say(console, Text.assemble(status_text(run.status), took, f"  run {run.run_id}"))
    for event in run.events:
        print_event(event)
    print_errors(run)


def print_errors(run: "RunDetailOut") -> None:
    """Print the errors of a run, and how to settle its blocked compensations."""
    from rich.text import Text

    for error in run.errors:
        print_error(error)
    for blocked in run.blocked:
        hint = f"  {blocked.step} is blocked: settle it with ensue dead redrive|discard {blocked.letter_id}"
        say(stdout(), Text(hint, style="bold magenta"))


def print_event(event: "EventOut") -> None:
    """Print a result event, on one line if there is room."""
    from rich.text import Text

    console = stdout()
    line = f"  {event.type} {compact(event.data)}"
    if len(line) <= console.width or not console.is_terminal:
        say(console, Text.assemble("  ", (event.type, "bold"), " ", compact(event.data)))
        return
    console.print(Text.assemble("  ", (event.type, "bold")))
    _print_fields(cast("Mapping[str, Any]", event.data) if isinstance(event.data, dict) else {"data": event.data})


def _print_fields(fields: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(f"    {plain(name)}", plain(value) if isinstance(value, str) else compact(value))
    stdout().print(table)


def print_error(error: "ErrorOut") -> None:
    """Print the error of a step: the error, its kind, the number of attempts, and the place."""
    from rich.text import Text

    what = f"{error.error}: {error.message}" if error.message else error.error
    tries = f"{error.attempts} attempt{'' if error.attempts == 1 else 's'}"
    place = place_of(error.trace)
    step = f"{error.step} " if error.step else ""
    text = Text.assemble("  ", (step, "bold red"), plain(" ".join(what.split())))
    heard = ", handled" if error.handled else ""
    text.append(f"  ({error.kind}, {tries}{heard}{', ' + place if place else ''})", style="dim")
    say(stdout(), text)


def place_of(trace: str) -> str:
    """The last place in a traceback, as file:line."""
    places: Sequence[tuple[str, str]] = _PLACE.findall(trace)
    return ":".join(places[-1]) if places else ""
