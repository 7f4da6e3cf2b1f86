"""Retry: how often a step is tried again, after what wait, and for which exceptions.

Rules: a policy is data; where the exception lives (the worker) it is evaluated, and what is recorded is the decision
that it came to. Waits and deadlines are seconds. The default is five attempts, 1 s doubling to 100 s with full jitter
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
        """Tenacity's own contract."""
        ...


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting: `first_seconds` times `factor` per attempt, at most `max_seconds`, `jitter` of it random."""

    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 100.0
    jitter: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.first_seconds < inf and 0 <= self.max_seconds < inf):
            raise PipelineInvalid(f"{self}: waits are at least 0 seconds, and not endless")
        if not (1 <= self.factor < inf and 0 <= self.jitter <= 1):
            raise PipelineInvalid(f"{self}: factor is at least 1, jitter from 0 to 1")

    def seconds(self, attempt: int, fraction: float) -> float:
        """The wait after `attempt` (from 1); `fraction` in [0, 1) is the share of the jitter to take away."""
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

    attempts: how often in all (1: never again), or a tenacity stop strategy.
    wait: seconds, a `Backoff`, or a tenacity wait strategy.
    on: the exceptions worth another attempt, or a tenacity retry strategy.
    give_up_on: exceptions that end it at once, whatever else is said.
    deadline: seconds from the beginning of the first attempt; no other attempt begins after it, whatever held it back.
    by_exception: what holds instead for an exception and its subclasses: a `Retry`, or a number of attempts with the
        wait of this one. The most specific entry counts. The deadline and `give_up_on` of this one hold as well.
    """

    attempts: int | TenacityStrategy = 5
    wait: float | Backoff | TenacityStrategy = field(default_factory=Backoff)
    on: ExceptionTypes | TenacityStrategy = Exception
    give_up_on: ExceptionTypes = ()
    deadline: float | None = None
    by_exception: Mapping[type[BaseException], "Retry | int"] = field(default_factory=_no_exceptions, hash=False)

    def __post_init__(self) -> None:
        if isinstance(self.attempts, int) and self.attempts < 1:
            raise PipelineInvalid(f"Retry(attempts={self.attempts}): at least 1 attempt is needed")
        if isinstance(self.wait, int | float) and not 0 <= self.wait < inf:
            raise PipelineInvalid(f"Retry(wait={self.wait}): a wait is at least 0 seconds, and not endless")
        for name, value in (("on", self.on), ("give_up_on", self.give_up_on)):
            if not callable(value) and not _are_exceptions(value):
                raise PipelineInvalid(
                    f"Retry({name}={value!r}): write an exception, a tuple of them, or a tenacity strategy"
                )
        if self.deadline is not None and not 0 < self.deadline < inf:
            raise PipelineInvalid(
                f"Retry(deadline={self.deadline}): a deadline is more than 0 seconds, and not endless"
            )
        for kind, entry in self.by_exception.items():
            _check_entry(kind, entry)

    def for_exception(self, kind: type[BaseException]) -> "Retry":
        """What holds for an exception of this class: the entry of `by_exception` nearest to it, or this policy."""
        entry = next((self.by_exception[base] for base in kind.__mro__ if base in self.by_exception), self)
        if isinstance(entry, int):
            return replace(self, attempts=entry, on=BaseException, by_exception={})
        return entry

    def is_too_late(self, elapsed_seconds: float, wait_seconds: float) -> bool:
        """Whether an attempt after this wait would begin after the deadline."""
        return self.deadline is not None and elapsed_seconds + wait_seconds > self.deadline

    @property
    def deadline_note(self) -> str:
        """What the message of a failure ends with where the deadline was the reason to give up."""
        return f" (given up: the deadline of {self.deadline:g} s leaves no time for another attempt)"

    def outlook(
        self, attempt: int, seed: bytes, elapsed_seconds: float = 0.0, kind: type[BaseException] | None = None
    ) -> tuple[float | None, str]:
        """What follows an attempt that left no exception to look at, at most its class, since its process had to end.

        The wait in seconds, or None to stop, and then the `deadline_note` where that was why. `elapsed_seconds` counts
        from the beginning of the first attempt. Tenacity strategies need the exception, so the default figures stand
        in for them here, and a retry strategy is passed over.
        """
        chosen = self if kind is None else self.for_exception(kind)
        attempts = chosen.attempts if isinstance(chosen.attempts, int) else 5
        if attempt >= attempts or (kind is not None and not self._bears(kind, chosen)):
            return None, ""
        wait = _wait_of(chosen, attempt, seed)
        late = next((policy for policy in (self, chosen) if policy.is_too_late(elapsed_seconds, wait)), None)
        return (wait, "") if late is None else (None, late.deadline_note)

    def _bears(self, kind: type[BaseException], chosen: "Retry") -> bool:
        """Whether an exception of this class is worth another attempt, as far as classes say it."""
        if issubclass(kind, (self.give_up_on, chosen.give_up_on)):
            return False
        return not isinstance(chosen.on, type | tuple) or issubclass(kind, chosen.on)


def _wait_of(retry: Retry, attempt: int, seed: bytes) -> float:
    """The wait after an attempt; the default figures stand in for a tenacity strategy."""
    if isinstance(retry.wait, int | float):
        return float(retry.wait)
    backoff = retry.wait if isinstance(retry.wait, Backoff) else Backoff()
    return backoff.seconds(attempt, spread(seed, attempt))


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
"""What a compensation has: it is tried until it succeeds."""


def spread(seed: bytes, attempt: int) -> float:
    """A number in [0, 1) that looks random and is the same for the same delivery and attempt: replay needs no dice."""
    return (int.from_bytes(seed[-6:], "big") * (2 * attempt + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFF) / 2**32
