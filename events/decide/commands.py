"""Commands: all that the core can ask for. They are carried out only after the records beside them are committed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from ..errors import EnsueError
from ..state.records import Entry
from ..state.run_status import Status
from ..state.state import RecordedError, Run
from .inputs import Accepted

__all__ = [
    "Answer",
    "Audited",
    "CancelDeliveries",
    "Credit",
    "Decision",
    "Deliver",
    "Died",
    "Inquire",
    "Kill",
    "Recall",
    "Remembered",
    "RunEnded",
    "Settled",
]

_list = cast("Callable[[], list[Any]]", list)
"""Made many times a turn; `list[X]()` makes the same and takes six times as long."""


class Deliver(NamedTuple):
    """Send deliveries to a worker. An item is what `dispatch.item_of` makes."""

    worker: int
    items: list[list[Any]]


class CancelDeliveries(NamedTuple):
    """Tell a worker to stop working on deliveries of a run that is over."""

    worker: int
    tokens: list[int]


class Recall(NamedTuple):
    """Tell a worker to hand back those of these deliveries that it has not begun."""

    worker: int
    tokens: list[int]


class Credit(NamedTuple):
    """Tell a worker that a generator's events up to an index are in the log and it may go on."""

    worker: int
    token: int
    upto: int


class Inquire(NamedTuple):
    """Ask a worker about deliveries that it should hold: a message may have been lost."""

    worker: int
    tokens: list[int]


class Kill(NamedTuple):
    """End a worker's process for certain; `WorkerDown` must follow."""

    worker: int
    reason: str


class Answer(NamedTuple):
    """Answer a caller: with what was accepted, with nothing (done), or with the error."""

    reply: Any
    value: Accepted | EnsueError | None


class RunEnded(NamedTuple):
    """A run is over; the run still holds its results and errors."""

    run: Run
    status: Status


class Remembered(NamedTuple):
    """Something to keep beside the runs; body None forgets it."""

    kind: str
    name: str
    body: bytes | None


class Died(NamedTuple):
    """A delivery that became a dead letter. blocked: a compensation, whose run waits for the operator."""

    letter_id: bytes
    run: Run
    delivery: int
    event_type: str
    event_id: bytes
    error: RecordedError
    time_us: int
    blocked: bool


class Settled(NamedTuple):
    """A dead letter that is `redriven` or `discarded`."""

    letter_id: bytes
    state: str


class Audited(NamedTuple):
    """What an operator did, to what."""

    who: str
    action: str
    subject: str
    detail: str = ""


@dataclass(slots=True)
class Decision:
    """What follows from a batch of inputs: what to write in one transaction, then what to do.

    started: (run number, run). changed: (run number, status, finished_us or None). seen: emits to remember as
    (source, sender_id, digest, run_id, event_id). due_us: when a timer wants the loop again.
    """

    now_us: int
    entries: list[Entry] = field(default_factory=_list)
    started: list[Run] = field(default_factory=_list)
    changed: list[tuple[int, Status, int | None]] = field(default_factory=_list)
    seen: list[tuple[str, str, bytes, bytes, bytes]] = field(default_factory=_list)
    facts: list[Remembered] = field(default_factory=_list)
    dead: list[Died] = field(default_factory=_list)
    settled: list[Settled] = field(default_factory=_list)
    audit: list[Audited] = field(default_factory=_list)
    deliver: list[Deliver] = field(default_factory=_list)
    cancel: list[CancelDeliveries] = field(default_factory=_list)
    recall: list[Recall] = field(default_factory=_list)
    credit: list[Credit] = field(default_factory=_list)
    inquire: list[Inquire] = field(default_factory=_list)
    kill: list[Kill] = field(default_factory=_list)
    answers: list[Answer] = field(default_factory=_list)
    ended: list[RunEnded] = field(default_factory=_list)
    due_us: int | None = None

    @property
    def writes(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.entries or self.seen or self.changed or self.facts or self.settled or self.audit)
