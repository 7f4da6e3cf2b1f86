"""RunHistory: records of a run become what people are shown."""

from collections.abc import Sequence
from typing import Any

from ensue.events.model.codec import pack
from ensue.events.model.failure import FailureKind
from ensue.events.state.records import (
    AttemptRecord,
    CompensatingRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    NewRecord,
    Record,
    RecordKind,
    ReleasedRecord,
    RevivedRecord,
    RunRecord,
    pack_records,
)
from ensue.events.state.run_status import Status
from ensue.events.views.run_history import RunHistory, read_history

RUN_ID = bytes(15) + b"\x01"
FIRST, SECOND, THIRD = (bytes(15) + bytes([number]) for number in (10, 11, 12))


def _event(event_id: bytes, name: str, cause: bytes = b"", delivery: int = 0, data: Any = None) -> EventRecord:
    return EventRecord(
        RecordKind.EVENT,
        event_id,
        name,
        1,
        pack(data or {"order_id": "o-1"}),
        None,
        cause,
        delivery,
        0,
        100,
        False,
    )


def _attempt(delivery: int, step: str, *inputs: bytes, attempt: int = 1) -> Record:
    return AttemptRecord(RecordKind.ATTEMPT, delivery, step, attempt, 110, list(inputs))


def _failed(delivery: int, attempt: int, retry_at_us: int | None) -> Record:
    return FailedRecord(
        RecordKind.FAILED, delivery, attempt, "transient", "OSError", "no line", "trace", 130, retry_at_us
    )


BEGIN: list[Record] = [
    RunRecord(RecordKind.RUN, RUN_ID, "orders", "v1", "hooks/shop", "d-1"),
    _event(FIRST, "OrderPlaced"),
]
CHAIN: list[Record] = [
    *BEGIN,
    _attempt(1, "charge", FIRST),
    _event(SECOND, "Charged", FIRST, 1),
    DoneRecord(RecordKind.DONE, 1, 1, 1, 150, 40, False),
    _attempt(2, "ship", SECOND),
    _event(THIRD, "Shipped", SECOND, 2),
    DoneRecord(RecordKind.DONE, 2, 1, 1, 190, 60, False),
    EndedRecord(RecordKind.ENDED, int(Status.COMPLETED), 200),
]


def _history(records: Sequence[NewRecord]) -> RunHistory:
    return read_history([(7, pack_records(records))])


def test_a_completed_run_has_status_trigger_times_and_its_last_event_as_result() -> None:
    view = _history(CHAIN).view()
    assert (view.id, view.pipeline, view.version, view.status) == (RUN_ID, "orders", "v1", Status.COMPLETED)
    assert (view.started_us, view.finished_us) == (100, 200)
    assert view.trigger is not None
    assert (view.trigger.event.type, view.trigger.source, view.trigger.sender_id) == (
        "OrderPlaced",
        "hooks/shop",
        "d-1",
    )
    assert [event.type for event in view.results] == ["Shipped"]
    assert view.errors == []


def test_an_event_knows_its_offset_its_step_its_cause_and_its_attempt() -> None:
    events = _history(CHAIN).events
    assert [(event.offset, event.step, event.attempt, event.cause) for event in events] == [
        (8, None, None, None),
        (10, "charge", 1, FIRST),
        (13, "ship", 1, SECOND),
    ]
    assert events[0].data == {"order_id": "o-1"}


def test_offsets_go_on_from_each_entrys_own() -> None:
    halves = [(7, pack_records(CHAIN[:3])), (40, pack_records(CHAIN[3:]))]
    assert [event.offset for event in read_history(halves).events] == [8, 40, 43]


def test_steps_are_counted_and_timed() -> None:
    charge, ship = _history(CHAIN).view().steps
    assert (charge.name, charge.attempts, charge.done, charge.emitted, charge.running) == ("charge", 1, 1, 1, 0)
    assert (ship.duration_us, ship.mean_duration_us) == (60, 60.0)


def test_a_retry_counts_as_retried_and_leaves_no_error() -> None:
    records = [*BEGIN, _attempt(1, "charge", FIRST), _failed(1, 1, 500), _attempt(1, "charge", FIRST, attempt=2)]
    view = _history(records).view()
    step = view.steps[0]
    assert (step.attempts, step.retried, step.failed, step.running) == (2, 1, 0, 1)
    assert view.errors == []
    assert view.status is Status.RUNNING


