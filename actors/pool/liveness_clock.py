"""Hearing: the clock by which the silence of a supervisor is measured.

Law: one that is silent while others are heard is to blame for it. Where none is heard at all, the machine is busy, Ray is,
or this process stood still, and the clock stands: to kill them all would fail every pipeline, for nothing. It stands for a
minute at most, so that supervisors that really have stopped, all of them, are replaced all the same.
"""

import time

__all__ = ["LivenessClock"]

_ORDINARY_SECONDS = 6.0
"""A supervisor that has nothing to say says so every 5 s."""
_MOST_SECONDS = 60.0


class LivenessClock:
    """Seconds, as `time.monotonic`, without those in which nobody was heard."""

    def __init__(self) -> None:
        self._heard_at = time.monotonic()
        self._stood = 0.0

    def heard(self) -> None:
        """One of them has said something."""
        now = time.monotonic()
        self._stood += self._stands(now)
        self._heard_at = now

    def now(self) -> float:
        """The time by this clock, in seconds."""
        now = time.monotonic()
        return now - self._stood - self._stands(now)

    def _stands(self, now: float) -> float:
        return min(max(0.0, now - self._heard_at - _ORDINARY_SECONDS), _MOST_SECONDS)
