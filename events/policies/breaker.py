"""Circuit breaker: it stops the calls of a step that keeps failing, until what it depends on has had time to recover.

Rules: a transition is a row of `TRANSITIONS`, from which the diagram in the documentation is drawn. A breaker is told
the time and uses no random numbers. While it is closed, calls go through and are counted over a window; while it is
open, none goes through and waiting deliveries lose no attempt; while it is half-open, one probe at a time goes through.
(M. Nygard, "Release It!", 2007; the window and the shares are those of resilience4j.)
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Any, NamedTuple

from ..errors import EnsueError, PipelineInvalid
from ..model.codec import pack, unpack
from .retry import ExceptionTypes, spread

__all__ = [
    "MOST_OPEN_SECONDS",
    "TRANSITIONS",
    "Breaker",
    "BreakerSignal",
    "BreakerSnapshot",
    "BreakerState",
    "BreakerStatus",
    "BreakerView",
    "check_open_seconds",
    "declared_breakers",
]

MOST_OPEN_SECONDS = 365 * 86_400.0
"""The longest time that an operator can open a breaker for: a year. Without a time it stays open until it is closed."""
_SECOND_US = 1_000_000
_BUCKETS = 12


class BreakerStatus(StrEnum):
    """The state of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerSignal(StrEnum):
    """What changes the state of a breaker: the first four come from the engine, the last two from an operator."""

    TRIPPED = "tripped"
    WAITED = "waited"
    PROVED = "proved"
    FAILED = "failed"
    FORCED_OPEN = "forced open"
    FORCED_CLOSED = "forced closed"


