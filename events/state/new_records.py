"""New records: one constructor for each kind of record that a decision writes.

Rules: the parameters are the fields of the type, in their order. A new record is a plain tuple of them, since making a
NamedTuple takes three times as long and every event of every run makes some. Only its transition, which unpacks it, and
the log see it.
"""

from .records import NewRecord, RecordKind

__all__ = [
    "attempt_record",
    "cancelling_record",
    "compensating_record",
    "crashed_record",
    "done_record",
    "ended_record",
    "event_record",
    "failed_record",
    "redriven_record",
    "released_record",
    "revived_record",
    "run_record",
    "settled_record",
]

_RUN, _EVENT, _ATTEMPT = int(RecordKind.RUN), int(RecordKind.EVENT), int(RecordKind.ATTEMPT)
_DONE, _FAILED, _RELEASED = int(RecordKind.DONE), int(RecordKind.FAILED), int(RecordKind.RELEASED)
_CRASHED, _ENDED, _REVIVED = int(RecordKind.CRASHED), int(RecordKind.ENDED), int(RecordKind.REVIVED)
_CANCELLING, _COMPENSATING, _REDRIVEN = (
    int(RecordKind.CANCELLING),
    int(RecordKind.COMPENSATING),
    int(RecordKind.REDRIVEN),
)
_SETTLED = int(RecordKind.SETTLED)

# ruff: noqa: PLR0917 - a record has as many parameters as fields
# ruff: noqa: FBT001 - in the order of the fields


def run_record(run_id: bytes, pipeline: str, version: str, source: str, sender_id: str | None) -> NewRecord:
    """A run begins."""
    return (_RUN, run_id, pipeline, version, source, sender_id)


def event_record(
    event_id: bytes,
    type_: str,
    version: int,
    data: bytes,
    key: str | None,
    cause: bytes,
    delivery: int,
    index: int,
    time_us: int,
    many: bool,
) -> NewRecord:
    """An event: a trigger, or what a delivery emitted."""
    return (_EVENT, event_id, type_, version, data, key, cause, delivery, index, time_us, many)


def attempt_record(delivery: int, step: str, attempt: int, time_us: int, event_ids: list[bytes]) -> NewRecord:
    """An attempt of a delivery begins."""
    return (_ATTEMPT, delivery, step, attempt, time_us, event_ids)


def done_record(delivery: int, attempt: int, emitted: int, time_us: int, duration_us: int, many: bool) -> NewRecord:
    """A delivery is done."""
    return (_DONE, delivery, attempt, emitted, time_us, duration_us, many)


def failed_record(
    delivery: int,
    attempt: int,
    failure_kind: str,
    error: str,
    message: str,
    trace: str,
    time_us: int,
    retry_us: int | None,
    step: str,
    handled: bool,
) -> NewRecord:
    """An attempt failed."""
    return (_FAILED, delivery, attempt, failure_kind, error, message, trace, time_us, retry_us, step, handled)


def released_record(delivery: int, attempt: int, time_us: int) -> NewRecord:
    """A delivery is handed back without a result."""
    return (_RELEASED, delivery, attempt, time_us)


def crashed_record(delivery: int, attempt: int, message: str, time_us: int, retry_us: int) -> NewRecord:
    """The worker's process ended during an attempt."""
    return (_CRASHED, delivery, attempt, message, time_us, retry_us)


def ended_record(status: int, time_us: int) -> NewRecord:
    """A run ended."""
    return (_ENDED, status, time_us)


def revived_record(time_us: int, discarded: list[int]) -> NewRecord:
    """An operator retries a run that had ended."""
    return (_REVIVED, time_us, discarded)


def cancelling_record(time_us: int, who: str) -> NewRecord:
    """An operator cancels a run that does not end at once."""
    return (_CANCELLING, time_us, who)


def compensating_record(time_us: int) -> NewRecord:
    """The compensations of a run begin."""
    return (_COMPENSATING, time_us)


def redriven_record(
    delivery: int,
    time_us: int,
    who: str,
    event_id: bytes | None,
    type_: str | None,
    version: int | None,
    data: bytes | None,
    key: str | None,
    replaced: bytes | None,
    discarded: list[int],
) -> NewRecord:
    """An operator redrives a dead letter."""
    return (_REDRIVEN, delivery, time_us, who, event_id, type_, version, data, key, replaced, discarded)


def settled_record(delivery: int, time_us: int, who: str) -> NewRecord:
    """An operator discards a dead letter of a live run."""
    return (_SETTLED, delivery, time_us, who)
