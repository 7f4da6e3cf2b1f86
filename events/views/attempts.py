"""Attempts: what was tried for one delivery, as the records of its run tell it. Pure: records in, attempts out.

Rules: an attempt begins with its record and has no end while it is under way; one that was handed back unrun does not
count and is left out; a kind of record from a newer ensue is passed over.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..state.records import Record, RecordKind, unpack_records

__all__ = ["Attempt", "Tried", "read_attempts"]


@dataclass(slots=True)
class Attempt:
    """One attempt. outcome: `running`, `done`, `failed` or `crashed`; retry_us: when the next one was due."""

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
    """What was tried for a delivery, oldest first, and the ids of the events that it was made of.

    Where an operator put another event in the place of its own, both are there, the one that holds behind the other.
    """

    attempts: list[Attempt] = field(default_factory=list[Attempt])
    inputs: list[bytes] = field(default_factory=list[bytes])

    def add(self, record: Record) -> None:
        """Fold one record of the delivery."""
        match record[0]:
            case RecordKind.ATTEMPT:
                self.attempts.append(Attempt(record[3], record[4]))
                self._hear(record[5])
            case RecordKind.DONE:
                self._end(record[4], "done")
            case RecordKind.FAILED:
                failed = self._end(record[7], "failed")
                failed.kind, failed.error, failed.message, failed.trace = record[3:7]
                failed.retry_us = record[8]
            case RecordKind.CRASHED:
                crashed = self._end(record[4], "crashed")
                crashed.kind, crashed.error, crashed.message = "unknown", "WorkerDied", record[3]
                crashed.retry_us = record[5]
            case RecordKind.RELEASED:
                if self.attempts:
                    self.attempts.pop()
            case RecordKind.REDRIVEN:
                self._hear([record[4]] if record[4] else [])
            case _:
                pass

    def _hear(self, events: list[bytes]) -> None:
        self.inputs += [event for event in events if event not in self.inputs]

    def _end(self, time_us: int, outcome: str) -> Attempt:
        """The attempt that ends; one that never began (its step never came up) is made up."""
        if not self.attempts or self.attempts[-1].ended_us is not None:
            self.attempts.append(Attempt(0, time_us))
        last = self.attempts[-1]
        last.ended_us, last.outcome = time_us, outcome
        return last


_OF_DELIVERY = frozenset(
    {
        RecordKind.ATTEMPT,
        RecordKind.DONE,
        RecordKind.FAILED,
        RecordKind.CRASHED,
        RecordKind.RELEASED,
        RecordKind.REDRIVEN,
    }
)


def read_attempts(bodies: Iterable[bytes], delivery: int) -> Tried:
    """What was tried for a delivery of the run that these entries are of, oldest first."""
    tried = Tried()
    for body in bodies:
        for record in unpack_records(body):
            if record[0] in _OF_DELIVERY and record[1] == delivery:
                tried.add(record)
    return tried
