"""Retrying: what a failed attempt is, and whether another one follows, decided where the exception lives.

Rules: the decision (a wait in seconds, or none) leaves this file; the exception does not.
"""

import logging
import traceback
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import tenacity
from pydantic import ValidationError

from ..events.errors import CodecError, EventInvalid, GiveUp
from ..events.failure import Failure, FailureKind
from ..events.retry import Backoff, Retry, spread

__all__ = ["UndeclaredEvent", "classify", "failure_of", "wait_seconds"]

logger = logging.getLogger("ensue.steps")
_RESOURCE_ATTEMPTS = 2
_MOST_WAIT_SECONDS = 366 * 86_400.0
_TRACE_CHARACTERS = 4000
_MESSAGE_CHARACTERS = 1000
_CLIENT_ERRORS = range(400, 500)
_RETRYABLE_HTTP = frozenset({408, 425, 429})
_PERMANENT = (GiveUp, ValidationError, CodecError, EventInvalid)


class UndeclaredEvent(GiveUp):
    """A step emitted what its return annotation does not name."""


def classify(error: BaseException) -> FailureKind:
    """The class of an exception."""
    if isinstance(error, _PERMANENT):
        return FailureKind.PERMANENT
    if isinstance(error, MemoryError):
        return FailureKind.RESOURCE
    if isinstance(error, TimeoutError):
        return FailureKind.TIMEOUT
    status = _http_status(error)
    if status in _CLIENT_ERRORS and status not in _RETRYABLE_HTTP:
        return FailureKind.PERMANENT
    return FailureKind.TRANSIENT


def failure_of(error: BaseException) -> Failure:
    """An exception as data."""
    name = type(error).__name__
    try:
        text = str(error) or name
        trace = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - an exception is the author's code too
        text, trace = f"{name}, which cannot say what it is", ""
    return Failure(classify(error).value, name, _sent(text[:_MESSAGE_CHARACTERS]), _sent(trace[-_TRACE_CHARACTERS:]))


def _sent(text: str) -> str:
    """The text as it can travel: a file's name in a message may hold what is no Unicode."""
    return text.encode(errors="backslashreplace").decode()


def wait_seconds(retry: Retry, error: BaseException, attempt: int, elapsed_seconds: float, seed: bytes) -> float | None:
    """How long to wait before the next attempt, or None to give up.

    `attempt` is the one that failed, from 1; `elapsed_seconds` since the first began; `seed` spreads the jitter.
    """
    kind = classify(error)
    if kind is FailureKind.PERMANENT or isinstance(error, retry.give_up_on or ()):
        return None
    if kind is FailureKind.RESOURCE and attempt >= _RESOURCE_ATTEMPTS:
        return None
    state = _State(retry, error, attempt, elapsed_seconds)
    try:
        if not state.wants_more() or state.is_last():
            return None
        wait = max(state.wait(seed), _retry_after(error))
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


def _http_status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _retry_after(error: BaseException) -> float:
    """The `Retry-After` of an HTTP error in seconds (RFC 9110, section 10.2.3), 0 where there is none."""
    headers: Any = getattr(getattr(error, "response", None), "headers", None)
    value = headers.get("Retry-After") if hasattr(headers, "get") else None
    if not isinstance(value, str):
        return 0.0
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
