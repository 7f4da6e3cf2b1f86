"""Retry: how often a step is tried again, after what wait, and for which exceptions.

Rules: a policy is data. The worker evaluates it, since the exception is there, and the log records the decision. Waits
and deadlines are in seconds. The default is five attempts, 1 s doubling to 100 s with full jitter
(M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Protocol, cast

from ..errors import PipelineInvalid

__all__ = ["NO_RETRY", "UNTIL_DONE", "Backoff", "ExceptionTypes", "Retry", "TenacityStrategy", "spread"]

ExceptionTypes = type[BaseException] | tuple[type[BaseException], ...]


class TenacityStrategy(Protocol):
    """Any stop, wait or retry strategy of the tenacity library: a callable on its `RetryCallState`."""

    def __call__(self, retry_state: Any, /) -> Any:
        """As tenacity calls it."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """An exponential wait.

    first_seconds: the wait after the first attempt.
    factor: by how much it grows with each attempt.
    max_seconds: the longest wait.
    jitter: the random share of the wait, from 0 to 1; at 1 it is between 0 and the whole.

    Raises: `PipelineInvalid` if a value is out of its range.
    """

    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 100.0
    jitter: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.first_seconds < inf and 0 <= self.max_seconds < inf):
            raise PipelineInvalid(f"{self}: a wait must be at least 0 seconds, and finite")
        if not (1 <= self.factor < inf and 0 <= self.jitter <= 1):
            raise PipelineInvalid(f"{self}: factor must be at least 1, and jitter from 0 to 1")

    def seconds(self, attempt: int, fraction: float) -> float:
        """The wait after `attempt` (from 1), in seconds; `fraction` in [0, 1) is how much of the jitter to subtract."""
        try:
            full = min(self.first_seconds * self.factor ** (attempt - 1), self.max_seconds)
        except OverflowError:
            full = self.max_seconds if self.first_seconds else 0.0
        return full * (1.0 - self.jitter * fraction)


def _no_exceptions() -> "Mapping[type[BaseException], Retry | int]":
    return {}


@dataclass(frozen=True, slots=True)
class Retry:
    """How a step is retried.

    attempts: the most attempts in all (1 for no retry), or a tenacity stop strategy.
    wait: seconds, a `Backoff`, or a tenacity wait strategy.
    on: the exceptions that are retried, or a tenacity retry strategy.
    give_up_on: exceptions that are never retried; they take precedence over everything else.
    deadline: seconds from the start of the first attempt; after it no other attempt starts.
    by_exception: another policy for an exception and its subclasses: a `Retry`, or a number of attempts with the wait
        of this policy. The most specific entry counts. The deadline and `give_up_on` of this policy apply too.

    Raises: `PipelineInvalid` if a value is out of its range or of the wrong kind.
    """

    attempts: int | TenacityStrategy = 5
    wait: float | Backoff | TenacityStrategy = field(default_factory=Backoff)
    on: ExceptionTypes | TenacityStrategy = Exception
    give_up_on: ExceptionTypes = ()
    deadline: float | None = None
    by_exception: Mapping[type[BaseException], "Retry | int"] = field(default_factory=_no_exceptions, hash=False)

    def __post_init__(self) -> None:
        _check_kind("attempts", self.attempts)
        _check_kind("wait", self.wait)
        _check_kind("deadline", self.deadline)
        if isinstance(self.attempts, int) and self.attempts < 1:
            raise PipelineInvalid(f"Retry(attempts={self.attempts}): it must be at least 1")
        if isinstance(self.wait, int | float) and not 0 <= self.wait < inf:
            raise PipelineInvalid(f"Retry(wait={self.wait}): a wait must be at least 0 seconds, and finite")
        for name, value in (("on", self.on), ("give_up_on", self.give_up_on)):
            if not callable(value) and not _are_exceptions(value):
                raise PipelineInvalid(
                    f"Retry({name}={value!r}): write an exception, a tuple of them, or a tenacity strategy"
                )
        if self.deadline is not None and not 0 < self.deadline < inf:
            raise PipelineInvalid(
                f"Retry(deadline={self.deadline}): a deadline must be more than 0 seconds, and finite"
            )
        for kind, entry in self.by_exception.items():
            _check_entry(kind, entry)

    def for_exception(self, kind: type[BaseException]) -> "Retry":
        """The policy for an exception of this class: the most specific entry of `by_exception`, or this policy."""
        entry = next((self.by_exception[base] for base in kind.__mro__ if base in self.by_exception), self)
        if isinstance(entry, int):
            return replace(self, attempts=entry, on=BaseException, by_exception={})
        return entry

    def is_too_late(self, elapsed_seconds: float, wait_seconds: float) -> bool:
        """Whether an attempt after this wait would start after the deadline."""
        return self.deadline is not None and elapsed_seconds + wait_seconds > self.deadline

    @property
    def deadline_note(self) -> str:
        """The end of a failure's message if the deadline was the reason to give up."""
        return f" (given up: the deadline of {self.deadline:g} s leaves no time for another attempt)"

    def outlook(
        self, attempt: int, seed: bytes, elapsed_seconds: float = 0.0, kind: type[BaseException] | None = None
    ) -> tuple[float | None, str]:
        """The decision after an attempt whose exception is not available, at most its class, since its process ended.

        Returns the wait in seconds, or None to give up, and the `deadline_note` if the deadline was the reason.
        Tenacity strategies need the exception, so the default attempts and waits replace them here, and a retry
        strategy is ignored.

        attempt: the number of the failed attempt, from 1.
        seed: what the jitter is derived from.
        elapsed_seconds: since the start of the first attempt.
        kind: the class of the exception, if it is known.
        """
        chosen = self if kind is None else self.for_exception(kind)
        attempts = chosen.attempts if isinstance(chosen.attempts, int) else 5
        if attempt >= attempts or (kind is not None and not self._retries(kind, chosen)):
            return None, ""
        wait = _wait_of(chosen, attempt, seed)
        late = next((policy for policy in (self, chosen) if policy.is_too_late(elapsed_seconds, wait)), None)
        return (wait, "") if late is None else (None, late.deadline_note)

    def _retries(self, kind: type[BaseException], chosen: "Retry") -> bool:
        """Whether an exception of this class is retried, as far as classes decide it."""
        if issubclass(kind, (self.give_up_on, chosen.give_up_on)):
            return False
        return not isinstance(chosen.on, type | tuple) or issubclass(kind, chosen.on)


