"""The schemas of runs, events, problems and health: the documents of the HTTP API and of the command line.

Rules: ids are text of 36 characters, times are RFC 3339 in UTC, durations are milliseconds. Every field is always
present, and null if it has no value. The command line prints the same documents with --json.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ...cluster.log.protocol import RunRow
from ...events.decide.dead_letters import letter_id
from ...events.ids import format_id
from ...events.state.run_status import Status
from ...events.views.views import ErrorView, EventView, RunView, StepView, Trigger

__all__ = [
    "AcceptedEventOut",
    "AcceptedOut",
    "BlockedOut",
    "ErrorOut",
    "EventOut",
    "EventsOut",
    "HealthOut",
    "Out",
    "ProblemOut",
    "ReadyOut",
    "RunDetailOut",
    "RunOut",
    "RunsOut",
    "StatusName",
    "StepOut",
    "moment",
]

StatusName = Literal["running", "waiting", "completed", "failed", "cancelled", "compensated", "needs_migration"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Out(BaseModel):
    """The base of all documents in a response."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_serialization_defaults_required=True)


class FaultOut(Out):
    """A field that is invalid: its name, what was expected, and what was sent."""

    field: str
    expected: str
    got: str


class ProblemOut(Out):
    """A problem (RFC 9457). `errors` is present if single fields are invalid."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: str
    title: str
    status: int
    detail: str
    errors: list[FaultOut] = []


class AcceptedEventOut(Out):
    """An accepted event. Both ids are null if the function of the webhook ignored the delivery."""

    event_id: str | None
    run_id: str | None
    duplicate: bool


class AcceptedOut(AcceptedEventOut):
    """The answer to a committed event; `events` is present if a webhook returned several: the rest is of the first."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    events: list[AcceptedEventOut] = []


class EventOut(Out):
    """An event of a run. `step` emitted it while handling the event `cause`."""

    id: str
    type: str
    version: int
    offset: int
    step: str | None
    cause: str | None
    attempt: int | None
    key: str | None
    time: datetime
    data: Any

    @classmethod
    def of(cls, event: EventView) -> "EventOut":
        """The document of an event."""
        return cls(
            id=format_id(event.id),
            type=event.type,
            version=event.version,
            offset=event.offset,
            step=event.step,
            cause=None if event.cause is None else format_id(event.cause),
            attempt=event.attempt,
            key=event.key,
            time=moment(event.time_us),
            data=event.data,
        )


class EventsOut(Out):
    """The causal log of a run, oldest first."""

    events: list[EventOut]


class ErrorOut(Out):
    """The error of a step that gave up. If it is `handled`, another step handles it and the run continues."""

    step: str
    event_id: str | None
    kind: str
    error: str
    message: str
    trace: str
    attempts: int
    handled: bool
    time: datetime

    @classmethod
    def of(cls, error: ErrorView) -> "ErrorOut":
        """The document of a failure."""
        return cls(**_failure(error))


class BlockedOut(ErrorOut):
    """A compensation that gave up. The rest of the run waits until its dead letter is redriven or discarded."""

    letter_id: str

    @classmethod
    def of_run(cls, run_id: bytes, error: ErrorView) -> "BlockedOut":
        """The document of a blocked compensation."""
        return cls(**_failure(error), letter_id=format_id(letter_id(run_id, error.delivery)))


def _failure(error: ErrorView) -> dict[str, Any]:
    return {
        "step": error.step,
        "event_id": None if error.event_id is None else format_id(error.event_id),
        "kind": error.kind,
        "error": error.error,
        "message": error.message,
        "trace": error.trace,
        "attempts": error.attempts,
        "handled": error.handled,
        "time": moment(error.time_us),
    }


class StepOut(Out):
    """The work of a step in a run. The durations cover the attempts that are done."""

    name: str
    attempts: int
    running: int
    done: int
    failed: int
    retried: int
    emitted: int
    total_duration_ms: float
    mean_duration_ms: float

    @classmethod
    def of(cls, step: StepView) -> "StepOut":
        """The document of a step."""
        return cls(
            name=step.name,
            attempts=step.attempts,
            running=step.running,
            done=step.done,
            failed=step.failed,
            retried=step.retried,
            emitted=step.emitted,
            total_duration_ms=step.duration_us / 1000,
            mean_duration_ms=step.mean_duration_us / 1000,
        )


class TriggerOut(Out):
    """The event that began a run, with the source and the id that the sender gave."""

    event: EventOut
    source: str
    sender_id: str | None

    @classmethod
    def of(cls, trigger: Trigger) -> "TriggerOut":
        """The document of a trigger."""
        return cls(event=EventOut.of(trigger.event), source=trigger.source, sender_id=trigger.sender_id)


class RunOut(Out):
    """A run in a list."""

    run_id: str
    pipeline: str
    version: str
    status: StatusName
    trigger_type: str
    started: datetime
    finished: datetime | None
    duration_ms: float | None

    @classmethod
    def of(cls, row: RunRow) -> "RunOut":
        """The document of a row."""
        return cls(**_head(row))


class RunsOut(Out):
    """A page of runs, newest first. `next_cursor` leads to the next page and is null on the last page."""

    runs: list[RunOut]
    next_cursor: str | None


class RunDetailOut(RunOut):
    """A run with its results, errors and steps.

    `undoing` is true once its compensations run; `blocked` lists those that wait for an operator.
    """

    trigger: TriggerOut | None
    events: list[EventOut]
    errors: list[ErrorOut]
    undoing: bool
    blocked: list[BlockedOut]
    steps: list[StepOut]

    @classmethod
    def of_view(cls, row: RunRow, view: RunView) -> "RunDetailOut":
        """The document of a run. The status comes from the row, which is the newest."""
        return cls(
            **_head(row),
            trigger=None if view.trigger is None else TriggerOut.of(view.trigger),
            events=[EventOut.of(event) for event in view.results],
            errors=[ErrorOut.of(error) for error in view.errors],
            undoing=view.compensating,
            blocked=[BlockedOut.of_run(row.run_id, error) for error in view.blocked],
            steps=[StepOut.of(step) for step in view.steps],
        )


class HealthOut(Out):
    """The liveness of the process."""

    status: Literal["live"]


class ReadyOut(Out):
    """The readiness of the engine.

    While it is `recovering`, accepted events wait for its workers. `durability` says what an accepted event survives.
    """

    status: Literal["ready", "recovering"]
    durability: str


def _head(row: RunRow) -> dict[str, Any]:
    done = row.finished_us
    return {
        "run_id": format_id(row.run_id),
        "pipeline": row.pipeline,
        "version": row.version,
        "status": Status(row.status).wire,
        "trigger_type": row.trigger_type,
        "started": moment(row.started_us),
        "finished": None if done is None else moment(done),
        "duration_ms": None if done is None else (done - row.started_us) / 1000,
    }


def moment(time_us: int) -> datetime:
    """A time of the log, in microseconds since the epoch, as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=time_us)
