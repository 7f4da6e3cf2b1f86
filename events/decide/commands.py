"""Commands: what the decider asks for. They are carried out after the records of the same decision are committed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from ..errors import EnsueError
from ..state.records import Entry
from ..state.rows import AuditRow, DeadLetter, Fact, LetterSettled
from ..state.run_status import Status
from ..state.state import Run
from .inputs import Accepted

__all__ = [
    "Answer",
    "CancelDeliveries",
    "Credit",
    "Decision",
    "Deliver",
    "Inquire",
    "Kill",
    "Recall",
    "RunEnded",
]

_list = cast("Callable[[], list[Any]]", list)
"""As `list[X]`, which takes six times as long to call."""


class Deliver(NamedTuple):
    """Send deliveries to a worker. An item is what `dispatch.item_of` makes."""

    worker: int
    items: list[list[Any]]


class CancelDeliveries(NamedTuple):
    """Tell a worker to stop deliveries of a run that has ended."""

    worker: int
    tokens: list[int]


class Recall(NamedTuple):
    """Tell a worker to hand back those of these deliveries that it has not begun."""

    worker: int
    tokens: list[int]


class Credit(NamedTuple):
    """Let a generator go on: its events up to an index are in the log."""

    worker: int
    token: int
    upto: int


class Inquire(NamedTuple):
    """Ask a worker whether it has these deliveries: a message may have been lost."""

    worker: int
    tokens: list[int]


class Kill(NamedTuple):
    """Kill a worker's process; `WorkerDown` must follow."""

    worker: int
    reason: str


class Answer(NamedTuple):
    """Answer a caller: with what was accepted, with None (done), or with the error."""

    reply: Any
    value: Accepted | EnsueError | None


class RunEnded(NamedTuple):
    """A run has ended; the run still has its results and errors."""

    run: Run
    status: Status


@dataclass(slots=True)
class Decision:
    """What follows from a batch of inputs: what to write in one transaction, then what to do.

    started: runs that began. changed: (run number, status, finished_us or None). seen: dedup rows, as (source,
    sender_id, digest, run_id, event_id). refused: inputs that raised, for the log. due_us: when the next timer is due.
    """

    now_us: int
    entries: list[Entry] = field(default_factory=_list)
    started: list[Run] = field(default_factory=_list)
    changed: list[tuple[int, Status, int | None]] = field(default_factory=_list)
    seen: list[tuple[str, str, bytes, bytes, bytes]] = field(default_factory=_list)
    facts: list[Fact] = field(default_factory=_list)
    dead: list[DeadLetter] = field(default_factory=_list)
    settled: list[LetterSettled] = field(default_factory=_list)
    audit: list[AuditRow] = field(default_factory=_list)
    deliver: list[Deliver] = field(default_factory=_list)
    cancel: list[CancelDeliveries] = field(default_factory=_list)
    recall: list[Recall] = field(default_factory=_list)
    credit: list[Credit] = field(default_factory=_list)
    inquire: list[Inquire] = field(default_factory=_list)
    kill: list[Kill] = field(default_factory=_list)
    answers: list[Answer] = field(default_factory=_list)
    ended: list[RunEnded] = field(default_factory=_list)
    refused: list[str] = field(default_factory=_list)
    due_us: int | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.entries or self.seen or self.changed or self.facts or self.settled or self.audit)