def _wait_of(retry: Retry, attempt: int, seed: bytes) -> float:
    """The wait after an attempt, in seconds; the default backoff replaces a tenacity strategy."""
    if isinstance(retry.wait, int | float):
        return float(retry.wait)
    backoff = retry.wait if isinstance(retry.wait, Backoff) else Backoff()
    return backoff.seconds(attempt, spread(seed, attempt))


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "attempts": ((int,), "a number of attempts, or a tenacity stop strategy"),
    "wait": ((int, float, Backoff), "seconds, a Backoff, or a tenacity wait strategy"),
    "deadline": ((int, float, type(None)), "seconds, or None"),
}


def _check_kind(name: str, value: object) -> None:
    kinds, wanted = _KINDS[name]
    if isinstance(value, bool) or not (isinstance(value, kinds) or (name != "deadline" and callable(value))):
        raise PipelineInvalid(f"Retry({name}={value!r}): write {wanted}")


def _check_entry(kind: object, entry: object) -> None:
    if not _are_exceptions(kind) or isinstance(kind, tuple):
        raise PipelineInvalid(f"Retry(by_exception={{{kind!r}: ...}}): a key is one exception class")
    if isinstance(entry, Retry):
        if entry.by_exception:
            raise PipelineInvalid(f"Retry(by_exception={{{kind!r}: ...}}): an entry has no by_exception of its own")
    elif not isinstance(entry, int) or entry < 1:
        raise PipelineInvalid(f"Retry(by_exception={{{kind!r}: {entry!r}}}): write a Retry, or attempts, at least 1")


def _are_exceptions(value: object) -> bool:
    kinds = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    return all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds)


NO_RETRY = Retry(attempts=1)
UNTIL_DONE = Retry(attempts=1_000_000_000)
"""The default of a compensation: it is retried until it succeeds."""


def spread(seed: bytes, attempt: int) -> float:
    """A number in [0, 1) that looks random and is the same for the same seed and attempt, so a replay repeats it."""
    return (int.from_bytes(seed[-6:], "big") * (2 * attempt + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFF) / 2**32
