"""What was tried for a delivery, as its records tell it; and times as people type them."""

from datetime import UTC, datetime, timedelta

import pytest

from ensue.events.state.records import Record, RecordKind, pack_records
from ensue.events.views.attempts import read_attempts
from ensue.gateway.cli.exit_codes import WrongUse
from ensue.gateway.cli.times import ago, moment_of, seconds_of

FIRST, OTHER = b"1" * 16, b"2" * 16


def _attempt(number: int, time_us: int, *inputs: bytes, delivery: int = 1) -> Record:
    return [RecordKind.ATTEMPT, delivery, "charge", number, time_us, list(inputs)]


def test_each_attempt_ends_as_its_record_says() -> None:
    records: list[Record] = [
        _attempt(1, 10, FIRST),
        [RecordKind.FAILED, 1, 1, "transient", "E", "m", "a trace", 20, 30, "charge"],
        _attempt(2, 30, FIRST),
        [RecordKind.CRASHED, 1, 2, "SIGSEGV", 40, 50],
        _attempt(3, 50, FIRST),
        [RecordKind.DONE, 1, 3, 0, 60, 10, False],
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
    records = [_attempt(1, 10, FIRST), [RecordKind.RELEASED, 1, 1, 20], _attempt(1, 30, FIRST)]
    assert [one.started_us for one in read_attempts([pack_records(records)], 1).attempts] == [30]


def test_a_step_that_never_came_up_fails_without_an_attempt() -> None:
    failed = [RecordKind.FAILED, 1, 0, "permanent", "StepBroken", "no such module", "", 20, None, "charge"]
    (attempt,) = read_attempts([pack_records([failed])], 1).attempts
    assert (attempt.number, attempt.outcome, attempt.error) == (0, "failed", "StepBroken")


def test_other_deliveries_and_kinds_from_a_newer_ensue_are_passed_over() -> None:
    records = [_attempt(1, 10, OTHER, delivery=2), [99, 1, "?"], _attempt(1, 20, FIRST)]
    tried = read_attempts([pack_records(records)], 1)
    assert ([one.started_us for one in tried.attempts], tried.inputs) == ([20], [FIRST])


def test_an_edited_event_stands_behind_the_one_whose_place_it_takes() -> None:
    edit = [RecordKind.REDRIVEN, 1, 30, "alice", OTHER, "Placed", 1, b"", None]
    plain = [RecordKind.REDRIVEN, 1, 40, "alice", None, None, None, None, None]
    tried = read_attempts([pack_records([_attempt(1, 10, FIRST), edit, plain, _attempt(1, 50, OTHER)])], 1)
    assert tried.inputs == [FIRST, OTHER]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90", 90),
        ("500ms", 0.5),
        ("10m", 600),
        ("10 min", 600),
        ("2h", 7200),
        ("1.5h", 5400),
        ("7d", 604_800),
    ],
)
def test_a_length_of_time_is_a_number_and_its_unit(text: str, seconds: float) -> None:
    assert seconds_of(text, "--for") == seconds


@pytest.mark.parametrize("text", ["", "0s", "-5m", "soon", "5w", "1e3s", "nan", "9" * 30 + "d", "2h30m"])
def test_what_is_no_length_says_how_to_write_one(text: str) -> None:
    with pytest.raises(WrongUse, match=r"--for .* is no length of time: write 90s"):
        seconds_of(text, "--for")


def test_a_moment_is_how_long_ago_or_a_time() -> None:
    assert moment_of("2026-05-04T09:00Z", "--since") == datetime(2026, 5, 4, 9, tzinfo=UTC)
    assert moment_of("2026-05-04T09:00+02:00", "--since") == datetime(2026, 5, 4, 7, tzinfo=UTC)
    assert ago(moment_of("2h", "--since")) == "2 h ago"
    assert ago(datetime.now(UTC) + timedelta(hours=1)) == "0 s ago"
    with pytest.raises(WrongUse, match="--since 'soon' is no time"):
        moment_of("soon", "--since")
