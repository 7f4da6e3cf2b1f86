"""Results: what follows when an attempt is done, failed, was handed back, or died with its process."""

from typing import Any, cast

from ..ids import derived_id, format_id
from ..model.codec import MAX_DEPTH, MAX_EVENT_BYTES, is_deeper, pack, unpack
from ..model.failure import Failure, FailureKind
from ..pipelines.plan import FAILED_TYPE
from ..state import keys, transitions
from ..state.records import FAILURE_INDEX, Record, RecordKind
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Ref
from . import dead_letters as letters
from .decision_builder import DecisionBuilder
from .inputs import Completion

__all__ = ["crashed", "done", "emitted", "event_record", "failed", "give_up", "input_ids", "released", "timed_out"]

EVENT, DONE, FAILED = int(RecordKind.EVENT), int(RecordKind.DONE), int(RecordKind.FAILED)
RELEASED, CRASHED = int(RecordKind.RELEASED), int(RecordKind.CRASHED)
_SECOND_US = 1_000_000
_CRASH_WAIT_SECONDS = 1.0
_MOST_WAIT_SECONDS = 366 * 86_400.0
"""A longer wait before a retry is cut to this: a `Retry-After` from outside may say anything."""
_MOST_QUOTED_BYTES = MAX_EVENT_BYTES // 2
"""A larger input is not quoted in the `StepFailed` about it, which has to fit into an event itself."""


def done(builder: DecisionBuilder, delivery: Delivery, item: Completion) -> None:
    """An attempt returned: `item` is [DONE, token, duration_us, outputs, as a list]."""
    many = bool(item[4])
    if item[3]:
        emitted(builder, delivery, 0, item[3], many=many)
    record: Record = [DONE, delivery.number, delivery.attempt, delivery.emitted, builder.now_us, item[2], many]
    if delivery.step.pivot:  # deliveries with keys may run again, in the order of the log
        builder.record_keyed(delivery.run, record)
    else:
        builder.record(delivery.run, record)
    transitions.complete(builder.state, delivery, many=many)


def emitted(builder: DecisionBuilder, delivery: Delivery, first: int, outputs: list[list[Any]], *, many: bool) -> None:
    """Record and route what a delivery emitted; what an earlier attempt emitted already is passed over."""
    run = delivery.run
    cause = _cause(delivery)
    for index, (type_, version, data, key) in enumerate(outputs, first):
        if index < delivery.emitted:
            continue
        ref = Ref(_derived(delivery, cause, index), type_, version, data, key, None)
        record = event_record(ref, cause, delivery.number, index, builder.now_us, many=many)
        if key is None:
            builder.record(run, record)
        else:
            builder.record_keyed(run, record)
        transitions.emitted(builder.state, delivery, ref, many=many)


def failed(builder: DecisionBuilder, delivery: Delivery, failure: Failure, wait_seconds: float | None) -> None:
    """An attempt failed: it is tried again after the wait, or given up where there is none."""
    if wait_seconds is None:
        give_up(builder, delivery, failure)
        return
    due_us = builder.now_us + int(min(wait_seconds, _MOST_WAIT_SECONDS) * _SECOND_US)
    builder.record(delivery.run, _failed_record(delivery, failure, builder.now_us, due_us))
    builder.wait(delivery, due_us)


def give_up(builder: DecisionBuilder, delivery: Delivery, failure: Failure) -> None:
    """No more attempts: the failure becomes an event, and the run goes on where something hears it."""
    run = delivery.run
    builder.record(run, _failed_record(delivery, failure, builder.now_us, None))
    transitions.blame(delivery, failure)
    ref = _failure_event(delivery, failure)
    builder.record(run, event_record(ref, _cause(delivery), delivery.number, FAILURE_INDEX, builder.now_us, many=False))
    transitions.failed(builder.state, delivery, ref)
    if delivery is run.compensating:
        builder.announce(letters.block(builder.decision, delivery, failure))
        builder.change(run, Status.WAITING)


def released(builder: DecisionBuilder, delivery: Delivery) -> None:
    """An attempt was handed back unrun, or was cut short by an end that was not its fault: it does not count."""
    builder.record(delivery.run, [RELEASED, delivery.number, delivery.attempt, builder.now_us])
    delivery.attempt -= 1
    keys.release(delivery, DeliveryStatus.READY)
    keys.ready(builder.state, delivery)


