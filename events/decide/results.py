"""Results: what follows if an attempt is done, failed, was handed back, or its worker's process ended.

Rules: each outcome is one record, with an EVENT record for each event that it emits. An event that an earlier attempt
of the delivery has emitted is not recorded again.
"""

from typing import Any, cast

from ..errors import CodecError
from ..ids import derived_id, format_id
from ..model.codec import MAX_DEPTH, MAX_EVENT_BYTES, is_deeper, pack, unpack
from ..model.failure import Failure, FailureKind
from ..pipelines.plan import FAILED_TYPE
from ..state.new_records import crashed_record, done_record, event_record, failed_record, released_record
from ..state.records import FAILURE_INDEX, NewRecord
from ..state.run_status import Status
from ..state.state import Delivery, Ref
from . import dead_letters
from .decision_builder import DecisionBuilder
from .inputs import Completion

__all__ = ["crashed", "done", "emitted", "failed", "failure_of", "give_up", "input_ids", "released", "timed_out"]

_SECOND_US = 1_000_000
_CRASH_WAIT_SECONDS = 1.0
_MOST_WAIT_SECONDS = 366 * 86_400.0
"""The longest wait before a retry: a `Retry-After` header may say anything."""
_MOST_QUOTED_BYTES = MAX_EVENT_BYTES // 2
"""A larger input is not quoted in the `StepFailed` about it, which has to fit into an event itself."""


def done(builder: DecisionBuilder, delivery: Delivery, item: Completion) -> None:
    """An attempt returned: `item` is [DONE, token, duration_us, outputs, as a list]."""
    if item[2].__class__ is not int:
        raise TypeError(f"a duration of {ascii(item[2])[:40]}")
    many = bool(item[4])
    if item[3]:
        emitted(builder, delivery, 0, item[3], many=many)
    record = done_record(delivery.number, delivery.attempt, delivery.emitted, builder.now_us, item[2], many)
    if delivery.step.pivot:  # deliveries with keys may run again, in the order of the log
        builder.record_keyed(delivery.run, record)
    else:
        builder.record(delivery.run, record)


def emitted(builder: DecisionBuilder, delivery: Delivery, first: int, outputs: list[list[Any]], *, many: bool) -> None:
    """Record what a delivery emitted; skip what an earlier attempt has emitted."""
    run, step, now_us, number = delivery.run, delivery.step, builder.now_us, delivery.number
    cause = _cause(delivery)
    for index, (type_, version, data, key) in enumerate(outputs, first):
        if index < delivery.emitted:
            continue
        if not (data.__class__ is bytes and type_.__class__ is str and version.__class__ is int):
            raise TypeError(f"an event of type {ascii(type_)[:40]} with data of type {type(data).__name__}")
        if key is not None and key.__class__ is not str:
            raise TypeError(f"a key of type {type(key).__name__}")
        event_id = derived_id(cause, step.name, index) if step.single else _derived(delivery, cause, index)
        record = event_record(event_id, type_, version, data, key, cause, number, index, now_us, many)
        if key is None:
            builder.record(run, record)
        else:
            builder.record_keyed(run, record)


def failure_of(item: Completion) -> Failure:
    """The failure in a completion. Raises `TypeError` if a part of it is not text."""
    failure = Failure(*item[2:6])
    if not all(isinstance(part, str) for part in failure):
        raise TypeError("a failure whose parts are not text")
    return failure


def failed(builder: DecisionBuilder, delivery: Delivery, failure: Failure, wait_seconds: float | None) -> None:
    """An attempt failed: another one follows after the wait; if there is none, the step gives up."""
    if wait_seconds is None:
        give_up(builder, delivery, failure)
        return
    due_us = builder.now_us + int(max(0.0, min(wait_seconds, _MOST_WAIT_SECONDS)) * _SECOND_US)
    builder.record(delivery.run, _failed_record(delivery, failure, builder.now_us, due_us))
    builder.schedule(delivery)


