"""Which failures are tried again, after what wait, and as what they are recorded."""

from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from math import inf, nan
from typing import Any
from urllib.error import HTTPError

import pytest
import tenacity
from hypothesis import given
from hypothesis import strategies as st

from ensue import Backoff, GiveUp, Retry
from ensue.actors.worker.retry_decision import failure_of, judge
from ensue.events.errors import Overloaded
from ensue.events.model.codec import pack, unpack
from ensue.events.policies.retry import spread

from .raised import from_aws, from_library, http, raised_from

YEAR = 366 * 86_400.0
NOW = 1_767_225_600.0
"""2026-01-01: what the clock of these workers says."""


def wait(retry: Retry, error: BaseException, attempt: int = 1, elapsed: float = 0.0) -> float | None:
    return judge(retry, error, attempt, elapsed, bytes(16), now_seconds=NOW).wait_seconds


def test_a_permanent_failure_is_never_tried_again_whatever_the_policy_says() -> None:
    assert wait(Retry(attempts=99, on=Exception), GiveUp("no")) is None


def test_what_memory_ran_out_for_is_tried_twice_in_all() -> None:
    assert wait(Retry(attempts=9, wait=1.0), MemoryError(), attempt=1) == 1.0
    assert wait(Retry(attempts=9, wait=1.0), MemoryError(), attempt=2) is None


def test_the_last_attempt_is_followed_by_none() -> None:
    assert [wait(Retry(attempts=3, wait=2.0), OSError(), attempt=n) for n in (1, 2, 3, 4)] == [2.0, 2.0, None, None]


def test_a_backoff_doubles_to_its_most_without_jitter() -> None:
    retry = Retry(attempts=9, wait=Backoff(first_seconds=1, factor=2, max_seconds=10, jitter=0))
    assert [wait(retry, OSError(), attempt=n) for n in range(1, 7)] == [1, 2, 4, 8, 10, 10]


@given(seed=st.binary(min_size=16, max_size=16), attempt=st.integers(1, 50))
def test_jitter_spreads_within_the_full_wait_and_is_the_same_every_time(seed: bytes, attempt: int) -> None:
    retry = Retry(attempts=99)
    seconds = judge(retry, OSError(), attempt, 0.0, seed, now_seconds=NOW).wait_seconds
    assert seconds is not None
    assert 0.0 <= seconds <= min(2.0 ** (attempt - 1), 100.0)
    assert seconds == judge(retry, OSError(), attempt, 0.0, seed, now_seconds=NOW).wait_seconds
    assert 0.0 <= spread(seed, attempt) < 1.0


def test_jitter_differs_from_run_to_run() -> None:
    seeds = [n.to_bytes(16, "big") for n in range(1, 200)]
    assert len({round(spread(seed, 1), 3) for seed in seeds}) > 100


def test_retry_after_in_seconds_is_obeyed_where_it_is_longer() -> None:
    assert wait(Retry(wait=2.0), http(429, **{"Retry-After": "30"})) == 30.0
    assert wait(Retry(wait=60.0), http(429, **{"Retry-After": "30"})) == 60.0
    assert wait(Retry(wait=2.0), from_aws(503, "SlowDown", **{"retry-after": "30"})) == 30.0


def test_retry_after_as_a_date_is_obeyed() -> None:
    at = format_datetime(datetime.fromtimestamp(NOW, UTC) + timedelta(seconds=90), usegmt=True)
    assert wait(Retry(wait=0.0), http(503, **{"Retry-After": at})) == 90.0


@pytest.mark.parametrize("text", ["soon", "", "-5", "1.5", "Mon, 99 Foo", "1e3"])
def test_a_retry_after_that_says_nothing_is_passed_over(text: str) -> None:
    assert wait(Retry(wait=2.0), http(503, **{"Retry-After": text})) == 2.0


