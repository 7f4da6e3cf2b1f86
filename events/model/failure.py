"""Failures: a failed attempt as data, and `StepFailed`, the event that a step gave up."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from .event import Event

__all__ = ["Failure", "FailureKind", "StepError", "StepFailed"]


class FailureKind(StrEnum):
    """The class of a failure; it decides whether another attempt can help (docs/explanation/failures.md)."""

    TRANSIENT = "transient"
    """It may pass: a connection, 429, 5xx, a busy database. Also every exception without a class of its own."""
    UNKNOWN = "unknown"
    """How far it came is unknown: the worker died, or a Ray actor that the step called."""
    PERMANENT = "permanent"
    """Another attempt would fail too: invalid data, `GiveUp`, HTTP 4xx."""
    RESOURCE = "resource"
    """Out of memory, disk space or open files: at most two attempts, and the step gets no new work for a while."""
    TIMEOUT = "timeout"
    """The step did not return before its timeout, or a call that it made timed out."""


class Failure(NamedTuple):
    """One failed attempt.

    kind: the value of a `FailureKind`.
    error: the exception's type.
    message: its message.
    trace: its trace as text, shortened.
    """

    kind: str
    error: str
    message: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class StepError:
    """A step that gave up on an event.

    step: its name.
    kind: the value of a `FailureKind`.
    error: the exception's type.
    message: its message.
    trace: its trace, shortened; empty if it was handled after a thousand other errors of the run (the log has it).
    attempts: how many attempts it had.
    event_id: the id of the event that it was given, or of the last one.
    handled: an error handler received it, so the run went on.
    """

    step: str
    kind: str
    error: str
    message: str
    trace: str = ""
    attempts: int = 0
    event_id: str = ""
    handled: bool = False


class StepFailed(Event, type="ensue.step_failed"):
    """A step gave up on an event. A step that receives it is an error handler; without one, the run fails.

    step: the step that gave up.
    event_type, event_id: the event that it gave up on.
    data: the fields of that event.
    kind: the value of a `FailureKind`.
    error: the exception's type.
    message: its message.
    attempts: how many attempts the step had.
    data_omitted: the event is too large (over 2 MiB) or nested too deep (all 64 levels) to be quoted, so `data` is
        empty; `ctx.events(Type)` has the event itself.
    """

    step: str
    event_type: str
    event_id: str
    data: dict[str, Any]
    kind: str
    error: str
    message: str
    attempts: int
    data_omitted: bool = False
