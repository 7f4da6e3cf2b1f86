"""A breaker opens on failures that count, stays open for its pause, and closes when probes prove that all is well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensue import Breaker
from ensue.events.errors import PipelineInvalid
from ensue.events.policies.breaker import TRANSITIONS, BreakerSignal, BreakerState, BreakerStatus

SECOND = 1_000_000
CLOSED, OPEN, HALF_OPEN = BreakerStatus


def told(breaker: BreakerState, *signals: BreakerSignal | None, now_us: int = 0) -> BreakerStatus:
    for signal in signals:
        if signal is not None:
            assert breaker.move(signal, now_us)
    return breaker.status


def opened(policy: Breaker | None = None) -> BreakerState:
    breaker = BreakerState("a", policy or Breaker())
    assert told(breaker, BreakerSignal.TRIPPED) is OPEN
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    breaker = BreakerState("a", Breaker())
    signals = [breaker.failed("no line", 0) for _ in range(5)]
    assert signals == [None, None, None, None, BreakerSignal.TRIPPED]
    assert breaker.reason == "5 failures in a row, the last: no line"


def test_a_success_breaks_the_row() -> None:
    breaker = BreakerState("a", Breaker(min_calls=100))
    for _ in range(20):
        assert [breaker.failed("x", 0) for _ in range(4)] == [None] * 4
        breaker.succeeded(1, 0, 0)


def test_half_of_ten_calls_failed_opens_it() -> None:
    breaker = BreakerState("a", Breaker(failures_in_row=100))
    breaker.succeeded(5, 0, 0)
    assert [breaker.failed("x", 0) for _ in range(5)] == [None] * 4 + [BreakerSignal.TRIPPED]
    assert breaker.reason == "5 of 10 calls failed within 60 s"


def test_what_is_older_than_the_window_does_not_count() -> None:
    breaker = BreakerState("a", Breaker(failures_in_row=100))
    for _ in range(9):
        breaker.failed("x", 0)
    assert breaker.failed("x", 66 * SECOND) is None
    assert breaker.view((), 0, 66 * SECOND)[6:8] == (1, 1)


def test_slow_calls_open_it_too() -> None:
    breaker = BreakerState("a", Breaker())
    assert breaker.succeeded(9, 9, 0) is None
    assert breaker.succeeded(1, 0, 0) is None
    assert breaker.succeeded(10, 8, 0) is BreakerSignal.TRIPPED
    assert "longer than 30 s" in breaker.reason


def test_one_that_is_not_guarded_never_opens_by_itself() -> None:
    breaker = BreakerState("a", None)
    assert not any(breaker.failed("x", 0) for _ in range(100))


def test_the_open_time_doubles_up_to_its_limit_and_starts_again_after_it_closed() -> None:
    breaker = BreakerState("a", Breaker(jitter=0.0))
    pauses = []
    now_us = 0
    told(breaker, BreakerSignal.TRIPPED, now_us=now_us)
    for _ in range(6):
        assert breaker.until_us is not None
        pauses.append((breaker.until_us - now_us) // SECOND)
        now_us = breaker.until_us
        assert breaker.due(now_us - 1) is None
        told(breaker, breaker.due(now_us), now_us=now_us)
        told(breaker, breaker.failed("x", now_us), now_us=now_us)
    assert pauses == [30, 60, 120, 240, 300, 300]
    now_us = breaker.until_us or 0
    told(breaker, breaker.due(now_us), BreakerSignal.PROVED, BreakerSignal.TRIPPED, now_us=now_us)
    assert breaker.until_us == now_us + 30 * SECOND


def test_jitter_takes_a_tenth_at_most_and_is_the_same_each_time() -> None:
    pauses = [Breaker().pause_us(1, name.encode()) for name in "abcdef"]
    assert all(27 * SECOND < pause <= 30 * SECOND for pause in pauses)
    assert len(set(pauses)) > 1
    assert pauses == [Breaker().pause_us(1, name.encode()) for name in "abcdef"]


def test_three_probes_close_it_and_one_failure_opens_it_again() -> None:
    breaker = opened()
    told(breaker, BreakerSignal.WAITED)
    assert [breaker.succeeded(1, 0, 0) for _ in range(3)] == [None, None, BreakerSignal.PROVED]
    assert told(breaker, BreakerSignal.PROVED) is CLOSED
    told(breaker, BreakerSignal.TRIPPED, BreakerSignal.WAITED)
    assert told(breaker, breaker.failed("x", 0)) is OPEN


@pytest.mark.parametrize(("policy", "after"), [(Breaker(), BreakerSignal.WAITED), (None, BreakerSignal.FORCED_CLOSED)])
def test_an_operator_opens_it_until_it_is_closed_or_for_a_time(policy: Breaker | None, after: BreakerSignal) -> None:
    breaker = BreakerState("a", policy)
    told(breaker, BreakerSignal.FORCED_OPEN)
    assert (breaker.until_us, breaker.due(10**15)) == (None, None)
    breaker.move(BreakerSignal.FORCED_OPEN, 0, seconds=2)
    assert breaker.due(2 * SECOND) is after
    assert told(breaker, BreakerSignal.FORCED_CLOSED) is CLOSED
    assert not breaker.move(BreakerSignal.FORCED_CLOSED, 0)


def test_what_is_stored_is_what_comes_back() -> None:
    breaker = opened()
    breaker.reason = "why"
    again = BreakerState("a", Breaker())
    again.restore(breaker.pack())
    assert again.view(("x",), 3, 0) == breaker.view(("x",), 3, 0)


def test_every_state_can_be_left_and_an_operator_can_always_open() -> None:
    assert {state for state, _ in TRANSITIONS} == set(BreakerStatus)
    assert all((state, BreakerSignal.FORCED_OPEN) in TRANSITIONS for state in BreakerStatus)


def told_of(breaker: BreakerState, what: str, now_us: int) -> BreakerSignal | None:
    if what == "wait":
        return breaker.due(now_us)
    if what == "bad":
        return breaker.failed("x", now_us)
    return breaker.succeeded(1, what == "slow", now_us)


@given(st.lists(st.tuples(st.sampled_from(["ok", "slow", "bad", "wait"]), st.integers(0, 20 * SECOND)), max_size=80))
def test_nothing_but_the_table_moves_it(history: list[tuple[str, int]]) -> None:
    breaker = BreakerState("a", Breaker())
    now_us = 0
    for what, step_us in history:
        now_us += step_us
        before = breaker.status
        signal = told_of(breaker, what, now_us)
        if signal is not None:
            assert breaker.move(signal, now_us)
            assert breaker.status is TRANSITIONS[before, signal]
        assert (breaker.until_us is not None) == (breaker.status is OPEN)


@pytest.mark.parametrize(
    "wrong",
    [{"window_seconds": 0}, {"min_calls": 0}, {"failed_share": 0}, {"slow_share": 2}, {"name": "a/b"}, {"name": ""}],
)
def test_an_invalid_breaker_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PipelineInvalid):
        Breaker(**wrong)  # type: ignore[arg-type]
