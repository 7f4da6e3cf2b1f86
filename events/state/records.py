"""Log records: the types of what the log says happened, and how they are packed and parsed.

Rules: a record is a fact in the past tense. On disk it is a msgpack list that opens with its kind; the fields follow in
the order of its type. A kind is never removed and its number never used again. A kind grows at its end: a field that
was added later has a default, and a reader skips what trails behind the fields that it knows. An entry of the log holds
the records that one commit wrote for one run, in order; the offset of a record is the entry's offset plus its place in
the entry. Times are microseconds since the epoch of Unix. A delivery is numbered within its run from 1, in the order in
which the transitions create them.

`new_records` makes the records that a decision writes, `apply` holds the transition of each kind.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple, cast

from ..errors import CodecError
from ..model.codec import MAX_MESSAGE_BYTES, pack, unpack

__all__ = [
    "FAILURE_INDEX",
    "MAX_ENTRY_BYTES",
    "AttemptRecord",
    "CancellingRecord",
    "CompensatingRecord",
    "CrashedRecord",
    "DoneRecord",
    "EndedRecord",
    "Entry",
    "EventRecord",
    "FailedRecord",
    "NewRecord",
    "Record",
    "RecordKind",
    "RedrivenRecord",
    "ReleasedRecord",
    "RevivedRecord",
    "RunRecord",
    "SettledRecord",
    "UnknownRecord",
    "pack_records",
    "unpack_records",
]

FAILURE_INDEX = -1
"""The index of a `StepFailed` among the events of its delivery."""
MAX_ENTRY_BYTES = MAX_MESSAGE_BYTES // 4
"""Records of one run in one commit are cut into entries of about this size, so that every entry can be read back."""


class RecordKind(IntEnum):
    """The kind of a record: its first field on disk."""

    RUN = 0
    EVENT = 1
    ATTEMPT = 2
    DONE = 3
    FAILED = 4
    RELEASED = 5
    CRASHED = 6
    ENDED = 7
    REVIVED = 8
    CANCELLING = 9
    COMPENSATING = 10
    REDRIVEN = 11
    SETTLED = 12


class RunRecord(NamedTuple):
    """A run began: the first record of a run."""

    kind: int
    run_id: bytes
    pipeline: str
    version: str
    """The version of the pipeline."""
    source: str
    """Who sent the trigger."""
    sender_id: str | None
    """The sender's own id of the trigger."""


class EventRecord(NamedTuple):
    """An event: the trigger of the run, or one that a delivery emitted."""

    kind: int
    event_id: bytes
    type: str
    version: int
    data: bytes
    """The fields, packed."""
    key: str | None
    cause: bytes
    """The id of the event that it came of; empty for a trigger."""
    delivery: int
    """The delivery that emitted it; 0: it came from outside."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a record
    """Its place among the events of its delivery; `FAILURE_INDEX`: the `StepFailed` about the delivery."""
    time_us: int
    many: bool = False
    """Whether its step returns a list or yields."""


class AttemptRecord(NamedTuple):
    """An attempt of a delivery began."""

    kind: int
    delivery: int
    step: str
    attempt: int
    time_us: int
    event_ids: list[bytes]
    """The events that the delivery is made of."""


class DoneRecord(NamedTuple):
    """A delivery is done."""

    kind: int
    delivery: int
    attempt: int
    emitted: int
    """How many events it emitted, over all attempts."""
    time_us: int
    duration_us: int
    many: bool = False
    """Whether its step returns a list or yields."""


class FailedRecord(NamedTuple):
    """An attempt failed."""

    kind: int
    delivery: int
    attempt: int
    failure_kind: str
    error: str
    """The type of the exception."""
    message: str
    trace: str
    time_us: int
    retry_us: int | None
    """When the next attempt is due; None: the step gave up."""
    step: str = ""
    handled: bool = False
    """Whether a step of the pipeline handles the failure."""


class ReleasedRecord(NamedTuple):
    """A delivery was handed back without a result; the attempt does not count."""

    kind: int
    delivery: int
    attempt: int
    time_us: int


class CrashedRecord(NamedTuple):
    """The worker's process ended during an attempt."""

    kind: int
    delivery: int
    attempt: int
    message: str
    time_us: int
    retry_us: int | None
    """When the next attempt is due; views read None as a step that gave up, and no version has written it."""


