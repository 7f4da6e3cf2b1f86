"""Failure: what went wrong in an attempt, as data, and `StepFailed`, the event that says a step gave up."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from .event import Event

__all__ = ["Failure", "FailureKind", "StepError", "StepFailed"]


class FailureKind(StrEnum):
    """The class of a failure: it decides whether another attempt can help (docs/explanation/failures.md)."""

    TRANSIENT = "transient"
    """May pass by itself: connection, 429, 5xx, a busy database. Also any exception with no class of its own."""
    UNKNOWN = "unknown"
    """Nobody knows how far it came: the worker died, or a Ray actor that the step called."""
    PERMANENT = "permanent"
    """The same again would fail again: invalid data, `GiveUp`, HTTP 4xx."""
    RESOURCE = "resource"
    """Out of memory, disk or open files: at most two attempts, and nothing more is given out for a while."""
    TIMEOUT = "timeout"
    """The step did not return in its time, or what it called did not answer in its own."""


class Failure(NamedTuple):
    """One failed attempt: kind, the exception's type, its message, and its trace as text (shortened)."""

    kind: str
    error: str
    message: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class StepError:
    """A step that gave up: its name, the failure's kind, the exception's type, its message, its trace.

    trace: shortened; empty where a thousand errors of the run stood before it and it was handled (the log has it).

    attempts: how many it had. event_id: of the (last) event that it was given. handled: a step heard of it, so that the
    run went on.
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
    """A step gave up on an event. A step that hears it is the error handler; if nothing hears it the run fails.

    `data` is the input event's fields, `event_type` and `event_id` name it; `error` is the exception's type.
    `data_omitted`: the event is too large (over 2 MiB) or nested too deep (all 64 levels) to be quoted, so `data` is
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
