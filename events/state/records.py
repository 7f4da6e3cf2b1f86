"""Records: what the log says happened. One record is a msgpack list that opens with its kind.

Rules: records are facts in the past tense, written by `decide` and folded back by the same transitions; a reader
skips what trails behind the fields that it knows, so a record grows at its end. An entry of the log holds the records
that one commit wrote for one run, in order; the offset of a record is the entry's offset plus its place in it.

    RUN       [kind, run id, pipeline, version of the pipeline, source, sender's id]
    EVENT     [kind, event id, type, version, data, key, cause's event id, delivery (0: from outside), index, time_us]
    ATTEMPT   [kind, delivery, step, attempt, time_us, ids of the input events]
    DONE      [kind, delivery, attempt, number of events emitted, time_us, duration_us, emitted as a list]
    FAILED    [kind, delivery, attempt, failure kind, error, message, trace, time_us, retry at (us) or None: gave up,
               step, whether a step hears of it]
    RELEASED  [kind, delivery, attempt, time_us]               handed back unrun: no attempt is counted
    CRASHED   [kind, delivery, attempt, message, time_us, retry at (us)]    its process died
    ENDED     [kind, status, time_us]
    REVIVED   [kind, time_us, deliveries that an operator discarded]    an operator retries a run that ended; what was
               discarded stays as it is
    CANCELLING [kind, time_us, who]             an operator ends a run that has something to undo: what runs, ends first
    UNDOING   [kind, time_us]                   the run's compensations begin, the newest first
    REDRIVEN  [kind, delivery, time_us, who, id, type, version, data, key, id of the event that it replaces,
               deliveries that an operator discarded]    an operator runs a dead letter again; id to key are the event that
               takes its event's place, None where that stays as it was
    SETTLED   [kind, delivery, time_us, who]    an operator settled a compensation that had given up, or discarded another
               dead letter of a run that goes on

A delivery is numbered within its run from 1, in the order in which the transitions create them.
"""

from enum import IntEnum
from typing import Any, NamedTuple

from ..model.codec import MAX_MESSAGE_BYTES, pack, unpack

__all__ = [
    "FAILURE_INDEX",
    "MAX_ENTRY_BYTES",
    "Entry",
    "Record",
    "RecordKind",
    "added",
    "pack_records",
    "unpack_records",
]

Record = list[Any]
FAILURE_INDEX = -1
"""The index of a `StepFailed` among the events of its delivery."""
MAX_ENTRY_BYTES = MAX_MESSAGE_BYTES // 4
"""Records of one run in one commit are cut into entries of about this size, so that every entry can be read back."""


class RecordKind(IntEnum):
    """The kind of a record."""

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


class Entry(NamedTuple):
    """The consecutive records of one run in one commit: `count` offsets, the first of which is `offset`.

    `run` is the offset of the first record of the run.
    """

    offset: int
    run: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody wants of an entry
    body: bytes


def added(record: Record, index: int, default: Any) -> Any:
    """A field that a kind of record was given later; the default where the record was written before."""
    return record[index] if len(record) > index else default


def pack_records(records: list[Record]) -> bytes:
    """The body of an entry."""
    return pack(records)


def unpack_records(body: bytes) -> list[Record]:
    """The records of an entry; `CodecError` where the bytes are none."""
    records: list[Record] = unpack(body, MAX_MESSAGE_BYTES)
    return records