def test_an_error_that_says_when_to_come_back_is_obeyed() -> None:
    assert wait(Retry(wait=2.0), Overloaded("full", retry_after_seconds=30.0)) == 30.0
    assert wait(Retry(wait=2.0), from_library("mine.Limited", retry_after_seconds=45)) == 45.0
    assert wait(Retry(wait=2.0), raised_from(Overloaded("full", retry_after_seconds=30.0))) == 30.0
    assert wait(Retry(wait=60.0), Overloaded("full", retry_after_seconds=30.0)) == 60.0


@pytest.mark.parametrize("seconds", [nan, inf, -1.0, "30", None], ids=repr)
def test_an_error_that_says_nonsense_about_coming_back_is_passed_over(seconds: object) -> None:
    assert wait(Retry(wait=2.0), from_library("mine.Limited", retry_after_seconds=seconds)) == 2.0


def test_an_error_that_cannot_say_when_to_come_back_is_passed_over() -> None:
    class Hostile(Exception):
        @property
        def retry_after_seconds(self) -> object:
            raise RuntimeError("no")

    assert wait(Retry(wait=2.0), Hostile()) == 2.0


def test_headers_of_the_error_itself_are_read_too() -> None:
    headers = Message()
    headers["Retry-After"] = "30"
    assert wait(Retry(wait=2.0), HTTPError("http://x", 503, "no", headers, None)) == 30.0


def test_a_date_that_has_passed_is_no_wait() -> None:
    at = format_datetime(datetime.fromtimestamp(NOW, UTC) - timedelta(days=1), usegmt=True)
    assert wait(Retry(wait=2.0), http(503, **{"Retry-After": at})) == 2.0


def test_no_wait_is_longer_than_a_year() -> None:
    assert wait(Retry(wait=0.0), http(503, **{"Retry-After": "9" * 400})) == YEAR
    assert wait(Retry(wait=1e300), OSError()) == YEAR


@pytest.mark.parametrize(
    ("says", "seconds"),
    [
        (nan, 0.0),
        (-1.0, 0.0),
        (inf, YEAR),
        ("soon", None),
        (ZeroDivisionError(), None),
    ],
    ids=["nan", "negative", "endless", "text", "raises"],
)
def test_a_strategy_of_the_author_s_own_breaks_nothing(says: Any, seconds: float | None) -> None:
    def strategy(_state: Any) -> Any:
        if isinstance(says, Exception):
            raise says
        return says

    assert wait(Retry(wait=strategy), OSError()) == seconds


@pytest.mark.parametrize(
    ("retry", "attempt", "elapsed", "seconds"),
    [
        (Retry(attempts=tenacity.stop_after_attempt(2), wait=1.0), 1, 0.0, 1.0),
        (Retry(attempts=tenacity.stop_after_attempt(2), wait=1.0), 2, 0.0, None),
        (Retry(attempts=tenacity.stop_after_delay(10), wait=1.0), 7, 9.0, 1.0),
        (Retry(attempts=tenacity.stop_after_delay(10), wait=1.0), 1, 11.0, None),
        (Retry(attempts=tenacity.stop_after_attempt(9) | tenacity.stop_after_delay(5), wait=1.0), 1, 6.0, None),
        (Retry(wait=tenacity.wait_exponential(multiplier=1, min=2, max=5)), 1, 0.0, 2.0),
        (Retry(attempts=9, wait=tenacity.wait_exponential(multiplier=1, max=5)), 6, 0.0, 5.0),
        (Retry(wait=tenacity.wait_fixed(3) + tenacity.wait_fixed(4)), 1, 0.0, 7.0),
        (Retry(wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9))), 2, 0.0, 9.0),
        (Retry(wait=1.0, on=tenacity.retry_if_exception_type(OSError)), 1, 0.0, 1.0),
        (Retry(wait=1.0, on=tenacity.retry_if_not_exception_type(OSError)), 1, 0.0, None),
        (Retry(wait=1.0, on=tenacity.retry_if_exception_message(match="disk.*")), 1, 0.0, 1.0),
        (Retry(wait=1.0, on=tenacity.retry_if_exception(lambda e: "nothing" in str(e))), 1, 0.0, None),
    ],
)
def test_tenacity_strategies_say_the_same_here_as_in_tenacity(
    retry: Retry, attempt: int, elapsed: float, seconds: float | None
) -> None:
    assert wait(retry, OSError("disk gone"), attempt, elapsed) == seconds


