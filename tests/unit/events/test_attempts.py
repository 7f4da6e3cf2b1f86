"""The attempts of a delivery, read from its records."""

from ensue.events.state.records import (
    AttemptRecord,
    CrashedRecord,
    DoneRecord,
    FailedRecord,
    Record,
    RecordKind,
    RedrivenRecord,
    ReleasedRecord,
    pack_records,
)
from ensue.events.views.attempts import read_attempts

FIRST, OTHER = b"1" * 16, b"2" * 16


def _attempt(number: int, time_us: int, *inputs: bytes, delivery: int = 1) -> Record:
    return AttemptRecord(RecordKind.ATTEMPT, delivery, "charge", number, time_us, list(inputs))


def test_each_attempt_ends_as_its_record_says() -> None:
    records: list[Record] = [
        _attempt(1, 10, FIRST),
        FailedRecord(RecordKind.FAILED, 1, 1, "transient", "E", "m", "a trace", 20, 30, "charge"),
        _attempt(2, 30, FIRST),
        CrashedRecord(RecordKind.CRASHED, 1, 2, "SIGSEGV", 40, 50),
        _attempt(3, 50, FIRST),
        DoneRecord(RecordKind.DONE, 1, 3, 0, 60, 10, False),
        _attempt(4, 70, FIRST),
    ]
    tried = read_attempts([pack_records(records[:3]), pack_records(records[3:])], 1)
    assert [(one.number, one.outcome, one.ended_us, one.retry_us) for one in tried.attempts] == [
        (1, "failed", 20, 30),
        (2, "crashed", 40, 50),
        (3, "done", 60, None),
        (4, "running", None, None),
    ]
    assert (tried.attempts[0].trace, tried.attempts[1].message) == ("a trace", "SIGSEGV")


def test_an_attempt_that_was_handed_back_unrun_is_left_out() -> None:
    records = [_attempt(1, 10, FIRST), ReleasedRecord(RecordKind.RELEASED, 1, 1, 20), _attempt(1, 30, FIRST)]
    assert [one.started_us for one in read_attempts([pack_records(records)], 1).attempts] == [30]


def test_a_step_that_never_came_up_fails_without_an_attempt() -> None:
    failed = FailedRecord(RecordKind.FAILED, 1, 0, "permanent", "StepBroken", "no such module", "", 20, None, "charge")
    (attempt,) = read_attempts([pack_records([failed])], 1).attempts
    assert (attempt.number, attempt.outcome, attempt.error) == (0, "failed", "StepBroken")


def test_other_deliveries_and_kinds_from_a_newer_ensue_are_passed_over() -> None:
    records = [_attempt(1, 10, OTHER, delivery=2), (99, 1, "?"), _attempt(1, 20, FIRST)]
    tried = read_attempts([pack_records(records)], 1)
    assert ([one.started_us for one in tried.attempts], tried.inputs) == ([20], [FIRST])


def test_an_edited_event_stands_behind_the_one_whose_place_it_takes() -> None:
    edit = RedrivenRecord(RecordKind.REDRIVEN, 1, 30, "alice", OTHER, "Placed", 1, b"", None)
    plain = RedrivenRecord(RecordKind.REDRIVEN, 1, 40, "alice", None, None, None, None, None)
    tried = read_attempts([pack_records([_attempt(1, 10, FIRST), edit, plain, _attempt(1, 50, OTHER)])], 1)
    assert tried.inputs == [FIRST, OTHER]
