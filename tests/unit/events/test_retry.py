"""The wait after each attempt, and policies that are refused."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.events.errors import PipelineInvalid
from ensue.events.policies.retry import NO_RETRY, Backoff, Retry, spread

SEED = bytes(range(16))


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (4, 8), (7, 64), (8, 100), (9, 100), (64, 100), (10**9, 100)]
)
def test_the_default_doubles_from_one_second_to_a_hundred(attempt: int, seconds: float) -> None:
    assert Backoff().seconds(attempt, 0.0) == seconds


@pytest.mark.parametrize(("jitter", "fraction", "seconds"), [(1, 0.75, 2), (0.5, 0.5, 6), (0, 0.9, 8), (1, 0, 8)])
def test_jitter_takes_a_share_of_the_wait_away(jitter: float, fraction: float, seconds: float) -> None:
    assert Backoff(jitter=jitter).seconds(4, fraction) == seconds


@settings(max_examples=25)
@given(
    st.builds(
        Backoff,
        first_seconds=st.floats(0, 1e6),
        factor=st.floats(1, 1e300),
        max_seconds=st.floats(0, 1e6),
        jitter=st.floats(0, 1),
    ),
    st.integers(1, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_negative_and_never_over_its_limit(backoff: Backoff, attempt: int, fraction: float) -> None:
    assert 0 <= backoff.seconds(attempt, fraction) <= backoff.max_seconds


@pytest.mark.parametrize(
    "figures",
    [
        {"first_seconds": -1},
        {"first_seconds": math.nan},
        {"max_seconds": math.inf},
        {"factor": 0.5},
        {"factor": math.inf},
        {"jitter": 1.1},
        {"jitter": -0.1},
    ],
)
def test_an_invalid_backoff_is_refused(figures: dict[str, float]) -> None:
    with pytest.raises(PipelineInvalid, match="at least"):
        Backoff(**figures)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"attempts": 0}, "it must be at least 1"),
        ({"attempts": -3}, "it must be at least 1"),
        ({"wait": -1}, "a wait must be at least 0 seconds"),
        ({"wait": math.nan}, "a wait must be at least 0 seconds"),
        ({"wait": math.inf}, "and finite"),
        ({"on": [OSError]}, r"Retry\(on=.*write an exception, a tuple of them"),
        ({"on": (OSError, "x")}, r"Retry\(on="),
        ({"give_up_on": "OSError"}, r"Retry\(give_up_on="),
        ({"deadline": 0}, "a deadline must be more than 0 seconds"),
        ({"deadline": math.nan}, "a deadline must be more than 0 seconds"),
        ({"deadline": math.inf}, "and finite"),
        ({"by_exception": {"OSError": 3}}, "a key is one exception class"),
        ({"by_exception": {(OSError, ValueError): 3}}, "a key is one exception class"),
        ({"by_exception": {OSError: 0}}, "write a Retry, or attempts, at least 1"),
        ({"by_exception": {OSError: 2.5}}, "write a Retry, or attempts, at least 1"),
        ({"by_exception": {OSError: Retry(by_exception={OSError: 1})}}, "no by_exception of its own"),
    ],
)
def test_an_invalid_policy_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineInvalid, match=message):
        Retry(**policy)


@pytest.mark.parametrize(
    ("retry", "waits"),
    [
        (Retry(attempts=3, wait=2), [2, 2, None, None]),
        (Retry(attempts=4, wait=Backoff(jitter=0)), [1, 2, 4, None]),
        (Retry(attempts=2, wait=0), [0, None]),
        (NO_RETRY, [None]),
    ],
)
def test_waits_end_with_the_last_attempt(retry: Retry, waits: list[float | None]) -> None:
    assert [retry.outlook(attempt, SEED)[0] for attempt in range(1, len(waits) + 1)] == waits


@pytest.mark.parametrize(("elapsed", "wait"), [(0.0, 2.0), (8.0, 2.0), (8.1, None), (99.0, None)])
def test_after_the_deadline_no_attempt_follows_a_dead_process(elapsed: float, wait: float | None) -> None:
    assert Retry(wait=2, deadline=10).outlook(1, SEED, elapsed)[0] == wait


def test_settings_by_exception_do_not_apply_to_a_dead_process() -> None:
    retry = Retry(attempts=2, wait=3, by_exception={Exception: 9})
    assert [retry.outlook(attempt, SEED)[0] for attempt in (1, 2)] == [3, None]


def test_policies_with_settings_by_exception_are_compared_and_hashed() -> None:
    one, two = Retry(by_exception={OSError: 3}), Retry(by_exception={OSError: 3})
    assert (one == two, hash(one) == hash(two), one == Retry()) == (True, True, False)


def test_the_default_figures_replace_a_tenacity_strategy_for_a_dead_process() -> None:
    def strategy(state: object) -> float:
        raise AssertionError(state)

    retry = Retry(attempts=strategy, wait=strategy)
    waits = [retry.outlook(attempt, SEED)[0] for attempt in range(1, 6)]
    assert waits[:4] == [Backoff().seconds(attempt, spread(SEED, attempt)) for attempt in range(1, 5)]
    assert waits[4] is None


@settings(max_examples=25)
@given(st.binary(min_size=16, max_size=16), st.integers(1, 100))
def test_the_spread_is_a_share_and_the_same_again(seed: bytes, attempt: int) -> None:
    assert 0 <= spread(seed, attempt) < 1
    assert spread(seed, attempt) == spread(seed, attempt)


def test_the_spread_is_even_over_deliveries_and_differs_by_attempt() -> None:
    shares = [spread((number * 0x9E3779B97F4A7C15 % 2**64).to_bytes(16, "big"), 1) for number in range(1_000)]
    for tenth in range(10):
        assert 60 < sum(tenth / 10 <= share < (tenth + 1) / 10 for share in shares) < 140
    assert len({spread(SEED, attempt) for attempt in range(1, 6)}) == 5


NO_TIME = " (given up: the deadline of 5 s leaves no time for another attempt)"


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry(attempts=4, wait=3), (3, "")),
        (Retry(attempts=1, wait=3, deadline=5), (None, "")),
        (Retry(attempts=4, wait=3, give_up_on=TimeoutError, deadline=5), (None, "")),
        (Retry(attempts=4, wait=3, give_up_on=(ValueError, OSError)), (None, "")),
        (Retry(attempts=4, wait=3, on=ConnectionError), (None, "")),
        (Retry(attempts=4, wait=3, on=(ConnectionError, OSError)), (3, "")),
        (Retry(attempts=1, wait=3, on=ValueError, by_exception={OSError: 3}), (3, "")),
        (Retry(attempts=4, wait=3, by_exception={OSError: 1}), (None, "")),
        (Retry(attempts=4, wait=3, by_exception={OSError: Retry(wait=1), ConnectionError: 1}), (1, "")),
        (Retry(attempts=4, wait=3, by_exception={OSError: Retry(give_up_on=TimeoutError)}), (None, "")),
        (Retry(attempts=4, give_up_on=OSError, by_exception={TimeoutError: 3}), (None, "")),
        (Retry(attempts=4, wait=3, deadline=5), (None, NO_TIME)),
        (Retry(attempts=4, wait=3, deadline=5, by_exception={OSError: Retry(wait=6)}), (None, NO_TIME)),
        (Retry(attempts=4, wait=3, by_exception={OSError: Retry(wait=3, deadline=5)}), (None, NO_TIME)),
        (Retry(attempts=4, wait=3, on=lambda state: False), (3, "")),
    ],
)
def test_a_time_out_that_left_no_exception_is_decided_by_its_class(
    retry: Retry, expected: tuple[float | None, str]
) -> None:
    assert retry.outlook(1, SEED, 2.5, TimeoutError) == expected
