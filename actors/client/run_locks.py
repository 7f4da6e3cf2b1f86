"""RunLocks: one decision about a run at a time, since each begins from what the log held before it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["RunLocks"]


class _RunLock:
    """A lock, and how many tasks hold it or wait for it."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class RunLocks:
    """Locks by run id; those that nobody uses are dropped."""

    def __init__(self) -> None:
        self._locks: dict[bytes, _RunLock] = {}

    def is_held(self, raw_id: bytes) -> bool:
        """Whether a decision about this run is under way."""
        return raw_id in self._locks

    @asynccontextmanager
    async def hold(self, raw_id: bytes) -> AsyncGenerator[None]:
        """Wait for earlier decisions about this run, and hold back later ones."""
        entry = self._locks.setdefault(raw_id, _RunLock())
        entry.users += 1
        try:
            async with entry.lock:
                yield
        finally:
            entry.users -= 1
            if not entry.users:
                del self._locks[raw_id]
