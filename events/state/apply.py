"""Apply: what each kind of record changes in the state of a run.

Rules: this is the one table of the protocol. A decision records through it, and replay reads through it, so a restart
leads to the state that was in memory. A row neither records nor commands; deliveries that became ready are left in
`State.fresh`. A row unpacks its record, which is a plain tuple while it is being written.
"""

from collections.abc import Callable
from typing import Any

from ..model.failure import Failure
from ..pipelines.plan import Plan
from . import keys, transitions
from .records import (
    AttemptRecord,
    CancellingRecord,
    CompensatingRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    NewRecord,
    RecordKind,
    RedrivenRecord,
    ReleasedRecord,
    RevivedRecord,
    RunRecord,
    SettledRecord,
)
from .run_status import Status
from .state import Delivery, DeliveryStatus, Ref, Run, State

__all__ = ["APPLY", "begin_run"]

_LEASED = DeliveryStatus.LEASED
_STATUSES = {int(status): status for status in Status}
"""As `Status(number)`, which takes ten times as long."""


def begin_run(state: State, plan: Plan, record: RunRecord | NewRecord) -> Run:
    """The run that a RUN record begins; its trigger follows as an EVENT record."""
    _, run_id, _, _, _, _ = record
    return transitions.begin(state, run_id, plan)


def _run(_state: State, _run: Run, _record: RunRecord) -> None:
    """`begin_run` has made the run."""


def _event(state: State, run: Run, record: EventRecord) -> None:
    _, event_id, type_, version, data, key, _, number, index, time_us, many = record
    ref = Ref(event_id, type_, version, data, key, None)
    if number == 0:
        transitions.trigger(state, run, ref, time_us)
    elif index >= 0:
        transitions.emitted(state, run.deliveries[number], ref, many)
    else:
        transitions.failed(state, run.deliveries[number], ref)


def _attempt(_state: State, run: Run, record: AttemptRecord) -> None:
    _, number, _, attempt, time_us, _ = record
    delivery = run.deliveries[number]
    if delivery.status is _LEASED:
        delivery.engine_losses += 1
    else:
        run.leased += 1
    delivery.status = _LEASED
    delivery.attempt = attempt
    if not delivery.first_us:
        delivery.first_us = time_us
        if delivery.step.compensation is not None:
            transitions.register(delivery, delivery.step.compensation)


def _done(state: State, run: Run, record: DoneRecord) -> None:
    _, number, _, _, _, _, many = record
    transitions.complete(state, run.deliveries[number], many)


def _failed(state: State, run: Run, record: FailedRecord) -> None:
    _, number, _, kind, error, message, trace, _, retry_us, _, _ = record
    delivery = run.deliveries[number]
    if retry_us is None:
        transitions.gave_up(delivery, Failure(kind, error, message, trace))
    else:
        _wait(state, delivery, retry_us)


def _released(state: State, run: Run, record: ReleasedRecord) -> None:
    _, number, _, _ = record
    delivery = run.deliveries[number]
    delivery.attempt -= 1
    keys.release(delivery, DeliveryStatus.READY)
    keys.ready(state, delivery)


def _crashed(state: State, run: Run, record: CrashedRecord) -> None:
    _, number, _, _, _, retry_us = record
    delivery = run.deliveries[number]
    delivery.crashes += 1
    _wait(state, delivery, retry_us or 0)


def _wait(state: State, delivery: Delivery, due_us: int) -> None:
    """Another attempt is due at this time, unless the run halts."""
    keys.release(delivery, DeliveryStatus.WAITING)
    delivery.due_us = due_us
    delivery.engine_losses = 0
    if delivery.run.phase and delivery is not delivery.run.compensating:
        keys.park(state, delivery)


def _ended(state: State, run: Run, record: EndedRecord) -> None:
    _, status, _ = record
    transitions.finish(state, run, _STATUSES[status])


def _revived(state: State, run: Run, record: RevivedRecord) -> None:
    _, _, discarded = record
    run.status = Status.RUNNING
    transitions.revive(state, run, discarded)


def _cancelling(state: State, run: Run, _record: CancellingRecord) -> None:
    transitions.cancel(state, run)


def _compensating(state: State, run: Run, _record: CompensatingRecord) -> None:
    transitions.begin_compensating(state, run)


def _redriven(state: State, run: Run, record: RedrivenRecord) -> None:
    _, number, _, _, event_id, type_, version, data, key, _, discarded = record
    delivery = run.deliveries[number]
    replacement: Ref | None = None
    if event_id is not None:
        replacement = Ref(event_id, type_ or "", version or 0, data or b"", key, delivery.scope)
    run.status = Status.RUNNING
    transitions.redrive(state, run, delivery, replacement, discarded)


def _settled(state: State, run: Run, record: SettledRecord) -> None:
    _, number, _, _ = record
    transitions.discard(state, run.deliveries[number])


_ROWS: dict[RecordKind, Callable[[State, Run, Any], None]] = {
    RecordKind.RUN: _run,
    RecordKind.EVENT: _event,
    RecordKind.ATTEMPT: _attempt,
    RecordKind.DONE: _done,
    RecordKind.FAILED: _failed,
    RecordKind.RELEASED: _released,
    RecordKind.CRASHED: _crashed,
    RecordKind.ENDED: _ended,
    RecordKind.REVIVED: _revived,
    RecordKind.CANCELLING: _cancelling,
    RecordKind.COMPENSATING: _compensating,
    RecordKind.REDRIVEN: _redriven,
    RecordKind.SETTLED: _settled,
}
APPLY = [_ROWS[kind] for kind in sorted(RecordKind)]
"""The transition of each kind of record, by the number of the kind."""
