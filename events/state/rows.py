"""Rows: what the log keeps beside the records, as a decision writes it and as operators read it.

Rules: a row is written in the commit of the records that it belongs to. Ids are 16 bytes, times microseconds since the
epoch of Unix.
"""

from typing import NamedTuple

__all__ = ["AuditRow", "DeadLetter", "Fact", "LetterSettled"]


class Fact(NamedTuple):
    """What the engine stores beside the runs: one value for each kind and name, the newest."""

    kind: str
    """Such as `breaker`, or `supervisor`."""
    name: str
    body: bytes | None
    """None deletes the fact."""
    time_us: int = 0
    """When it was committed; 0: it is not committed yet."""


class DeadLetter(NamedTuple):
    """A delivery that gave up and that no step handles. Writing the same letter again replaces it."""

    letter_id: bytes
    """Derived from run and delivery."""
    run: int
    """The run's number."""
    run_id: bytes
    delivery: int
    """Its number within the run."""
    pipeline: str
    step: str
    event_type: str
    """Of the (last) input event; empty if there is none."""
    event_id: bytes
    """As `event_type`."""
    kind: str
    """Of the failure."""
    error: str
    """The type of the exception."""
    message: str
    attempts: int
    time_us: int
    blocked: bool = False
    """It is a compensation: its run waits until an operator decides."""
    state: str = "open"
    """`open`, `redriven` or `discarded`."""


class LetterSettled(NamedTuple):
    """The new state of a dead letter."""

    letter_id: bytes
    state: str
    """`redriven` or `discarded`."""


class AuditRow(NamedTuple):
    """Who did what, when, to what. It is never changed and never deleted."""

    time_us: int
    who: str
    action: str
    subject: str
    detail: str = ""
