"""Retrying: what a failed attempt is, and whether another one follows, decided where the exception lives.

Rules: the decision (a wait in seconds, or none) leaves this file; the exception does not. The class of an exception
(`taxonomy.py`) binds the policy: what is permanent is not tried again, what used up a resource at most once more.
"""

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import Any, NamedTuple

import tenacity

from ...events.errors import GiveUp
from ...events.model.failure import Failure, FailureKind
from ...events.policies.retry import Backoff, ExceptionTypes, Retry, spread
from .error_taxonomy import attribute, causes, row_of

__all__ = [
    "MOST_ATTEMPTS",
    "UndeclaredEvent",
    "Verdict",
    "classify",
    "failure_of",
    "feeds_breaker",
    "judge",
    "wait_seconds",
]

logger = logging.getLogger("ensue.steps")
_MOST_WAIT_SECONDS = 366 * 86_400.0
_TRACE_CHARACTERS = 4000
_MESSAGE_CHARACTERS = 1000

MOST_ATTEMPTS: Mapping[FailureKind, float] = {
    FailureKind.TRANSIENT: inf,
    FailureKind.TIMEOUT: inf,
    FailureKind.UNKNOWN: inf,
    FailureKind.RESOURCE: 2,
    FailureKind.PERMANENT: 1,
}
"""No attempt follows so many that failed like that, whatever the policy says."""


class UndeclaredEvent(GiveUp):
    """A step emitted what its return annotation does not name."""


class Verdict(NamedTuple):
    """What became of a failed attempt: the failure, the wait before the next one (None to give up)."""

    failure: Failure
    wait_seconds: float | None


def classify(error: BaseException) -> FailureKind:
    """The class of an exception; what no row of the table speaks of is transient."""
    row = row_of(error)
    return FailureKind.TRANSIENT if row is None else row.kind


def feeds_breaker(error: BaseException, counts: ExceptionTypes | None) -> bool:
    """Whether a failure speaks against whoever was called: `counts` says so, else what is known to be transient."""
    if counts is not None:
        return isinstance(error, counts)
    row = row_of(error)
    return row is not None and row.kind in (FailureKind.TRANSIENT, FailureKind.TIMEOUT)


def failure_of(error: BaseException, note: str = "") -> Failure:
    """An exception as data; `note` stands at the end of its message."""
    name = type(error).__name__
    try:
        text = str(error) or name
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception is the author's code too
        text, trace = f"{name}, which cannot say what it is", ""
    message = text[: _MESSAGE_CHARACTERS - len(note)] + note
    return Failure(classify(error).value, name, _sent(message), _sent(trace[-_TRACE_CHARACTERS:]))


def _sent(text: str) -> str:
    """The text as it can travel: a file's name in a message may hold what is no Unicode."""
    return text.encode(errors="backslashreplace").decode()


def judge(
    retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float, seed: bytes, *, now_seconds: float
) -> Verdict:
    """What a failed attempt is recorded as, and what follows it.

    `attempt` is the one that failed, from 1; `elapsed_seconds` since the first began; `seed` spreads the jitter;
    `now_seconds` is the time on the worker's clock.
    """
    wait = _wait_seconds(retry, error, attempt, elapsed_seconds, seed, now_seconds=now_seconds)
    if wait is not None:
        for policy in (retry, retry.for_exception(type(error))):
            if policy.is_too_late(elapsed_seconds, wait):
                return Verdict(failure_of(error, policy.deadline_note), None)
    return Verdict(failure_of(error), wait)


def wait_seconds(
    retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float, seed: bytes, *, now_seconds: float
) -> float | None:
    """How long to wait before the next attempt, or None to give up; see `judge`."""
    return judge(retry, error, attempt, elapsed_seconds, seed, now_seconds=now_seconds).wait_seconds


def _wait_seconds(
    retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float, seed: bytes, *, now_seconds: float
) -> float | None:
    kind = classify(error)
    chosen = retry.for_exception(type(error))
    if attempt >= MOST_ATTEMPTS[kind] or isinstance(error, (retry.give_up_on or (), chosen.give_up_on or ())):
        return None
    state = _State(chosen, error, attempt, elapsed_seconds)
    try:
        if not state.wants_more() or state.is_last():
            return None
        wait = max(state.wait(seed), _retry_after(error, now_seconds))
    except Exception:  # a strategy is the author's code: where it breaks there is nothing to wait for
        logger.exception("the retry policy itself failed, so the step gives up")
        return None
    return min(wait, _MOST_WAIT_SECONDS) if wait >= 0 else 0.0  # not a number is no wait


class _State:
    """A retry policy at one failed attempt, in its own words and in tenacity's."""

    def __init__(self, retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float) -> None:
        self._retry = retry
        self._error = error
        self._attempt = attempt
        self._elapsed_seconds = elapsed_seconds

    def wants_more(self) -> bool:
        on = self._retry.on
        if isinstance(on, type | tuple):
            return isinstance(self._error, on)
        return bool(on(self._tenacity()))

    def is_last(self) -> bool:
        attempts = self._retry.attempts
        return self._attempt >= attempts if isinstance(attempts, int) else bool(attempts(self._tenacity()))

    def wait(self, seed: bytes) -> float:
        wait = self._retry.wait
        if isinstance(wait, int | float):
            return float(wait)
        if isinstance(wait, Backoff):
            return wait.seconds(self._attempt, spread(seed, self._attempt))
        return float(wait(self._tenacity()))

    def _tenacity(self) -> tenacity.RetryCallState:
        state = tenacity.RetryCallState(tenacity.Retrying(), None, (), {})
        state.attempt_number = self._attempt
        state.start_time -= self._elapsed_seconds
        outcome: Any = tenacity.Future(self._attempt)
        outcome.set_exception(self._error)
        state.outcome = outcome
        state.outcome_timestamp = state.start_time + self._elapsed_seconds
        return state


def _retry_after(error: BaseException, now_seconds: float) -> float:
    """When whoever was called wants to be asked again, in seconds; 0 where it did not say."""
    return max(0.0, *(_said_after(one, now_seconds) for one in causes(error)))


def _said_after(error: BaseException, now_seconds: float) -> float:
    """`retry_after_seconds`, or the `Retry-After` of an HTTP error (RFC 9110, section 10.2.3)."""
    seconds = attribute(error, "retry_after_seconds")
    if isinstance(seconds, int | float) and 0 <= seconds < inf:
        return float(seconds)
    for path in ("response.headers", "headers", "response.ResponseMetadata.HTTPHeaders"):
        value = _header(attribute(error, path))
        if isinstance(value, str):
            return float(value) if value.isdecimal() else _seconds_until(value, now_seconds)
    return 0.0


def _header(headers: Any) -> Any:
    get = getattr(headers, "get", None)
    try:
        return get("Retry-After") or get("retry-after") if callable(get) else None
    except Exception:  # noqa: BLE001 - an object of somebody else's that only looks like headers
        return None


def _seconds_until(date: str, now_seconds: float) -> float:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.fromtimestamp(now_seconds, UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