TRANSITIONS: dict[tuple[BreakerStatus, BreakerSignal], BreakerStatus] = {
    (BreakerStatus.CLOSED, BreakerSignal.TRIPPED): BreakerStatus.OPEN,
    (BreakerStatus.OPEN, BreakerSignal.WAITED): BreakerStatus.HALF_OPEN,
    (BreakerStatus.HALF_OPEN, BreakerSignal.PROVED): BreakerStatus.CLOSED,
    (BreakerStatus.HALF_OPEN, BreakerSignal.FAILED): BreakerStatus.OPEN,
    (BreakerStatus.CLOSED, BreakerSignal.FORCED_OPEN): BreakerStatus.OPEN,
    (BreakerStatus.HALF_OPEN, BreakerSignal.FORCED_OPEN): BreakerStatus.OPEN,
    (BreakerStatus.OPEN, BreakerSignal.FORCED_OPEN): BreakerStatus.OPEN,
    (BreakerStatus.OPEN, BreakerSignal.FORCED_CLOSED): BreakerStatus.CLOSED,
    (BreakerStatus.HALF_OPEN, BreakerSignal.FORCED_CLOSED): BreakerStatus.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a circuit breaker opens, and how it closes again.

    name: the dependency that it guards, shared by all steps that name it; None for the step's own breaker.
    window_seconds: how far back calls count.
    min_calls: with fewer calls in the window, no share opens it.
    failed_share: the share of failed calls in the window that opens it, above 0 and at most 1.
    slow_share: the share of slow calls in the window that opens it, above 0 and at most 1.
    slow_seconds: a call that takes longer is slow.
    failures_in_row: this many failures in a row open it too.
    open_seconds: how long it stays open the first time; doubled each time a probe fails.
    max_open_seconds: the longest time that it stays open.
    jitter: the share of that time that may be taken off, from 0 to 1.
    probes: how many calls must succeed, one at a time, before it closes.
    counts: the exceptions that count as failures of the dependency; None for those that may pass (connections,
        timeouts, 408, 425, 429, 5xx, a busy database).

    Raises: `PipelineInvalid` if a value is out of its range.
    """

    name: str | None = None
    window_seconds: float = 60.0
    min_calls: int = 10
    failed_share: float = 0.5
    slow_share: float = 0.8
    slow_seconds: float = 30.0
    failures_in_row: int = 5
    open_seconds: float = 30.0
    max_open_seconds: float = 300.0
    jitter: float = 0.1
    probes: int = 3
    counts: ExceptionTypes | None = None

    def __post_init__(self) -> None:
        if self.name is not None and (not self.name or "/" in self.name or not self.name.isprintable()):
            raise PipelineInvalid(f"breaker name {self.name!r}: use printable characters, and no '/'")
        for name in ("window_seconds", "slow_seconds", "open_seconds", "max_open_seconds"):
            if not 0 < getattr(self, name) < inf:
                raise PipelineInvalid(f"Breaker({name}={getattr(self, name)}): it must be more than 0 seconds")
        for name in ("min_calls", "failures_in_row", "probes"):
            if getattr(self, name) < 1:
                raise PipelineInvalid(f"Breaker({name}={getattr(self, name)}): it must be at least 1")
        for name, least in (("failed_share", 1e-9), ("slow_share", 1e-9), ("jitter", 0.0)):
            if not least <= getattr(self, name) <= 1:
                raise PipelineInvalid(
                    f"Breaker({name}={getattr(self, name)}): it must be a share, more than 0 and at most 1"
                )

    def pause_us(self, opens: int, seed: bytes) -> int:
        """How long the breaker stays open the `opens`-th time in a row, in microseconds."""
        full = min(self.open_seconds * 2.0 ** min(opens - 1, 60), self.max_open_seconds)
        return int(full * (1.0 - self.jitter * spread(seed, opens)) * _SECOND_US)


def declared_breakers(breakers: Iterable[Breaker | None]) -> dict[str, Breaker]:
    """The settings of each named dependency. A step that gives only the name takes the settings of another step.

    Raises: `PipelineInvalid` if two steps declare different settings for a name.
    """
    found: dict[str, Breaker] = {}
    for breaker in breakers:
        if breaker is None or breaker.name is None:
            continue
        bare = Breaker(name=breaker.name)
        known = found.setdefault(breaker.name, breaker)
        if bare not in (known, breaker) and known != breaker:
            raise PipelineInvalid(
                f"breaker {breaker.name} has two settings: give Breaker(name={breaker.name!r}, ...) to one step that "
                f"uses it, and breaker={breaker.name!r} to the others, of all pipelines"
            )
        if known == bare:
            found[breaker.name] = breaker
    return found


def check_open_seconds(seconds: float | None) -> None:
    """Check for how long an operator opens a breaker.

    Raises: `EnsueError` if it is not more than 0 seconds and at most a year.
    """
    if seconds is not None and not 0 < seconds <= MOST_OPEN_SECONDS:
        raise EnsueError(f"a breaker is opened for more than 0 seconds and at most a year, not for {seconds:g} s")


class BreakerView(NamedTuple):
    """A breaker as operators see it.

    name: its name.
    steps: the steps that it guards, as `pipeline/step`.
    status: the value of its `BreakerStatus`.
    forced: an operator opened it.
    since_us: since when it has this status, in microseconds since the epoch.
    until_us: when it lets a probe through; None while it is closed, or if only an operator closes it.
    calls, failures: the calls in the window, and how many of them failed.
    opens: how often it opened in a row.
    reason: why it opened.
    waiting: how many deliveries it holds back.
    """

    name: str
    steps: tuple[str, ...]
    status: str
    forced: bool
    since_us: int
    until_us: int | None
    calls: int
    failures: int
    opens: int
    reason: str
    waiting: int = 0


class BreakerSnapshot(NamedTuple):
    """A breaker at one moment, for any thread. The calls in its window still age: `view` counts them at a time."""

    head: tuple[str, tuple[str, ...], str, bool, int, int | None]
    tail: tuple[int, str, int]
    buckets: tuple[tuple[int, int, int], ...]
    """[number, calls, failed] each."""
    width_us: int

    def view(self, now_us: int) -> BreakerView:
        """The breaker as operators see it at this time."""
        oldest = now_us // self.width_us - _BUCKETS
        recent = [bucket for bucket in self.buckets if bucket[0] > oldest]
        return BreakerView(*self.head, sum(b[1] for b in recent), sum(b[2] for b in recent), *self.tail)


class BreakerState:
    """The state of one breaker.

    guarded: it can open by itself; otherwise only an operator opens it.
    in_row: how many calls failed in a row.
    proofs: how many probes succeeded since it became half-open.
    probe: the delivery that is under way as a probe.
    """

    __slots__ = (
        "_buckets",
        "_width_us",
        "forced",
        "guarded",
        "in_row",
        "name",
        "opens",
        "policy",
        "probe",
        "proofs",
        "reason",
        "since_us",
        "status",
        "until_us",
    )

    def __init__(self, name: str, policy: Breaker | None) -> None:
        self.name = name
        self.policy = policy or Breaker()
        self.guarded = policy is not None
        self.status = BreakerStatus.CLOSED
        self.since_us = 0
        self.until_us: int | None = None
        self.forced = False
        self.opens = 0
        self.in_row = 0
        self.proofs = 0
        self.probe: object | None = None
        self.reason = ""
        self._width_us = max(1, int(self.policy.window_seconds * _SECOND_US / _BUCKETS))
        self._buckets: deque[list[int]] = deque()  # [number, calls, failed, slow]

    def counts(self, kind: type[BaseException]) -> bool:
        """Whether an exception of this class, which may pass, counts as a failure of the dependency."""
        return self.policy.counts is None or issubclass(kind, self.policy.counts)

    def succeeded(self, calls: int, slow: int, now_us: int) -> BreakerSignal | None:
        """`calls` calls succeeded, and `slow` of them were slow. While half-open, only probes are reported."""
        self.in_row = 0
        if self.status is BreakerStatus.CLOSED and self.guarded:
            bucket = self._bucket(now_us)
            bucket[1] += calls
            bucket[3] += slow
            return BreakerSignal.TRIPPED if slow and self._is_bad(now_us) else None
        if self.status is BreakerStatus.HALF_OPEN:
            self.proofs += calls
            return BreakerSignal.PROVED if self.proofs >= self.policy.probes else None
        return None

    def failed(self, reason: str, now_us: int) -> BreakerSignal | None:
        """A call failed with an exception that counts."""
        if self.status is BreakerStatus.HALF_OPEN:
            self.reason = reason
            return BreakerSignal.FAILED
        if self.status is not BreakerStatus.CLOSED or not self.guarded:
            return None
        bucket = self._bucket(now_us)
        bucket[1] += 1
        bucket[2] += 1
        self.in_row += 1
        if self.in_row >= self.policy.failures_in_row:
            self.reason = f"{self.in_row} failures in a row, the last: {reason}"
            return BreakerSignal.TRIPPED
        return BreakerSignal.TRIPPED if self._is_bad(now_us) else None

    def due(self, now_us: int) -> BreakerSignal | None:
        """The signal at the end of the open time: a breaker that never opens by itself closes without a probe."""
        if self.status is BreakerStatus.OPEN and self.until_us is not None and now_us >= self.until_us:
            return BreakerSignal.WAITED if self.guarded else BreakerSignal.FORCED_CLOSED
        return None

    def move(self, signal: BreakerSignal, now_us: int, *, seconds: float | None = None) -> bool:
        """Make the transition for a signal; False if the table has none.

        seconds: for how long an operator opens it; None until it is closed.
        """
        target = TRANSITIONS.get((self.status, signal))
        if target is None:
            return False
        self.status = target
        self.since_us = now_us
        self.until_us = None
        self.proofs = 0
        self.probe = None
        self.forced = signal is BreakerSignal.FORCED_OPEN
        if self.forced:
            self.until_us = None if seconds is None else now_us + int(seconds * _SECOND_US)
        elif target is BreakerStatus.OPEN:
            self.opens += 1
            self.until_us = now_us + self.policy.pause_us(self.opens, self.name.encode())
        elif target is BreakerStatus.CLOSED:
            self.opens = self.in_row = 0
            self.reason = ""
            self._buckets.clear()
        return True

    def pack(self) -> bytes:
        """What survives a restart: everything but the window."""
        return pack([self.status.value, self.since_us, self.until_us, self.forced, self.opens, self.reason])

    def restore(self, body: bytes) -> None:
        """Restore what the last owner of the log packed."""
        stored: list[Any] = unpack(body)
        self.status = BreakerStatus(stored[0])
        self.since_us, self.until_us, self.forced, self.opens, self.reason = stored[1:6]

    def view(self, steps: tuple[str, ...], waiting: int, now_us: int) -> BreakerView:
        """The breaker as operators see it."""
        return self.snapshot(steps, waiting).view(now_us)

    def snapshot(self, steps: tuple[str, ...], waiting: int) -> BreakerSnapshot:
        """A copy that changes no more; `steps` are those that it guards, `waiting` what it holds back."""
        head = (self.name, steps, self.status.value, self.forced, self.since_us, self.until_us)
        buckets = tuple((number, calls, failed) for number, calls, failed, _ in self._buckets)
        return BreakerSnapshot(head, (self.opens, self.reason, waiting), buckets, self._width_us)

    def _bucket(self, now_us: int) -> list[int]:
        number = now_us // self._width_us
        buckets = self._buckets
        if not buckets or buckets[-1][0] != number:
            buckets.append([number, 0, 0, 0])
            while buckets[0][0] <= number - _BUCKETS:
                buckets.popleft()
        return buckets[-1]

    def _sums(self, now_us: int) -> tuple[int, int, int]:
        oldest = now_us // self._width_us - _BUCKETS
        recent = [bucket for bucket in self._buckets if bucket[0] > oldest]
        return sum(b[1] for b in recent), sum(b[2] for b in recent), sum(b[3] for b in recent)

    def _is_bad(self, now_us: int) -> bool:
        calls, failed, slow = self._sums(now_us)
        policy = self.policy
        if calls < policy.min_calls:
            return False
        if failed >= calls * policy.failed_share:
            self.reason = f"{failed} of {calls} calls failed within {policy.window_seconds:g} s"
            return True
        if slow >= calls * policy.slow_share:
            self.reason = f"{slow} of {calls} calls took longer than {policy.slow_seconds:g} s"
            return True
        return False
