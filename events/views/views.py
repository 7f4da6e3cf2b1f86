"""Views: a run, its events, its steps and its errors as HTTP and the command line show them.

Rules: ids are bytes and times microseconds here, as in the log; an event's data is ready to be written as JSON.
"""

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from ..errors import CodecError
from ..model.codec import unpack
from ..state.run_status import Status

__all__ = ["ErrorView", "EventView", "RunView", "StepView", "Trigger", "readable"]

_SEQUENCES = frozenset({list, tuple})


@dataclass(frozen=True, slots=True)
class EventView:
    """An event of the log. step: the one that emitted it. cause: the event that it came of."""

    offset: int
    id: bytes
    type: str
    version: int
    key: str | None
    cause: bytes | None
    step: str | None
    attempt: int | None
    time_us: int
    data: Any


@dataclass(frozen=True, slots=True)
class ErrorView:
    """A step that gave up. handled: another step handles it. delivery: its number in the run."""

    step: str
    event_id: bytes | None
    kind: str
    error: str
    message: str
    trace: str
    attempts: int
    time_us: int
    handled: bool = False
    delivery: int = 0


@dataclass(slots=True)
class StepView:
    """What a step did in a run. running: attempts that run now. retried: failed attempts that another one follows."""

    name: str
    attempts: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    retried: int = 0
    emitted: int = 0
    duration_us: int = 0

    @property
    def mean_duration_us(self) -> float:
        """Over the attempts that are done."""
        return self.duration_us / self.done if self.done else 0.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """The event that started a run, its source, and the sender's id."""

    event: EventView
    source: str
    sender_id: str | None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run. compensating: its compensations run, or ran. blocked: errors of those that wait for an operator."""

    id: bytes
    pipeline: str
    version: str
    status: Status
    started_us: int
    finished_us: int | None
    trigger: Trigger | None
    results: list[EventView]
    errors: list[ErrorView]
    steps: list[StepView]
    compensating: bool = False
    blocked: tuple[ErrorView, ...] = ()


def readable(data: Any) -> Any:
    """The fields of an event in JSON's types; bytes that are not an event as base64."""
    if isinstance(data, bytes):
        try:
            data = unpack(data)
        except CodecError:
            return _json_ready(data)
    return _json_ready(data)


def _json_ready(value: Any) -> Any:
    kind: Any = value.__class__
    if kind is bytes:
        return b64encode(value).decode()
    if kind is dict:
        return {_name(name): _json_ready(inner) for name, inner in value.items()}
    if kind in _SEQUENCES:
        return [_json_ready(inner) for inner in value]
    return value


def _name(name: Any) -> str:
    return b64encode(name).decode() if isinstance(name, bytes) else str(name)
