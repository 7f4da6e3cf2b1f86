"""Inputs: a closed union of what a decider can be told, as plain data.

Rules: an input holds no object from outside, except `reply`, which the decider hands back untouched.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..state.records import Record
from ..state.rows import Fact

__all__ = [
    "Accepted",
    "Announce",
    "Audit",
    "Cancel",
    "CancelUnloaded",
    "Completed",
    "Completion",
    "CompletionKind",
    "Emit",
    "Force",
    "Input",
    "Missing",
    "PriorDelivery",
    "Redrive",
    "Revive",
    "StepBroken",
    "WorkerDown",
    "WorkerUp",
]

Completion = list[Any]


class CompletionKind:
    """What a worker reports about a delivery: the first element of a completion.

    DONE    [op, token, duration_us, outputs, as a list, how many events in all (of a generator)]
    STREAM  [op, token, index of the first, outputs]
    FAIL    [op, token, kind, error, message, trace, wait in seconds or None to give up, whether it feeds the breaker]
    STUCK   [op, token]   a step that cannot be interrupted ran out of time: end this process
    RELEASE [op, token]   handed back without an attempt
    An output is [type, version, data, key].
    """

    DONE = 0
    STREAM = 1
    FAIL = 2
    STUCK = 3
    RELEASE = 4


class PriorDelivery(NamedTuple):
    """An earlier delivery of the same sender's id: the digest of its body, and the answer that it got."""

    digest: bytes
    event_id: bytes
    run_id: bytes


@dataclass(slots=True)
class Emit:
    """An event from outside: it starts a run. known: the earlier delivery of this (source, sender_id) in the log."""

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
    """Completions of a worker, in bulk."""

    worker: int
    items: list[Completion]


class WorkerUp(NamedTuple):
    """A worker is ready for deliveries of a step; `concurrency` is how many it works on at once."""

    worker: int
    pipeline: str
    step: str
    concurrency: int


class WorkerDown(NamedTuple):
    """A worker's process ended. message: how. expected: the engine ended it."""

    worker: int
    message: str
    expected: bool = False


class StepBroken(NamedTuple):
    """Several workers of a step in a row did not start: its deliveries fail until one starts."""

    pipeline: str
    step: str
    message: str


class Cancel(NamedTuple):
    """Cancel a run."""

    run_id: bytes
    reply: Any = None
    who: str = "python"


class CancelUnloaded(NamedTuple):
    """Cancel a run whose pipeline version is not loaded: it ends at once, without its compensations."""

    run_id: bytes
    number: int
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
    """Deliveries that a worker was asked about and does not know: a message was lost."""

    worker: int
    tokens: list[int]


class Announce(NamedTuple):
    """A notice of the engine to pipelines (see `announcement`). about: its steps, as (pipeline, step)."""

    type: str
    version: int
    data: bytes
    about: frozenset[tuple[str, str]]


class Audit(NamedTuple):
    """An operator did something that has no other trace in the log."""

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
    """An operator decides on a dead letter: redrive it, with its own event or another one, or discard it.

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
    | CancelUnloaded
    | Revive
    | Missing
    | Announce
    | Fact
    | Audit
    | Force
    | Redrive
)


class Accepted(NamedTuple):
    """The answer to an accepted event. duplicate: the sender had sent it before."""

    event_id: bytes
    run_id: bytes
    duplicate: bool
