"""Failure: what went wrong in an attempt, as data, and `StepFailed`, the event that says a step gave up."""

from enum import StrEnum
from typing import Any, NamedTuple

from .event import Event

__all__ = ["Failure", "FailureKind", "StepFailed"]


class FailureKind(StrEnum):
    """The class of a failure: it decides whether another attempt can help (docs/explanation/failures.md)."""

    TRANSIENT = "transient"
    """May pass by itself: connection, timeout, 429, 5xx. Also any exception with no class of its own."""
    UNKNOWN = "unknown"
    """Nobody knows how far it came: the worker died."""
    PERMANENT = "permanent"
    """The same again would fail again: invalid data, `GiveUp`, 4xx."""
    RESOURCE = "resource"
    """Out of memory or disk."""
    TIMEOUT = "timeout"
    """The step did not return in its time."""


class Failure(NamedTuple):
    """One failed attempt: kind, the exception's type, its message, and its trace as text (shortened)."""

    kind: str
    error: str
    message: str
    trace: str = ""


class StepFailed(Event, type="ensue.step_failed"):
    """A step gave up on an event. A step that hears it is the error handler; if nothing hears it the run fails.

    `data` is the input event's fields, `event_type` and `event_id` name it; `error` is the exception's type.
    """

    step: str
    event_type: str
    event_id: str
    data: dict[str, Any]
    kind: str
    error: str
    message: str
    attempts: int
