"""Attempts: what was tried for one delivery, from the records of its run. Pure: records in, attempts out.

Rules: an attempt begins with its record, and has no end while it is running. One that was handed back does not count
and is left out.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..state.records import (
    AttemptRecord,
    CrashedRecord,
    DoneRecord,
    FailedRecord,
    Record,
    RedrivenRecord,
    ReleasedRecord,
    unpack_records,
)

__all__ = ["Attempt", "Tried", "read_attempts"]


@dataclass(slots=True)
class Attempt:
    """One attempt.

    outcome: `running`, `done`, `failed` or `crashed`. retry_us: when the next attempt was due.
    """

    number: int
    started_us: int
    ended_us: int | None = None
    outcome: str = "running"
    kind: str = ""
    error: str = ""
    message: str = ""
    trace: str = ""
    retry_us: int | None = None


@dataclass(slots=True)
class Tried:
    """The attempts of a delivery, oldest first, and the ids of the events that it is made of.

    A replacement event stands behind the one that it replaced.
    """

    attempts: list[Attempt] = field(default_factory=list[Attempt])
    inputs: list[bytes] = field(default_factory=list[bytes])

    def add(self, record: Record) -> None:
        """Fold one record of the delivery."""
        match record:
            case AttemptRecord():
                self.attempts.append(Attempt(record.attempt, record.time_us))
                self._take(record.event_ids)
            case DoneRecord():
                self._end(record.time_us, "done")
            case FailedRecord():
                failed = self._end(record.time_us, "failed")
                failed.kind, failed.error = record.failure_kind, record.error
                failed.message, failed.trace = record.message, record.trace
                failed.retry_us = record.retry_us
            case CrashedRecord():
                crashed = self._end(record.time_us, "crashed")
                crashed.kind, crashed.error, crashed.message = "unknown", "WorkerDied", record.message
                crashed.retry_us = record.retry_us
            case ReleasedRecord():
                if self.attempts:
                    self.attempts.pop()
            case RedrivenRecord():
                self._take([record.event_id] if record.event_id else [])
            case _:
                pass

    def _take(self, events: list[bytes]) -> None:
        self.inputs += [event for event in events if event not in self.inputs]

    def _end(self, time_us: int, outcome: str) -> Attempt:
        """The attempt that ends. A step that never started has none: it gets one with the number 0."""
        if not self.attempts or self.attempts[-1].ended_us is not None:
            self.attempts.append(Attempt(0, time_us))
        last = self.attempts[-1]
        last.ended_us, last.outcome = time_us, outcome
        return last


_OF_DELIVERY = (AttemptRecord, DoneRecord, FailedRecord, CrashedRecord, ReleasedRecord, RedrivenRecord)


def read_attempts(bodies: Iterable[bytes], delivery: int) -> Tried:
    """The attempts of a delivery, from the entries of its run, oldest first."""
    tried = Tried()
    for body in bodies:
        for record in unpack_records(body):
            if isinstance(record, _OF_DELIVERY) and record.delivery == delivery:
                tried.add(record)
    return tried
