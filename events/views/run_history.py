"""RunHistory: one run as its records tell it. Pure: entries in, views out.

Rules:

1. Offsets are those of the log: the entry's, plus the record's place in it.
2. A view of a live run is right as of its last record.
3. The results are the events without a subscriber. If the pipeline is not known, they are known once the run has ended:
   the events that are not the input of an attempt. Events of compensations have no subscribers.
4. When an operator retries a run, its unhandled errors are dropped, except those of discarded letters.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..model.failure import Failure, FailureKind, StepFailed
from ..state.records import (
    AttemptRecord,
    CompensatingRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    Record,
    RedrivenRecord,
    ReleasedRecord,
    RevivedRecord,
    RunRecord,
    SettledRecord,
    unpack_records,
)
from ..state.run_status import Status
from .views import ErrorView, EventView, RunView, StepView, Trigger, readable

__all__ = ["RunHistory", "read_history"]

Heard = Callable[[str], bool]


@dataclass(slots=True)
class _Delivery:
    step: str = ""
    attempt: int = 0
    inputs: list[bytes] = field(default_factory=list[bytes])
    is_running: bool = False


def read_history(entries: Iterable[tuple[int, bytes]]) -> "RunHistory":
    """The history of a run from its entries, oldest first, each as (offset, body)."""
    history = RunHistory()
    for offset, body in entries:
        for index, record in enumerate(unpack_records(body)):
            history.add(offset + index, record)
    return history


class RunHistory:
    """The records of one run, folded as they come."""

    def __init__(self) -> None:
        self.events: list[EventView] = []
        self.steps: dict[str, StepView] = {}
        self.status = Status.RUNNING
        self.finished_us: int | None = None
        self._run = RunRecord(0, b"", "", "", "", None)
        self._deliveries: dict[int, _Delivery] = {}
        self._errors: dict[int, ErrorView] = {}
        self._given_up: set[int] = set()
        self._heard: set[bytes] = set()
        self._compensating_from = 0
        self._of_compensations: set[bytes] = set()
        self._settled_by_hand: set[int] = set()

    def add(self, offset: int, record: Record) -> None:
        """Fold one record; one of a kind that this version does not know is skipped."""
        fold = _FOLDS.get(type(record))
        if fold is not None:
            fold(self, offset, record)

    def view(self, heard: Heard | None = None) -> RunView:
        """The run. heard: whether its pipeline subscribes to an event type, if the pipeline is known."""
        run = self._run
        first = self.events[0] if self.events else None
        return RunView(
            id=run.run_id,
            pipeline=run.pipeline,
            version=run.version,
            status=self.status,
            started_us=first.time_us if first else 0,
            finished_us=self.finished_us,
            trigger=None if first is None else Trigger(first, run.source or "", run.sender_id),
            results=self._results(heard),
            errors=list(self._errors.values()),
            steps=list(self.steps.values()),
            compensating=self._compensating_from > 0,
            blocked=tuple(self._blocked()),
        )

    def _blocked(self) -> Iterable[ErrorView]:
        """The errors of compensations that gave up: those of deliveries after the compensations began."""
        if not self._compensating_from or not self.status.live:
            return ()
        return (
            error
            for error in self._errors.values()
            if error.delivery >= self._compensating_from and error.delivery not in self._settled_by_hand
        )

    def _results(self, heard: Heard | None) -> list[EventView]:
        if heard is None and self.status.live:
            return []
        return [event for event in self.events if not self._is_heard(event, heard)]

    def _is_heard(self, event: EventView, heard: Heard | None) -> bool:
        if event.type == StepFailed.__event_type__:
            return True
        if event.id in self._of_compensations:
            return False
        return event.id in self._heard if heard is None else heard(event.type)

    def _begin(self, _offset: int, record: RunRecord) -> None:
        self._run = record

    def _event(self, offset: int, record: EventRecord) -> None:
        delivery = self._deliveries.get(record.delivery)
        step, attempt = (delivery.step, delivery.attempt) if delivery else (None, None)
        if step is not None and record.type != StepFailed.__event_type__:
            self._step(step).emitted += 1
        if self._compensating_from:
            self._of_compensations.add(record.event_id)
        self.events.append(
            EventView(
                offset,
                record.event_id,
                record.type,
                record.version,
                record.key,
                record.cause or None,
                step,
                attempt,
                record.time_us,
                readable(record.data),
            )
        )

    def _attempt(self, _offset: int, record: AttemptRecord) -> None:
        delivery = self._deliveries.setdefault(record.delivery, _Delivery())
        step = self._step(record.step)
        step.running += not delivery.is_running
        step.attempts += 1
        delivery.step, delivery.attempt, delivery.is_running = record.step, record.attempt, True
        delivery.inputs = record.event_ids or delivery.inputs
        self._heard.update(record.event_ids)
        if record.delivery in self._given_up:
            self._given_up.remove(record.delivery)
            step.failed -= 1

    def _done(self, _offset: int, record: DoneRecord) -> None:
        step = self._ended_attempt(record.delivery)
        step.done += 1
        step.duration_us += record.duration_us

    def _failed(self, _offset: int, record: FailedRecord) -> None:
        self._name(record.delivery, record.step)
        step = self._ended_attempt(record.delivery)
        if record.retry_us is not None:
            step.retried += 1
            return
        step.failed += 1
        failure = Failure(record.failure_kind, record.error, record.message, record.trace)
        self._errors[record.delivery] = self._error(
            record.delivery, failure, record.attempt, record.time_us, handled=record.handled
        )

    def _crashed(self, _offset: int, record: CrashedRecord) -> None:
        step = self._ended_attempt(record.delivery)
        if record.retry_us is not None:
            step.retried += 1
            return
        step.failed += 1
        failure = Failure(FailureKind.UNKNOWN, "WorkerDied", record.message)
        self._errors[record.delivery] = self._error(record.delivery, failure, record.attempt, record.time_us)

    def _released(self, _offset: int, record: ReleasedRecord) -> None:
        self._ended_attempt(record.delivery).attempts -= 1

    def _ended(self, _offset: int, record: EndedRecord) -> None:
        self.status, self.finished_us = Status(record.status), record.time_us
        for delivery in self._deliveries.values():
            if delivery.is_running:
                self._ended_attempt_of(delivery)

    def _revived(self, _offset: int, record: RevivedRecord) -> None:
        self.status, self.finished_us = Status.RUNNING, None
        self._errors = {
            number: error for number, error in self._errors.items() if error.handled or number in record.discarded
        }

    def _begin_compensating(self, _offset: int, _record: CompensatingRecord) -> None:
        self._compensating_from = max(self._deliveries, default=0) + 1

    def _redriven(self, offset: int, record: RedrivenRecord) -> None:
        self.status, self.finished_us = Status.RUNNING, None
        self._errors.pop(record.delivery, None)
        if record.event_id is not None:
            self.events.append(
                EventView(
                    offset,
                    record.event_id,
                    record.type or "",
                    record.version or 0,
                    record.key,
                    None,
                    None,
                    None,
                    record.time_us,
                    readable(record.data),
                )
            )

    def _settled(self, _offset: int, record: SettledRecord) -> None:
        self._settled_by_hand.add(record.delivery)

    def _name(self, number: int, step: str) -> None:
        """Name the step of a delivery that failed without an attempt, since no worker started."""
        delivery = self._deliveries.setdefault(number, _Delivery())
        delivery.step = delivery.step or step

    def _ended_attempt(self, number: int) -> StepView:
        return self._ended_attempt_of(self._deliveries.setdefault(number, _Delivery()))

    def _ended_attempt_of(self, delivery: _Delivery) -> StepView:
        step = self._step(delivery.step)
        step.running -= delivery.is_running
        delivery.is_running = False
        return step

    def _step(self, name: str) -> StepView:
        return self.steps.setdefault(name, StepView(name))

    def _error(self, number: int, failure: Failure, attempts: int, time_us: int, *, handled: bool = False) -> ErrorView:
        delivery = self._deliveries[number]
        self._given_up.add(number)
        event_id = delivery.inputs[-1] if delivery.inputs else None
        return ErrorView(delivery.step, event_id, *failure, attempts, time_us, handled, number)


_FOLDS: Mapping[type, Callable[[RunHistory, int, Any], None]] = {
    RunRecord: RunHistory._begin,  # noqa: SLF001 - the table of this class
    EventRecord: RunHistory._event,  # noqa: SLF001
    AttemptRecord: RunHistory._attempt,  # noqa: SLF001
    DoneRecord: RunHistory._done,  # noqa: SLF001
    FailedRecord: RunHistory._failed,  # noqa: SLF001
    ReleasedRecord: RunHistory._released,  # noqa: SLF001
    CrashedRecord: RunHistory._crashed,  # noqa: SLF001
    EndedRecord: RunHistory._ended,  # noqa: SLF001
    RevivedRecord: RunHistory._revived,  # noqa: SLF001
    CompensatingRecord: RunHistory._begin_compensating,  # noqa: SLF001
    RedrivenRecord: RunHistory._redriven,  # noqa: SLF001
    SettledRecord: RunHistory._settled,  # noqa: SLF001
}
