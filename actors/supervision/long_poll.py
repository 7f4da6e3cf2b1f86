"""CompletionLatch: a long poll for the end of a worker, by one waiter at a time.

Rules: a newer waiter supersedes the older one. Ray keeps the call of a caller that has died, and each such call holds
one of an actor's few threads, so an actor whose callers die again and again would have no thread left.
"""

import threading

__all__ = ["SUPERSEDED", "CompletionLatch"]

SUPERSEDED = "superseded"
"""The answer to a waiter that a newer one supersedes; it does not mean the end."""
_ENDED = "stopped"


class CompletionLatch:
    """Waits for the end, from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def wait(self) -> str:
        """Return at the end, or when a newer waiter comes."""
        with self._changed:
            self._newest += 1
            mine = self._newest
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or self._newest != mine)
            return _ENDED if self._over else SUPERSEDED

    def end(self) -> None:
        """Mark the end, and answer all waiters."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
