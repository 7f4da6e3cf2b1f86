"""Retry decision: the class of a failed attempt and the wait before the next one, decided in the worker.

Rules: the decision (a wait in seconds, or none) leaves the worker; the exception does not. The class of an exception
(`error_taxonomy.py`) limits the policy: what is permanent is not retried, what used up a resource is retried once.
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
from .error_taxonomy import attribute, causes, members, row_of

__all__ = [
    "MOST_ATTEMPTS",
    "UndeclaredEvent",
    "Verdict",
    "classify",
    "failure_of",
    "feeds_breaker",
    "judge",
    "message_of",
]

logger = logging.getLogger("ensue.steps")
_MAX_WAIT_SECONDS = 366 * 86_400.0
_TRACE_CHARACTERS = 4000
_MESSAGE_CHARACTERS = 1000

MOST_ATTEMPTS: Mapping[FailureKind, float] = {
    FailureKind.TRANSIENT: inf,
    FailureKind.TIMEOUT: inf,
    FailureKind.UNKNOWN: inf,
    FailureKind.RESOURCE: 2,
    FailureKind.PERMANENT: 1,
}
"""After so many attempts that failed like that no other follows, whatever the policy says."""


class UndeclaredEvent(GiveUp):
    """A step emitted what its return annotation does not name."""


class Verdict(NamedTuple):
    """The decision about a failed attempt."""

    failure: Failure
    wait_seconds: float | None
    """The wait before the next attempt; None to give up."""


def classify(error: BaseException) -> FailureKind:
    """The class of an exception; one that fits no row of the table is transient."""
    row = row_of(error)
    return FailureKind.TRANSIENT if row is None else row.kind


def feeds_breaker(error: BaseException, counts: ExceptionTypes | None) -> bool:
    """Whether a breaker counts a failure: `counts` decides; without it, what is known to be transient counts."""
    if counts is not None:
        return isinstance(error, counts) or any(isinstance(member, counts) for member in members(error))
    row = row_of(error)
    return row is not None and row.kind in (FailureKind.TRANSIENT, FailureKind.TIMEOUT)


def failure_of(error: BaseException, note: str = "") -> Failure:
    """An exception as data; `note` is appended to its message."""
    name = type(error).__name__
    text = message_of(error) or name
    try:
        trace = "".join(traceback.format_exception(error))
    except BaseException:  # noqa: BLE001 - an exception is the author's code too
        trace = "".join(traceback.format_tb(error.__traceback__))
    message = text[: _MESSAGE_CHARACTERS - len(note)] + note
    return Failure(classify(error).value, name, _encodable(message), _encodable(trace[-_TRACE_CHARACTERS:]))


def message_of(error: BaseException) -> str:
    """The message of an exception, whatever its `__str__` raises."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - SystemExit in there ends no worker
        return f"{type(error).__name__} (its message could not be read)"


def _encodable(text: str) -> str:
    """The text as UTF-8 can carry it: a file name in a message may hold lone surrogates."""
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
        for policy in (retry, _policy_for(retry, error)):
            if policy.is_too_late(elapsed_seconds, wait):
                return Verdict(failure_of(error, policy.deadline_note), None)
    return Verdict(failure_of(error), wait)


def _wait_seconds(
    retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float, seed: bytes, *, now_seconds: float
) -> float | None:
    kind = classify(error)
    chosen = _policy_for(retry, error)
    never = (retry.give_up_on, chosen.give_up_on)
    if attempt >= MOST_ATTEMPTS[kind] or any(isinstance(one, never) for one in (error, *members(error))):
        return None
    state = _State(chosen, error, attempt, elapsed_seconds)
    try:
        if not state.wants_more() or state.is_last():
            return None
        wait = max(state.wait(seed), _retry_after(error, now_seconds))
    except Exception:  # a strategy is the author's code
        logger.exception("the retry policy itself failed, so the step gives up")
        return None
    return min(wait, _MAX_WAIT_SECONDS) if wait >= 0 else 0.0  # NaN counts as no wait


def _policy_for(retry: Retry, error: BaseException) -> Retry:
    """The policy for an exception; for a group, that of the first exception in it that has one of its own."""
    policies = (retry.for_exception(type(one)) for one in (error, *members(error)))
    return next((policy for policy in policies if policy is not retry), retry)


class _State:
    """A retry policy at one failed attempt, for ensue's own policies and for tenacity's strategies."""

    def __init__(self, retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float) -> None:
        self._retry = retry
        self._error = error
        self._attempt = attempt
        self._elapsed_seconds = elapsed_seconds

    def wants_more(self) -> bool:
        on = self._retry.on
        if isinstance(on, type | tuple):
            return isinstance(self._error, on) or all(isinstance(one, on) for one in members(self._error))
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
    """The wait that the called service asks for, in seconds; 0 if it asks for none."""
    return max(0.0, *(_wait_of(one, now_seconds) for one in causes(error)))


def _wait_of(error: BaseException, now_seconds: float) -> float:
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
    except Exception:  # noqa: BLE001 - a foreign object that only looks like headers
        return None


def _seconds_until(date: str, now_seconds: float) -> float:
    try:
        return max(0.0, (parsedate_to_datetime(date) - datetime.fromtimestamp(now_seconds, UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
