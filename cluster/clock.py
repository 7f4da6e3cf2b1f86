"""Clock and id source: the only places where ensue reads the time or draws a random number."""

import os
import time
from typing import Protocol

from ..events.ids import uuid7

__all__ = ["Clock", "IdSource", "SystemClock"]

_POOL_BYTES = 4000
_ID_BYTES = 10


class Clock(Protocol):
    """Tells the time. Tests pass one that they turn."""

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        ...


class SystemClock:
    """The time of the machine; it never goes backwards within a process."""

    def __init__(self) -> None:
        self._last_us = 0

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        self._last_us = max(self._last_us, time.time_ns() // 1000)
        return self._last_us


class IdSource:
    """UUIDv7 ids. Random bytes are drawn in bulk: a system call for each id would be slow."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        """A new id."""
        return self.at(self._clock.now_us() // 1000)

    def pair(self) -> tuple[bytes, bytes]:
        """Two new ids of the same millisecond."""
        time_ms = self._clock.now_us() // 1000
        return self.at(time_ms), self.at(time_ms)

    def at(self, time_ms: int) -> bytes:
        """A new id of a time in milliseconds since the epoch."""
        start = self._at
        if start + _ID_BYTES > len(self._pool):
            self._pool, start = os.urandom(_POOL_BYTES), 0
        self._at = start + _ID_BYTES
        return uuid7(time_ms, self._pool[start : self._at])
