"""RunHistory: what the records of one run tell people. Pure: entries in, views out; nothing here decides anything.

1. Offsets are those of the log: the entry's, plus the record's place in it.
2. A view of a run that is still going on is right as of its last record.
3. The results are the events that nothing heard. Where the pipeline is known it says so; from the records alone it is
   known when the run is over: an event was heard where it was the input of an attempt. Nothing hears what compensations
   emit, and in a run that is being undone nothing else emits.
4. The errors are those that stand: when an operator revives a run those that nothing handled and nobody discarded are
   forgotten, as the engine forgets them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ..model.failure import Failure, FailureKind, StepFailed
from ..state.records import Record, RecordKind, added, unpack_records
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
    """The history in a run's entries, each its offset and its body, oldest first."""
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
        self._run: Record = [RecordKind.RUN, b"", "", "", "", None]
        self._deliveries: dict[int, _Delivery] = {}
        self._errors: dict[int, ErrorView] = {}
        self._given_up: set[int] = set()
        self._heard: set[bytes] = set()
        self._undo_from = 0
        self._of_undoing: set[bytes] = set()
        self._settled_by_hand: set[int] = set()

    def add(self, offset: int, record: Record) -> None:
        """Fold one record; a kind from a newer ensue is passed over."""
        fold = _FOLDS.get(record[0])
        if fold is not None:
            fold(self, offset, record)

    def view(self, heard: Heard | None = None) -> RunView:
        """The run; `heard` says which event types the steps of its pipeline hear, where that is known."""
        _, run_id, pipeline, version, source, sender_id = self._run[:6]
        first = self.events[0] if self.events else None
        return RunView(
            id=run_id,
            pipeline=pipeline,
            version=version,
            status=self.status,
            started_us=first.time_us if first else 0,
            finished_us=self.finished_us,
            trigger=None if first is None else Trigger(first, source or "", sender_id),
            results=self._results(heard),
            errors=list(self._errors.values()),
            steps=list(self.steps.values()),
            compensating=self._undo_from > 0,
            blocked=tuple(self._blocked()),
        )

    def _blocked(self) -> Iterable[ErrorView]:
        """Compensations that gave up: what gave up after the undoing began."""
        if not self._undo_from or not self.status.live:
            return ()
        return (
            error
            for error in self._errors.values()
            if error.delivery >= self._undo_from and error.delivery not in self._settled_by_hand
        )

    def _results(self, heard: Heard | None) -> list[EventView]:
        if heard is None and self.status.live:
            return []
        return [event for event in self.events if not self._is_heard(event, heard)]

    def _is_heard(self, event: EventView, heard: Heard | None) -> bool:
        if event.type == StepFailed.__event_type__:
            return True
        if event.id in self._of_undoing:
            return False
        return event.id in self._heard if heard is None else heard(event.type)

    def _begin(self, _offset: int, record: Record) -> None:
        self._run = [*record, *[None] * 6]

    def _event(self, offset: int, record: Record) -> None:
        _, event_id, name, version, data, key, cause, number, _index, time_us = record[:10]
        delivery = self._deliveries.get(number)
        step, attempt = (delivery.step, delivery.attempt) if delivery else (None, None)
        if step is not None and name != StepFailed.__event_type__:
            self._step(step).emitted += 1
        if self._undo_from:
            self._of_undoing.add(event_id)
        view = EventView(offset, event_id, name, version, key, cause or None, step, attempt, time_us, readable(data))
        self.events.append(view)

    def _attempt(self, _offset: int, record: Record) -> None:
        _, number, name, attempt, _time_us, inputs = record[:6]
        delivery = self._deliveries.setdefault(number, _Delivery())
        step = self._step(name)
        step.running += not delivery.is_running
        step.attempts += 1
        delivery.step, delivery.attempt, delivery.is_running = name, attempt, True
        delivery.inputs = inputs or delivery.inputs
        self._heard.update(inputs)
        if number in self._given_up:
            self._given_up.remove(number)
            step.failed -= 1

    def _done(self, _offset: int, record: Record) -> None:
        step = self._ended_attempt(record[1])
        step.done += 1
        step.duration_us += record[5]

    def _failed(self, _offset: int, record: Record) -> None:
        _, number, attempt, kind, error, message, trace, time_us, retry_at_us = record[:9]
        self._name(number, added(record, 9, ""))
        step = self._ended_attempt(number)
        if retry_at_us is not None:
            step.retried += 1
            return
        step.failed += 1
        handled = bool(added(record, 10, default=False))
        self._errors[number] = self._error(
            number, Failure(kind, error, message, trace), attempt, time_us, handled=handled
        )

    def _crashed(self, _offset: int, record: Record) -> None:
        _, number, attempt, message, time_us, retry_at_us = record[:6]
        step = self._ended_attempt(number)
        if retry_at_us is not None:
            step.retried += 1
            return
        step.failed += 1
        self._errors[number] = self._error(
            number, Failure(FailureKind.UNKNOWN, "WorkerDied", message), attempt, time_us
        )

    def _released(self, _offset: int, record: Record) -> None:
        self._ended_attempt(record[1]).attempts -= 1

    def _ended(self, _offset: int, record: Record) -> None:
        self.status, self.finished_us = Status(record[1]), record[2]
        for delivery in self._deliveries.values():
            if delivery.is_running:
                self._ended_attempt_of(delivery)

    def _revived(self, _offset: int, record: Record) -> None:
        self.status, self.finished_us = Status.RUNNING, None
        stand = added(record, 2, ())
        self._errors = {number: error for number, error in self._errors.items() if error.handled or number in stand}

    def _undoing(self, _offset: int, _record: Record) -> None:
        self._undo_from = max(self._deliveries, default=0) + 1

    def _redriven(self, offset: int, record: Record) -> None:
        self.status, self.finished_us = Status.RUNNING, None
        self._errors.pop(record[1], None)
        _, _, time_us, _, event_id, name, version, data, key = record[:9]
        if event_id is not None:
            self.events.append(
                EventView(offset, event_id, name, version, key, None, None, None, time_us, readable(data))
            )

    def _settled(self, _offset: int, record: Record) -> None:
        self._settled_by_hand.add(record[1])

    def _name(self, number: int, step: str) -> None:
        """A delivery that failed before any attempt of it: its step never came up."""
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


_FOLDS: Mapping[int, Callable[[RunHistory, int, Record], None]] = {
    RecordKind.RUN: RunHistory._begin,  # noqa: SLF001 - the table of this class
    RecordKind.EVENT: RunHistory._event,  # noqa: SLF001
    RecordKind.ATTEMPT: RunHistory._attempt,  # noqa: SLF001
    RecordKind.DONE: RunHistory._done,  # noqa: SLF001
    RecordKind.FAILED: RunHistory._failed,  # noqa: SLF001
    RecordKind.RELEASED: RunHistory._released,  # noqa: SLF001
    RecordKind.CRASHED: RunHistory._crashed,  # noqa: SLF001
    RecordKind.ENDED: RunHistory._ended,  # noqa: SLF001
    RecordKind.REVIVED: RunHistory._revived,  # noqa: SLF001
    RecordKind.COMPENSATING: RunHistory._undoing,  # noqa: SLF001
    RecordKind.REDRIVEN: RunHistory._redriven,  # noqa: SLF001
    RecordKind.SETTLED: RunHistory._settled,  # noqa: SLF001
}
