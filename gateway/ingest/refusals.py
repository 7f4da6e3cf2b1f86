"""Refused deliveries: a counter for each endpoint and reason, and a log line now and then.

Rules: the first refusal of a kind is logged at once, then at most one line of that kind every ten seconds, which says
how many there were. A line has the reason and nothing of the delivery.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable

__all__ = ["QUIET_SECONDS", "Refusals"]

QUIET_SECONDS = 10.0
_log = logging.getLogger("ensue.gateway")


class Refusals:
    """The refused deliveries of this process, by endpoint and reason."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.numbers: Counter[tuple[str, str]] = Counter()
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}
        """The time of the last line of a kind, and the number of refusals then."""
        self._clock = clock

    def add(self, endpoint: str, reason: str) -> None:
        """Count a refusal. `endpoint` is one of the served ones, so the number of kinds is bounded."""
        kind = (endpoint, reason)
        self.numbers[kind] += 1
        now, (last, before) = self._clock(), self._logged.get(kind, (float("-inf"), 0))
        if now - last >= QUIET_SECONDS:
            self._logged[kind] = (now, self.numbers[kind])
            _log.warning("refused at %s: %s (%d since the last line)", endpoint, reason, self.numbers[kind] - before)
