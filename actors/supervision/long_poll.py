"""CompletionLatch: the wait until something has ended, for one waiter at a time.

Law: a newer waiter relieves the older one. Ray goes on with the call of a caller that has died, and each such call holds
one of an actor's few threads: were they kept, an actor whose callers die again and again would come to a standstill.
"""

import threading

__all__ = ["SUPERSEDED", "CompletionLatch"]

SUPERSEDED = "relieved"
"""What a waiter is told when a newer one has come; it says nothing of the end."""
_ENDED = "stopped"


class CompletionLatch:
    """Waits for an end, from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest = 0
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._over

    def wait(self) -> str:
        """Return at the end, or when somebody else waits."""
        with self._changed:
            self._newest += 1
            mine = self._newest
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._over or self._newest != mine)
            return _ENDED if self._over else SUPERSEDED

    def end(self) -> None:
        """It has ended."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
