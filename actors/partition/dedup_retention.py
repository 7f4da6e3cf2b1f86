"""DedupRetention: deletes old ids of senders from the log, a few at a time.

Rules: a deletion holds the loop up by some 10 ms, and only some turns have one. A log that cannot delete now fails no
turn: the deletion is tried again an hour later.
"""

import logging

from ...cluster.log.protocol import Log
from ...events.errors import EnsueError

__all__ = ["DedupRetention"]

logger = logging.getLogger("ensue.partition")
_KEPT_US = 7 * 86_400 * 1_000_000
"""How long a sender's id is kept."""
_HOURLY_US = 3_600 * 1_000_000
_NEXT_BATCH_US = 100_000
_BATCH_ROWS = 500
"""Of a million rows, on two cores, 500 took SQLite 8 to 25 ms, 1,000 took 32 ms, all of them 4 s."""


class DedupRetention:
    """When to delete, and what."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.due_us = 0
        """When the next deletion is due (microseconds since the epoch)."""

    def run_if_due(self, now_us: int) -> None:
        """Delete one batch of what is too old, if it is time."""
        if now_us < self.due_us:
            return
        self.due_us = now_us + _HOURLY_US
        try:
            if self._log.forget(now_us - _KEPT_US, _BATCH_ROWS) == _BATCH_ROWS:
                self.due_us = now_us + _NEXT_BATCH_US
        except EnsueError as error:
            logger.warning("old ids of senders could not be deleted from the log, next try in an hour: %s", error)
