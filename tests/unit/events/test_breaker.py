"""A circuit opens on failures that count, stays open for its pause, and closes when probes prove that all is well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensue import Breaker
from ensue.events.errors import PipelineInvalid
from ensue.events.policies.breaker import TRANSITIONS, BreakerSignal, BreakerState, BreakerStatus

SECOND = 1_000_000
CLOSED, OPEN, HALF_OPEN = BreakerStatus


def told(circuit: BreakerState, *signals: BreakerSignal | None, now_us: int = 0) -> BreakerStatus:
    for signal in signals:
        if signal is not None:
            assert circuit.move(signal, now_us)
    return circuit.status


def opened(policy: Breaker | None = None) -> BreakerState:
    circuit = BreakerState("a", policy or Breaker())
    assert told(circuit, BreakerSignal.TRIPPED) is OPEN
    return circuit


def test_five_failures_in_a_row_open_it() -> None:
    circuit = BreakerState("a", Breaker())
    signals = [circuit.failed("no line", 0) for _ in range(5)]
    assert signals == [None, None, None, None, BreakerSignal.TRIPPED]
    assert circuit.reason == "5 failures in a row, the last: no line"


def test_a_success_breaks_the_row() -> None:
    circuit = BreakerState("a", Breaker(min_calls=100))
    for _ in range(20):
        assert [circuit.failed("x", 0) for _ in range(4)] == [None] * 4
        circuit.succeeded(1, 0, 0)


def test_half_of_ten_calls_failed_opens_it() -> None:
    circuit = BreakerState("a", Breaker(failures_in_row=100))
    circuit.succeeded(5, 0, 0)
    assert [circuit.failed("x", 0) for _ in range(5)] == [None] * 4 + [BreakerSignal.TRIPPED]
    assert circuit.reason == "5 of 10 calls failed within 60 s"


def test_what_is_older_than_the_window_does_not_count() -> None:
    circuit = BreakerState("a", Breaker(failures_in_row=100))
    for _ in range(9):
        circuit.failed("x", 0)
    assert circuit.failed("x", 66 * SECOND) is None
    assert circuit.view((), 0, 66 * SECOND)[6:8] == (1, 1)


def test_slow_calls_open_it_too() -> None:
    circuit = BreakerState("a", Breaker())
    assert circuit.succeeded(9, 9, 0) is None
    assert circuit.succeeded(1, 0, 0) is None
    assert circuit.succeeded(10, 8, 0) is BreakerSignal.TRIPPED
    assert "longer than 30 s" in circuit.reason


def test_one_that_is_not_guarded_never_opens_by_itself() -> None:
    circuit = BreakerState("a", None)
    assert not any(circuit.failed("x", 0) for _ in range(100))


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_once_it_closed() -> None:
    circuit = BreakerState("a", Breaker(jitter=0.0))
    pauses = []
    now_us = 0
    told(circuit, BreakerSignal.TRIPPED, now_us=now_us)
    for _ in range(6):
        assert circuit.until_us is not None
        pauses.append((circuit.until_us - now_us) // SECOND)
        now_us = circuit.until_us
        assert circuit.due(now_us - 1) is None
        told(circuit, circuit.due(now_us), now_us=now_us)
        told(circuit, circuit.failed("x", now_us), now_us=now_us)
    assert pauses == [30, 60, 120, 240, 300, 300]
    now_us = circuit.until_us or 0
    told(circuit, circuit.due(now_us), BreakerSignal.PROVED, BreakerSignal.TRIPPED, now_us=now_us)
    assert circuit.until_us == now_us + 30 * SECOND


def test_jitter_takes_a_tenth_at_most_and_is_the_same_each_time() -> None:
    pauses = [Breaker().pause_us(1, name.encode()) for name in "abcdef"]
    assert all(27 * SECOND < pause <= 30 * SECOND for pause in pauses)
    assert len(set(pauses)) > 1
    assert pauses == [Breaker().pause_us(1, name.encode()) for name in "abcdef"]


def test_three_probes_close_it_and_one_failure_opens_it_again() -> None:
    circuit = opened()
    told(circuit, BreakerSignal.WAITED)
    assert [circuit.succeeded(1, 0, 0) for _ in range(3)] == [None, None, BreakerSignal.PROVED]
    assert told(circuit, BreakerSignal.PROVED) is CLOSED
    told(circuit, BreakerSignal.TRIPPED, BreakerSignal.WAITED)
    assert told(circuit, circuit.failed("x", 0)) is OPEN


@pytest.mark.parametrize(("policy", "after"), [(Breaker(), BreakerSignal.WAITED), (None, BreakerSignal.FORCED_CLOSED)])
def test_an_operator_opens_it_until_it_is_closed_or_for_a_time(policy: Breaker | None, after: BreakerSignal) -> None:
    circuit = BreakerState("a", policy)
    told(circuit, BreakerSignal.FORCED_OPEN)
    assert (circuit.until_us, circuit.due(10**15)) == (None, None)
    circuit.move(BreakerSignal.FORCED_OPEN, 0, seconds=2)
    assert circuit.due(2 * SECOND) is after
    assert told(circuit, BreakerSignal.FORCED_CLOSED) is CLOSED
    assert not circuit.move(BreakerSignal.FORCED_CLOSED, 0)


def test_what_is_stored_is_what_comes_back() -> None:
    circuit = opened()
    circuit.reason = "why"
    again = BreakerState("a", Breaker())
    again.restore(circuit.pack())
    assert again.view(("x",), 3, 0) == circuit.view(("x",), 3, 0)


def test_every_state_can_be_left_and_an_operator_can_always_open() -> None:
    assert {state for state, _ in TRANSITIONS} == set(BreakerStatus)
    assert all((state, BreakerSignal.FORCED_OPEN) in TRANSITIONS for state in BreakerStatus)


def hear(circuit: BreakerState, what: str, now_us: int) -> BreakerSignal | None:
    if what == "wait":
        return circuit.due(now_us)
    if what == "bad":
        return circuit.failed("x", now_us)
    return circuit.succeeded(1, what == "slow", now_us)


@given(st.lists(st.tuples(st.sampled_from(["ok", "slow", "bad", "wait"]), st.integers(0, 20 * SECOND)), max_size=80))
def test_nothing_but_the_table_moves_it(history: list[tuple[str, int]]) -> None:
    circuit = BreakerState("a", Breaker())
    now_us = 0
    for what, step_us in history:
        now_us += step_us
        before = circuit.status
        signal = hear(circuit, what, now_us)
        if signal is not None:
            assert circuit.move(signal, now_us)
            assert circuit.status is TRANSITIONS[before, signal]
        assert (circuit.until_us is not None) == (circuit.status is OPEN)


@pytest.mark.parametrize(
    "wrong",
    [{"window_seconds": 0}, {"min_calls": 0}, {"failed_share": 0}, {"slow_share": 2}, {"name": "a/b"}, {"name": ""}],
)
def test_a_breaker_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(PipelineInvalid):
        Breaker(**wrong)  # type: ignore[arg-type]
