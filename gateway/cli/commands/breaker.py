"""The command `ensue breaker`: list, open and close circuit breakers."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from ....events.policies.breaker import MOST_OPEN_SECONDS
from ..exit_codes import OK, WrongUse

if TYPE_CHECKING:
    from rich.text import Text

    from ...schemas.status import BreakerOut
    from ..sources.operations import Operations

__all__ = ["force", "list_breakers", "print_breakers"]

_MINUTE = 60
_STYLES = {"closed": "green", "half_open": "yellow", "open": "red"}


def list_breakers(source: "Operations", *, as_json: bool) -> int:
    """List all breakers."""
    from ..terminal.output import print_document, stderr

    document = source.breakers()
    if as_json:
        print_document(document)
    elif document.breakers:
        print_breakers(document.breakers)
    else:
        stderr().print("no breakers", style="dim")
    return OK


def force(source: "Operations", name: str, duration: str | None, *, opens: bool, as_json: bool) -> int:
    """Open or close a breaker."""
    from rich.text import Text

    from ..terminal.output import print_document, say, stdout
    from ..times import seconds_of

    seconds = None if duration is None else seconds_of(duration, "--for")
    if seconds is not None and seconds > MOST_OPEN_SECONDS:
        raise WrongUse(
            f"invalid --for {duration!r}: at most a year; omit --for to keep the breaker open until it is closed"
        )
    breaker = source.force(name, opens=opens, seconds=seconds)
    if as_json:
        print_document(breaker)
    else:
        say(stdout(), Text.assemble("breaker ", (breaker.name, "bold"), " is ", _status(breaker)))
    return OK


def print_breakers(breakers: "Sequence[BreakerOut]") -> None:
    """Print a table of breakers."""
    from rich.text import Text

    from ..terminal.output import plain
    from ..terminal.table import print_rows
    from ..times import ago

    rows: list[list[Text]] = []
    for one in breakers:
        since = "" if one.since is None else ago(one.since)
        failed = f"{one.failures} of {one.calls}" if one.calls else ""
        waiting = str(one.waiting) if one.waiting else ""
        rows.append([Text(plain(one.name)), _status(one), Text(since), Text(failed), Text(waiting)])
    notes = [Text(plain(one.reason), style="dim") for one in breakers]
    print_rows(("breaker", "status", "since", "failed", "waiting"), rows, notes, "reason")


def _status(breaker: "BreakerOut") -> "Text":
    from datetime import UTC, datetime

    from rich.text import Text

    from ..terminal.output import duration

    text = Text(breaker.status.replace("_", "-"), style=_STYLES[breaker.status])
    if breaker.status == "open" and breaker.until is not None:
        left = (breaker.until - datetime.now(UTC)).total_seconds()
        rest = (
            f"{duration(ceil(left) if left > _MINUTE else left)} left" if left > 0 else "the next delivery is a probe"
        )
        text.append(f", {'forced, ' if breaker.forced else ''}{rest}", style="dim")
    elif breaker.forced:
        text.append(", forced, until closed", style="dim")
    return text