class EndedRecord(NamedTuple):
    """A run ended."""

    kind: int
    status: int
    """A `Status`."""
    time_us: int


class RevivedRecord(NamedTuple):
    """An operator retried a run that had ended."""

    kind: int
    time_us: int
    discarded: list[int] = []  # noqa: RUF012 - as on disk, and never changed
    """Deliveries that an operator had discarded: they stay failed."""


class CancellingRecord(NamedTuple):
    """An operator cancelled a run that has compensations or attempts to wait for."""

    kind: int
    time_us: int
    who: str


class CompensatingRecord(NamedTuple):
    """The compensations of a run began, the newest first."""

    kind: int
    time_us: int


class RedrivenRecord(NamedTuple):
    """An operator redrove a dead letter. `event_id` to `key` are the replacement event; None: there is none."""

    kind: int
    delivery: int
    time_us: int
    who: str
    event_id: bytes | None
    type: str | None
    version: int | None
    data: bytes | None
    key: str | None
    replaced: bytes | None = None
    """The id of the event that the replacement takes the place of."""
    discarded: list[int] = []  # noqa: RUF012 - as on disk, and never changed
    """Deliveries that an operator had discarded: they stay failed."""


class SettledRecord(NamedTuple):
    """An operator discarded a dead letter of a live run; a blocked compensation counts as done by that."""

    kind: int
    delivery: int
    time_us: int
    who: str


class UnknownRecord(NamedTuple):
    """A record of a kind that this version does not know. Views skip it; a run that has one cannot be replayed."""

    kind: int
    fields: tuple[Any, ...]


Record = (
    RunRecord
    | EventRecord
    | AttemptRecord
    | DoneRecord
    | FailedRecord
    | ReleasedRecord
    | CrashedRecord
    | EndedRecord
    | RevivedRecord
    | CancellingRecord
    | CompensatingRecord
    | RedrivenRecord
    | SettledRecord
    | UnknownRecord
)
"""A record as it is read."""
NewRecord = tuple[Any, ...]
"""A record that is being written: the fields of its type, in their order (`new_records`)."""

_TYPES: dict[int, tuple[Any, int]] = {
    kind: (type_, len(type_._fields))
    for kind, type_ in (
        (RecordKind.RUN, RunRecord),
        (RecordKind.EVENT, EventRecord),
        (RecordKind.ATTEMPT, AttemptRecord),
        (RecordKind.DONE, DoneRecord),
        (RecordKind.FAILED, FailedRecord),
        (RecordKind.RELEASED, ReleasedRecord),
        (RecordKind.CRASHED, CrashedRecord),
        (RecordKind.ENDED, EndedRecord),
        (RecordKind.REVIVED, RevivedRecord),
        (RecordKind.CANCELLING, CancellingRecord),
        (RecordKind.COMPENSATING, CompensatingRecord),
        (RecordKind.REDRIVEN, RedrivenRecord),
        (RecordKind.SETTLED, SettledRecord),
    )
}
"""The type of each kind, and how many fields it has."""
_new = cast("Callable[..., Any]", tuple.__new__)


class Entry(NamedTuple):
    """The consecutive records of one run in one commit."""

    offset: int
    """The offset of its first record."""
    run: int
    """The offset of the first record of the run."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on an entry
    """How many records, and so how many offsets."""
    body: bytes


def pack_records(records: Sequence[NewRecord]) -> bytes:
    """The body of an entry."""
    return pack(records)


def unpack_records(body: bytes) -> list[Record]:
    """The records of an entry.

    Raises:
        CodecError: the bytes are not a list of records.
    """
    records: list[Record] = []
    try:
        for fields in unpack(body, MAX_MESSAGE_BYTES):
            known = _TYPES.get(fields[0])
            if known is None:
                records.append(UnknownRecord(fields[0], tuple(fields[1:])))
            else:
                type_, count = known
                records.append(_new(type_, fields) if len(fields) == count else type_(*fields[:count]))
    except (TypeError, KeyError, IndexError) as error:
        raise CodecError(f"not a list of records: {error}"[:200]) from None
    return records