@pytest.mark.parametrize(
    ("elapsed", "seconds"), [(0.0, 4.0), (6.0, 4.0), (6.1, None), (10.0, None), (99.0, None)], ids=repr
)
def test_no_attempt_begins_after_the_deadline(elapsed: float, seconds: float | None) -> None:
    assert wait(Retry(wait=4.0, deadline=10.0), OSError(), elapsed=elapsed) == seconds


def test_a_retry_after_beyond_the_deadline_ends_it() -> None:
    assert wait(Retry(wait=1.0, deadline=10.0), http(503, **{"Retry-After": "30"})) is None


def test_the_failure_says_that_the_deadline_ended_it() -> None:
    failure, after = judge(Retry(wait=4.0, deadline=10.0), OSError("x" * 2000), 1, 7.0, bytes(16), now_seconds=NOW)
    assert (after, len(failure.message)) == (None, 1000)
    assert failure.message.endswith("x (given up: the deadline of 10 s leaves no time for another attempt)")
    assert (
        "deadline"
        not in judge(Retry(attempts=1, deadline=10.0), OSError("x"), 1, 99.0, bytes(16), now_seconds=NOW)[0].message
    )


class Refused(ConnectionError):
    """An exception of a step's own."""


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (ValueError("x"), [1.0, None]),
        (ConnectionError("x"), [1.0, 1.0, 1.0, None]),
        (Refused("x"), [7.0, 7.0, None]),
        (TimeoutError("x"), [None]),
        (GiveUp("x"), [None]),
    ],
    ids=repr,
)
def test_an_exception_has_its_own_settings_the_most_specific_first(error: Exception, waits: list[float | None]) -> None:
    policy = Retry(
        attempts=2,
        wait=1.0,
        by_exception={ConnectionError: 4, Refused: Retry(attempts=3, wait=7.0), TimeoutError: 1, GiveUp: 9},
    )
    assert [wait(policy, error, attempt=n) for n in range(1, len(waits) + 1)] == waits


def test_an_exception_with_settings_need_not_stand_in_on_as_well() -> None:
    policy = Retry(wait=1.0, on=ValueError, by_exception={KeyError: 3})
    assert [wait(policy, error) for error in (ValueError(), KeyError(), OSError())] == [1.0, 1.0, None]


def test_what_the_policy_gives_up_on_and_its_deadline_hold_for_every_exception() -> None:
    policy = Retry(give_up_on=OSError, deadline=5.0, by_exception={ConnectionError: 9, ValueError: Retry(wait=6.0)})
    assert wait(policy, ConnectionError()) is None
    assert wait(policy, ValueError()) is None
    assert wait(Retry(by_exception={ValueError: Retry(wait=6.0, deadline=5.0)}), ValueError()) is None


def test_a_failure_as_data_is_bounded_and_keeps_the_end_of_its_trace() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        raise ValueError("x" * 100_000)

    with pytest.raises(ValueError, match="x") as caught:
        deep(50)
    failure = failure_of(caught.value)
    assert (failure.kind, failure.error, len(failure.message), len(failure.trace)) == (
        "transient",
        "ValueError",
        1000,
        4000,
    )


def test_an_exception_whose_message_cannot_be_read_is_recorded() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    assert failure_of(Mute())[:3] == ("transient", "Mute", "Mute (its message could not be read)")


def test_a_message_that_is_no_unicode_can_still_travel() -> None:
    failure = failure_of(OSError("no file \udcff.txt"))
    assert failure.message == "no file \\udcff.txt"
    assert unpack(pack(list(failure)))[2] == failure.message


def test_the_wait_after_a_process_died_needs_no_exception() -> None:
    assert Retry(attempts=2, wait=3.0).outlook(1, bytes(16))[0] == 3.0
    assert Retry(attempts=2, wait=3.0).outlook(2, bytes(16))[0] is None
    assert Retry(attempts=tenacity.stop_never, wait=1.0).outlook(5, bytes(16))[0] is None