def give_up(builder: DecisionBuilder, delivery: Delivery, failure: Failure) -> None:
    """No more attempts: the failure becomes an event, and the run goes on if a step handles it."""
    run, now_us = delivery.run, builder.now_us
    builder.record(run, _failed_record(delivery, failure, now_us, None))
    cause = _cause(delivery)
    event_id = _derived(delivery, cause, FAILURE_INDEX - delivery.redrives)
    data = pack(_failure_fields(delivery, failure))
    builder.record(
        run,
        event_record(event_id, FAILED_TYPE, 1, data, None, cause, delivery.number, FAILURE_INDEX, now_us, many=False),
    )
    if delivery is run.compensating:
        builder.announce(dead_letters.add_blocked(builder.decision, delivery, failure))
        builder.change(run, Status.WAITING)


def released(builder: DecisionBuilder, delivery: Delivery) -> None:
    """An attempt was handed back, or ended for a reason that is not its own: it does not count."""
    builder.record(delivery.run, released_record(delivery.number, delivery.attempt, builder.now_us))


def timed_out(builder: DecisionBuilder, delivery: Delivery) -> None:
    """An attempt ran out of time, and only the end of its process could stop it."""
    step = delivery.step.step
    text = f"did not return within {step.timeout_seconds:g} s; its process was ended"
    wait, note = _outlook(builder, delivery, TimeoutError)
    failed(builder, delivery, Failure(FailureKind.TIMEOUT, "TimeoutError", text + note), wait)


def crashed(builder: DecisionBuilder, delivery: Delivery, message: str, most: int) -> None:
    """The worker's process ended during an attempt; after `most` such attempts the step gives up."""
    crashes = delivery.crashes + 1
    wait, note = _outlook(builder, delivery)
    if crashes >= most or wait is None:
        text = f"{message} ({crashes} of its attempts ended with the process){note}"
        give_up(builder, delivery, Failure(FailureKind.UNKNOWN, "WorkerDied", text))
        return
    due_us = builder.now_us + int(min(wait, _CRASH_WAIT_SECONDS) * _SECOND_US)
    builder.record(delivery.run, crashed_record(delivery.number, delivery.attempt, message, builder.now_us, due_us))
    builder.schedule(delivery)


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
    """The wait before the next attempt; or None, and the end of the message if the deadline is the reason."""
    elapsed_seconds = (builder.now_us - delivery.first_us) / _SECOND_US
    return delivery.step.step.retry.outlook(delivery.attempt, delivery.run.run_id, elapsed_seconds, kind)


def _cause(delivery: Delivery) -> bytes:
    """The id of the event that a delivery is made of, the last one of several; empty if there is none."""
    if delivery.step.single:
        return delivery.inputs[0].event_id  # type: ignore[union-attr]  # a single input is one event
    ref = delivery.last_ref
    return ref.event_id if ref is not None else b""


def _derived(delivery: Delivery, cause: bytes, index: int) -> bytes:
    if delivery.step.single:
        return derived_id(cause, delivery.step.name, index)
    return derived_id(delivery.run.run_id, f"{delivery.step.name}#{delivery.number}", index)


def _failed_record(delivery: Delivery, failure: Failure, now_us: int, retry_us: int | None) -> NewRecord:
    handled = bool(delivery.run.plan.handlers_of(delivery.step))
    step = delivery.step.name
    return failed_record(delivery.number, delivery.attempt, *failure, now_us, retry_us, step, handled)


def _quoted(cause: Ref | None) -> tuple[dict[str, Any], bool]:
    """The fields of an event as its failure quotes them, and whether they are left out: too large, or not readable."""
    if cause is None:
        return {}, False
    if len(cause.data) > _MOST_QUOTED_BYTES:
        return {}, True
    try:
        fields = cast("dict[str, Any]", unpack(cause.data))
        if isinstance(fields, dict) and not is_deeper(fields, MAX_DEPTH - 1):  # type: ignore[redundant-expr]
            return fields, False
    except CodecError:
        pass  # the step that takes it has failed for that reason
    return {}, True


def _failure_fields(delivery: Delivery, failure: Failure) -> dict[str, Any]:
    """The fields of the `StepFailed` about a delivery."""
    cause = delivery.last_ref
    data, omitted = _quoted(cause)
    return {
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