def timed_out(builder: DecisionBuilder, delivery: Delivery) -> None:
    """An attempt ran out of time and could be stopped only by ending its process."""
    step = delivery.step.step
    text = f"did not return within {step.timeout_seconds:g} s; its process was ended"
    wait, note = _outlook(builder, delivery, TimeoutError)
    failed(builder, delivery, Failure(FailureKind.TIMEOUT, "TimeoutError", text + note), wait)


def crashed(builder: DecisionBuilder, delivery: Delivery, message: str, most: int) -> None:
    """The process died with an attempt in it; `most` deaths are enough."""
    crashes = delivery.crashes + 1
    wait, note = _outlook(builder, delivery)
    if crashes >= most or wait is None:
        text = f"{message} ({crashes} of its attempts ended with the process){note}"
        give_up(builder, delivery, Failure(FailureKind.UNKNOWN, "WorkerDied", text))
        return
    due_us = builder.now_us + int(min(wait, _CRASH_WAIT_SECONDS) * _SECOND_US)
    builder.record(delivery.run, [CRASHED, delivery.number, delivery.attempt, message, builder.now_us, due_us])
    delivery.crashes = crashes
    builder.wait(delivery, due_us)


def event_record(ref: Ref, cause: bytes, delivery: int, index: int, now_us: int, *, many: bool) -> Record:
    """The record of an event."""
    return [EVENT, ref.event_id, ref.type, ref.version, ref.data, ref.key, cause, delivery, index, now_us, many]


def input_ids(delivery: Delivery) -> list[bytes]:
    """The ids of the events that a delivery is made of."""
    if delivery.step.single:
        return [delivery.inputs[0].event_id]  # type: ignore[union-attr]  # a single input is one event
    ids: list[bytes] = []
    for value in delivery.inputs:
        if isinstance(value, Ref):
            ids.append(value.event_id)
        else:
            ids += [ref.event_id for ref in value]
    return ids


def _outlook(
    builder: DecisionBuilder, delivery: Delivery, kind: type[BaseException] | None = None
) -> tuple[float | None, str]:
    """The wait before the next attempt, or None and what the message ends with where it was the deadline."""
    elapsed_seconds = (builder.now_us - delivery.first_us) / _SECOND_US
    return delivery.step.step.retry.outlook(delivery.attempt, delivery.run.run_id, elapsed_seconds, kind)


def _cause(delivery: Delivery) -> bytes:
    ref = delivery.last_ref
    return ref.event_id if ref is not None else b""


def _derived(delivery: Delivery, cause: bytes, index: int) -> bytes:
    if delivery.step.single:
        return derived_id(cause, delivery.step.name, index)
    return derived_id(delivery.run.run_id, f"{delivery.step.name}#{delivery.number}", index)


def _failed_record(delivery: Delivery, failure: Failure, now_us: int, retry_us: int | None) -> Record:
    handled = bool(delivery.run.plan.handlers_of(delivery.step))
    return [FAILED, delivery.number, delivery.attempt, *failure, now_us, retry_us, delivery.step.name, handled]


def _quoted(cause: Ref | None) -> tuple[dict[str, Any], bool]:
    """The fields of an event as its failure quotes them, and whether there are none since they would not fit."""
    if cause is None:
        return {}, False
    if len(cause.data) > _MOST_QUOTED_BYTES:
        return {}, True
    fields = cast("dict[str, Any]", unpack(cause.data))
    return ({}, True) if is_deeper(fields, MAX_DEPTH - 1) else (fields, False)


def _failure_event(delivery: Delivery, failure: Failure) -> Ref:
    cause = delivery.last_ref
    data, omitted = _quoted(cause)
    fields: dict[str, Any] = {
        "step": delivery.step.name,
        "event_type": cause.type if cause else "",
        "event_id": format_id(cause.event_id) if cause else "",
        "data": data,
        "kind": str(failure.kind),
        "error": failure.error,
        "message": failure.message,
        "attempts": delivery.attempt,
        "data_omitted": omitted,
    }
    event_id = _derived(delivery, _cause(delivery), FAILURE_INDEX - delivery.redrives)
    return Ref(event_id, FAILED_TYPE, 1, pack(fields), None, None)