def test_a_step_that_gave_up_is_an_error_and_its_failure_event_no_result() -> None:
    failure = _event(SECOND, "ensue.step_failed", FIRST, 1)
    records = [
        *BEGIN,
        _attempt(1, "charge", FIRST),
        _failed(1, 1, None),
        failure,
        EndedRecord(RecordKind.ENDED, int(Status.FAILED), 200),
    ]
    view = _history(records).view()
    (error,) = view.errors
    assert (error.step, error.error, error.message, error.attempts, error.event_id) == (
        "charge",
        "OSError",
        "no line",
        1,
        FIRST,
    )
    assert view.results == []
    assert (view.steps[0].failed, view.steps[0].emitted) == (1, 0)


def test_a_crash_is_retried_and_a_handed_back_attempt_does_not_count() -> None:
    crash = CrashedRecord(RecordKind.CRASHED, 1, 1, "signal 9", 130, 500)
    records = [*BEGIN, _attempt(1, "charge", FIRST), crash, _attempt(1, "charge", FIRST, attempt=2)]
    released = _history([*records, ReleasedRecord(RecordKind.RELEASED, 1, 2, 140)]).view().steps[0]
    assert (released.attempts, released.retried, released.running) == (1, 1, 0)
    gave_up = _history([*BEGIN, _attempt(1, "charge", FIRST), crash._replace(retry_us=None)]).view().errors[0]
    assert (gave_up.kind, gave_up.message) == (FailureKind.UNKNOWN, "signal 9")


def test_a_revived_run_is_running_again_without_its_errors() -> None:
    failed = [
        *BEGIN,
        _attempt(1, "charge", FIRST),
        _failed(1, 1, None),
        EndedRecord(RecordKind.ENDED, int(Status.FAILED), 200),
    ]
    again = [
        RevivedRecord(RecordKind.REVIVED, 300),
        _attempt(1, "charge", FIRST),
        DoneRecord(RecordKind.DONE, 1, 1, 0, 350, 40, False),
    ]
    view = _history([*failed, *again]).view()
    assert (view.status, view.finished_us, view.errors) == (Status.RUNNING, None, [])
    assert (view.steps[0].failed, view.steps[0].done) == (0, 1)


def test_what_the_pipeline_hears_decides_the_results_where_it_is_known() -> None:
    half_way = CHAIN[:4]
    assert _history(half_way).view().results == []
    assert [event.type for event in _history(half_way).view({"OrderPlaced"}.__contains__).results] == ["Charged"]
    joined = [*CHAIN[:-3], CHAIN[-1]]
    assert _history(joined).view({"OrderPlaced", "Charged"}.__contains__).results == []


def test_an_unheard_trigger_is_its_own_result() -> None:
    view = _history([*BEGIN, EndedRecord(RecordKind.ENDED, int(Status.COMPLETED), 200)]).view()
    assert [event.type for event in view.results] == ["OrderPlaced"]


def test_bytes_are_shown_as_base64_and_what_is_no_event_as_it_is() -> None:
    events = _history([BEGIN[0], _event(FIRST, "Blob", data={"raw": b"\x00\xff", "list": [b"a"], "n": {1: 2}})]).events
    assert events[0].data == {"raw": "AP8=", "list": ["YQ=="], "n": {"1": 2}}
    broken = [BEGIN[0], _event(FIRST, "Blob")._replace(data=b"\xc1")]
    assert _history(broken).events[0].data == "wQ=="


def test_records_of_a_newer_kind_and_fields_that_trail_are_passed_over() -> None:
    records = [*BEGIN[:1], (*BEGIN[1], "more"), (99, "new"), *CHAIN[2:]]
    assert _history(records).view().status is Status.COMPLETED


def test_no_records_are_no_run_yet() -> None:
    view = RunHistory().view()
    assert (view.trigger, view.started_us, view.results) == (None, 0, [])


def test_what_a_compensation_emits_is_a_result_although_a_step_hears_its_type() -> None:
    undoing: list[Record] = [
        *BEGIN,
        _attempt(1, "charge", FIRST),
        _event(SECOND, "Charged", FIRST, 1),
        DoneRecord(RecordKind.DONE, 1, 1, 1, 150, 40, False),
        _attempt(2, "ship", SECOND),
        _failed(2, 1, None),
        CompensatingRecord(RecordKind.COMPENSATING, 160),
        _attempt(3, "refund", FIRST),
        _event(THIRD, "Charged", FIRST, 3),
        DoneRecord(RecordKind.DONE, 3, 1, 1, 190, 60, False),
        EndedRecord(RecordKind.ENDED, int(Status.COMPENSATED), 200),
    ]
    history = _history(undoing)
    assert [event.id for event in history.view({"OrderPlaced", "Charged"}.__contains__).results] == [THIRD]
    assert [event.id for event in history.view().results] == [THIRD]
