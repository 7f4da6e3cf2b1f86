"""DedupRetention: which senders' ids the log need not remember any more, a few at a time.

Rules: a turn is held up by some 10 ms at most, and not each turn. A log that cannot forget now costs nobody a turn:
it is asked again in an hour.
"""

import logging

from ...cluster.log.protocol import Log
from ...events.errors import EnsueError

__all__ = ["DedupRetention"]

logger = logging.getLogger("ensue.partition")
_KEPT_US = 7 * 86_400 * 1_000_000
"""How long a sender's id is remembered."""
_HOURLY_US = 3_600 * 1_000_000
_AGAIN_US = 100_000
_AT_ONCE = 500
"""Rows: of a million, on two cores, 500 took SQLite 8 to 25 ms, 1,000 took 32 ms, all of them 4 s."""


class DedupRetention:
    """due_us: when the log is to forget again (microseconds since the epoch)."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.due_us = 0

    def tend(self, now_us: int) -> None:
        """Forget some of what is old, where it is time."""
        if now_us < self.due_us:
            return
        self.due_us = now_us + _HOURLY_US
        try:
            if self._log.forget(now_us - _KEPT_US, _AT_ONCE) == _AT_ONCE:
                self.due_us = now_us + _AGAIN_US
        except EnsueError as error:
            logger.warning("the log could not forget old ids of senders: %s", error)
