"""The schemas of dead letters, of the requests that redrive or discard them, and of the audit.

Rules: a request with an unknown field is refused.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from ...cluster.log.protocol import AuditRow, DeadFilter, DeadLetter
from ...events.ids import format_id, parse_id
from ...events.model.failure import FailureKind
from ...events.views.attempts import Attempt, Tried
from ...events.views.views import EventView
from .runs import EventOut, Out, moment

__all__ = [
    "AttemptOut",
    "AuditListOut",
    "AuditOut",
    "BulkIn",
    "DecidedOut",
    "In",
    "LetterDetailOut",
    "LetterOut",
    "LettersOut",
    "RedriveIn",
    "RedrivenOut",
    "RefusedOut",
    "StateFilter",
    "dead_filter",
]

StateName = Literal["open", "redriven", "discarded"]
StateFilter = Literal["open", "redriven", "discarded", "any"]
_LETTER = "0192c1f4-77aa-7d10-9c3e-5f0e6f3b2a11"
_RUN = "0192c1f4-6f02-7b6e-8a51-1f4dd0f1c2b7"
_EXAMPLE_LETTER: dict[str, Any] = {
    "id": _LETTER,
    "run_id": _RUN,
    "pipeline": "orders",
    "step": "charge",
    "event_type": "OrderPlaced",
    "event_id": "0192c1f4-6f02-7b6e-8a51-1f4dd0f1c2b8",
    "kind": "permanent",
    "error": "CardExpired",
    "message": "the card of customer c-7 expired in 2024",
    "attempts": 1,
    "time": "2026-05-04T09:12:44.120351Z",
    "blocked": False,
    "state": "open",
}


class LetterOut(Out):
    """A delivery that gave up.

    If it is `blocked`, it is a compensation, and the rest of its run waits until it is redriven or discarded.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE_LETTER]})

    id: str
    run_id: str
    pipeline: str
    step: str
    event_type: str
    event_id: str | None
    kind: str
    error: str
    message: str
    attempts: int
    time: datetime
    blocked: bool
    state: StateName

    @classmethod
    def of(cls, letter: DeadLetter) -> "LetterOut":
        """The document of a dead letter."""
        return cls(**letter_fields(letter))


class LettersOut(Out):
    """A page of dead letters, newest first. `next_cursor` leads to the next page and is null on the last page."""

    dead: list[LetterOut]
    next_cursor: str | None

    @classmethod
    def page(cls, letters: Sequence[DeadLetter], limit: int) -> "LettersOut":
        """The page of the first `limit` letters. If there are more letters, there is a next page."""
        page = [LetterOut.of(letter) for letter in letters[:limit]]
        return cls(dead=page, next_cursor=page[-1].id if len(letters) > limit else None)


class AttemptOut(Out):
    """An attempt at a delivery. `retry` is the time at which the next attempt was due, null for the last one."""

    number: int
    outcome: Literal["running", "done", "failed", "crashed"]
    kind: str
    error: str
    message: str
    started: datetime
    ended: datetime | None
    retry: datetime | None

    @classmethod
    def of(cls, attempt: Attempt) -> "AttemptOut":
        """The document of an attempt."""
        return cls(
            number=attempt.number,
            outcome=attempt.outcome,  # type: ignore[arg-type]  # the same closed set
            kind=attempt.kind,
            error=attempt.error,
            message=attempt.message,
            started=moment(attempt.started_us),
            ended=None if attempt.ended_us is None else moment(attempt.ended_us),
            retry=None if attempt.retry_us is None else moment(attempt.retry_us),
        )


class AuditOut(Out):
    """A row of the audit: who did what, when, to what."""

    time: datetime
    who: str
    action: str
    subject: str
    detail: str

    @classmethod
    def of(cls, row: AuditRow) -> "AuditOut":
        """The document of a row."""
        return cls(time=moment(row.time_us), who=row.who, action=row.action, subject=row.subject, detail=row.detail)


class AuditListOut(Out):
    """The rows of the audit, newest first."""

    audit: list[AuditOut]


class LetterDetailOut(LetterOut):
    """A dead letter with its input events, the traceback of its error, all attempts, and its audit rows.

    If an operator replaced the data of an event, `events` has the original event and then the replacement.
    """

    events: list[EventOut]
    trace: str
    history: list[AttemptOut]
    audit: list[AuditOut]

    @classmethod
    def of_history(
        cls, letter: DeadLetter, events: Sequence[EventView], tried: Tried, audit: Sequence[AuditRow]
    ) -> "LetterDetailOut":
        """The document of a dead letter with its history."""
        failed = [attempt.trace for attempt in tried.attempts if attempt.trace]
        return cls(
            **letter_fields(letter),
            events=[EventOut.of(event) for event in events],
            trace=failed[-1] if failed else "",
            history=[AttemptOut.of(attempt) for attempt in tried.attempts],
            audit=[AuditOut.of(row) for row in audit],
        )


def letter_fields(letter: DeadLetter) -> dict[str, Any]:
    """The fields of the document of a dead letter."""
    return {
        "id": format_id(letter.letter_id),
        "run_id": format_id(letter.run_id),
        "pipeline": letter.pipeline,
        "step": letter.step,
        "event_type": letter.event_type,
        "event_id": format_id(letter.event_id) if letter.event_id else None,
        "kind": letter.kind,
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempts,
        "time": moment(letter.time_us),
        "blocked": letter.blocked,
        "state": letter.state,
    }


class In(BaseModel):
    """The base of all documents in a request."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RedriveIn(In):
    """The options of a redrive. `data` replaces the data of the event that failed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": {"order_id": "o-1", "amount": 9.5}}]})

    data: dict[str, Any] | None = None


class BulkIn(In):
    """A filter of open dead letters; without any filter, `all` must be true.

    `limit` selects the newest matching dead letters; they are handled oldest first.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"pipeline": "orders", "step": "charge", "limit": 500}]})

    pipeline: str | None = None
    step: str | None = None
    kind: FailureKind | None = None
    error: str | None = None
    event_type: str | None = None
    run_id: str | None = None
    before: AwareDatetime | None = None
    after: AwareDatetime | None = None
    limit: int | None = Field(default=None, ge=1)
    all: bool = False

    @model_validator(mode="after")
    def _has_a_filter(self) -> "BulkIn":
        if not self.all and not self.model_dump(exclude={"all", "limit"}, exclude_none=True):
            raise ValueError('pass a filter (pipeline, step, kind, ...), or {"all": true}')
        return self

    def wanted(self) -> DeadFilter:
        """The filter for the log. Raises `EnsueError` if the run id is invalid."""
        return dead_filter(**self.model_dump(exclude={"all", "limit"}))


def dead_filter(
    *,
    run_id: str | None = None,
    before: datetime | None = None,
    after: datetime | None = None,
    state: StateFilter = "open",
    **equal: str | None,
) -> DeadFilter:
    """The filter for the log, from the parameters of a request. Raises `EnsueError` if the run id is invalid."""
    return DeadFilter(
        **equal,
        run_id=None if run_id is None else parse_id(run_id),
        state=None if state == "any" else state,
        before_us=None if before is None else _micros(before),
        after_us=None if after is None else _micros(after),
    )


def _micros(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)


class RedrivenOut(Out):
    """The run that continues with the redriven dead letter."""

    run_id: str


class RefusedOut(Out):
    """A dead letter that was left as it is, and the reason."""

    id: str
    reason: str


class DecidedOut(Out):
    """The outcome of redriving or discarding many dead letters."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"decided": 41, "refused": []}]})

    decided: int
    refused: list[RefusedOut]
