"""Inputs: all that the loop can be told. A closed union of plain data; every decision carries its time.

Rules: an input never holds an object of the outside, but for `reply`, which the core hands back untouched.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..state.records import Record

__all__ = [
    "Accepted",
    "Announce",
    "Audit",
    "Cancel",
    "Completed",
    "Completion",
    "CompletionKind",
    "Emit",
    "Force",
    "Input",
    "Missing",
    "Note",
    "PriorDelivery",
    "Redrive",
    "Revive",
    "StepBroken",
    "WorkerDown",
    "WorkerUp",
]

Completion = list[Any]


class CompletionKind:
    """What a worker says of a delivery: the first element of a completion.

    DONE    [op, token, duration_us, outputs, as a list, how many events in all (of a generator)]
    STREAM  [op, token, index of the first, outputs]
    FAIL    [op, token, kind, error, message, trace, wait in seconds or None to give up, whether it feeds the breaker]
    STUCK   [op, token]   a step that cannot be interrupted ran out of time: end this process
    RELEASE [op, token]   handed back unrun
    An output is [type, version, data, key].
    """

    DONE = 0
    STREAM = 1
    FAIL = 2
    STUCK = 3
    RELEASE = 4


class PriorDelivery(NamedTuple):
    """What the log knows of a sender's id: the digest of the body that came with it, and the answer it got."""

    digest: bytes
    event_id: bytes
    run_id: bytes


@dataclass(slots=True)
class Emit:
    """An event from outside: it starts a run. `known` is the log's answer to (source, sender_id)."""

    pipeline: str
    run_id: bytes
    event_id: bytes
    type: str
    version: int
    data: bytes
    key: str | None = None
    source: str = ""
    sender_id: str | None = None
    digest: bytes = b""
    known: PriorDelivery | None = None
    reply: Any = None


class Completed(NamedTuple):
    """What a worker has to say, in bulk."""

    worker: int
    items: list[Completion]


class WorkerUp(NamedTuple):
    """A worker is ready for deliveries of a step; `concurrency` is how many it works on at once."""

    worker: int
    pipeline: str
    step: str
    concurrency: int


class WorkerDown(NamedTuple):
    """A worker's process is gone. `message` says how it died; `expected` where we ended it ourselves."""

    worker: int
    message: str
    expected: bool = False


class StepBroken(NamedTuple):
    """Worker after worker of a step did not start: what waits for it fails, until one does."""

    pipeline: str
    step: str
    message: str


class Cancel(NamedTuple):
    """End a run: nothing more of it is started."""

    run_id: bytes
    reply: Any = None
    who: str = "python"


@dataclass(slots=True)
class Revive:
    """Retry a run that failed or was cancelled.

    entries: its records, oldest first, by entry, as of the log's end at `as_of`. letters: its open dead letters.
    discarded: those of its deliveries whose letters were discarded.
    """

    run_id: bytes
    number: int
    entries: list[list[Record]] = field(default_factory=list[list[Record]])
    reply: Any = None
    who: str = "python"
    as_of: int = 0
    letters: frozenset[int] = frozenset()
    discarded: frozenset[int] = frozenset()


class Missing(NamedTuple):
    """Deliveries that a worker was asked about and neither holds nor has answered: a message was lost on the way."""

    worker: int
    tokens: list[int]


class Announce(NamedTuple):
    """Something the engine did that pipelines can hear (`announcement` makes one). about: (pipeline, step) each."""

    type: str
    version: int
    data: bytes
    about: frozenset[tuple[str, str]]


class Note(NamedTuple):
    """Something to remember beside the runs, written with the next commit; body None forgets it."""

    kind: str
    name: str
    body: bytes | None


class Audit(NamedTuple):
    """An operator did something that leaves no other trace in the log."""

    who: str
    action: str
    subject: str
    detail: str = ""


class Force(NamedTuple):
    """An operator opens or closes a breaker. seconds: how long it stays open, None until it is closed."""

    breaker: str
    opens: bool
    who: str
    seconds: float | None = None
    reply: Any = None


@dataclass(slots=True)
class Redrive:
    """An operator decides on a dead letter: run it again, perhaps with another event in its place, or let it go.

    entries: the records of its run, as of the log's end at `as_of`. edited: [event id, type, version, data, key].
    blocked: the letter is a compensation's. discarded: deliveries of the run whose letters were discarded.
    """

    run_id: bytes
    number: int
    delivery: int
    who: str
    discard: bool = False
    edited: list[Any] | None = None
    entries: list[list[Record]] = field(default_factory=list[list[Record]])
    reply: Any = None
    as_of: int = 0
    blocked: bool = False
    discarded: frozenset[int] = frozenset()


Input = (
    Emit
    | Completed
    | WorkerUp
    | WorkerDown
    | StepBroken
    | Cancel
    | Revive
    | Missing
    | Announce
    | Note
    | Audit
    | Force
    | Redrive
)


class Accepted(NamedTuple):
    """The answer to an accepted event: its id, its run's id, and whether the sender had sent it before."""

    event_id: bytes
    run_id: bytes
    duplicate: bool
