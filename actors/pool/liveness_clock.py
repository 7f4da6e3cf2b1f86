"""LivenessClock: the clock that measures how long the keeper has been silent.

Rules: if workers send messages and the keeper does not answer, the keeper is at fault. If no message arrives at all,
the machine is busy or this process was paused, and the clock stops; for at most a minute, so that a keeper that has
really stopped is replaced.
"""

import time

__all__ = ["LivenessClock"]

_USUAL_SECONDS = 6.0
"""A keeper with nothing to report answers every 5 s."""
_MAX_STANDING_SECONDS = 60.0


class LivenessClock:
    """Seconds, like `time.monotonic`, without those in which no message arrived."""

    def __init__(self) -> None:
        self._heard_at = time.monotonic()
        self._stood_seconds = 0.0

    def heard(self) -> None:
        """The keeper or a worker has answered."""
        now = time.monotonic()
        self._stood_seconds += self._standing(now)
        self._heard_at = now

    def now(self) -> float:
        """The time by this clock, in seconds."""
        now = time.monotonic()
        return now - self._stood_seconds - self._standing(now)

    def _standing(self, now: float) -> float:
        return min(max(0.0, now - self._heard_at - _USUAL_SECONDS), _MAX_STANDING_SECONDS)
