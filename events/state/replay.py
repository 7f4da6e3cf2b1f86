"""Replay: the records of the log folded back into the state they came from.

Law: a record changes the state exactly as the decision that wrote it did; both call the same transitions. A run whose
pipeline version is not loaded is left out and named, never guessed at.
"""

from collections.abc import Callable, Mapping

from ..model.failure import Failure
from ..pipelines.plan import Plan
from . import keys, transitions
from .records import Record, RecordKind, added
from .run_status import Status
from .state import Delivery, DeliveryStatus, Ref, Run, State

__all__ = ["fold"]

Runs = dict[int, Run]


def fold(state: State, plans: Mapping[str, Plan], runs: Runs, number: int, records: list[Record]) -> bool:
    """Apply one entry's records to the run of this number; False where its pipeline version is not loaded.

    `runs` maps run numbers to runs, finished ones included, and is filled here.
    """
    for record in records:
        if record[0] == RecordKind.RUN:
            plan = plans.get(record[2])
            if plan is None or plan.version != record[3]:
                return False
            runs[number] = transitions.begin(state, record[1], plan, 0, "")
            runs[number].number = number
            continue
        run = runs.get(number)
        if run is None:
            return False
        _APPLY[record[0]](state, run, record)
    return True


def _event(state: State, run: Run, record: Record) -> None:
    _, event_id, type_, version, data, key, _, number, index, time_us, many = record[:11]
    ref = Ref(event_id, type_, version, data, key, run.root)
    if number == 0:
        run.started_us = time_us
        run.trigger_type = type_
        if not transitions.hear(state, run, ref):
            run.results = [ref]
    elif index >= 0:
        transitions.emitted(state, run.deliveries[number], ref, many=bool(many))
    else:
        transitions.failed(state, run.deliveries[number], ref)


def _attempt(_state: State, run: Run, record: Record) -> None:
    transitions.attempt(run.deliveries[record[1]], record[3], record[4])


def _done(state: State, run: Run, record: Record) -> None:
    transitions.complete(state, run.deliveries[record[1]], many=bool(record[6]))


def _failed(state: State, run: Run, record: Record) -> None:
    delivery = run.deliveries[record[1]]
    if record[8] is None:
        transitions.blame(delivery, Failure(*record[3:7]))
    else:
        _wait(state, delivery, record[8])


def _released(state: State, run: Run, record: Record) -> None:
    delivery = run.deliveries[record[1]]
    delivery.attempt -= 1
    keys.release(delivery, DeliveryStatus.READY)
    keys.ready(state, delivery)


def _crashed(state: State, run: Run, record: Record) -> None:
    delivery = run.deliveries[record[1]]
    delivery.crashes += 1
    _wait(state, delivery, record[5])


def _wait(state: State, delivery: Delivery, due_us: int) -> None:
    keys.release(delivery, DeliveryStatus.WAITING)
    delivery.due_us = due_us
    delivery.engine_losses = 0
    if delivery.run.phase and delivery is not delivery.run.compensating:
        keys.park(state, delivery)


def _ended(state: State, run: Run, record: Record) -> None:
    transitions.finish(state, run, Status(record[1]))


def _revived(state: State, run: Run, record: Record) -> None:
    run.status = Status.RUNNING
    transitions.revive(state, run, added(record, 2, ()))


def _cancelling(state: State, run: Run, _record: Record) -> None:
    transitions.cancel(state, run)


def _undoing(state: State, run: Run, _record: Record) -> None:
    transitions.begin_compensating(state, run)


def _redriven(state: State, run: Run, record: Record) -> None:
    delivery = run.deliveries[record[1]]
    edited = None if record[4] is None else transitions.edited(delivery, record[4:9])
    run.status = Status.RUNNING
    discarded = added(record, 10, ())
    transitions.redrive(state, run, delivery, edited, discarded)


def _settled(state: State, run: Run, record: Record) -> None:
    transitions.discard(state, run.deliveries[record[1]])


_APPLY: dict[int, Callable[[State, Run, Record], None]] = {
    RecordKind.EVENT: _event,
    RecordKind.ATTEMPT: _attempt,
    RecordKind.DONE: _done,
    RecordKind.FAILED: _failed,
    RecordKind.RELEASED: _released,
    RecordKind.CRASHED: _crashed,
    RecordKind.ENDED: _ended,
    RecordKind.REVIVED: _revived,
    RecordKind.CANCELLING: _cancelling,
    RecordKind.COMPENSATING: _undoing,
    RecordKind.REDRIVEN: _redriven,
    RecordKind.SETTLED: _settled,
}
