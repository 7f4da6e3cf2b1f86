"""Reconciler: compares the desired state with the actual state every few seconds, as long as the engine lives.

Rules: messages may be lost, and what was repaired may break again, so it relies on none. Each check runs by itself: one
that fails is logged and runs again in the next round, and never ends the loop.
"""

import logging
import threading
from collections.abc import Callable, Mapping

__all__ = ["Reconciler"]

logger = logging.getLogger("ensue.reconciler")
_EVERY_SECONDS = 5.0


class Reconciler:
    """A thread that runs its checks again and again. A check looks at one thing, and repairs it."""

    def __init__(self, checks: Mapping[str, Callable[[], None]]) -> None:
        self._checks = dict(checks)
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ensue-reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """Run all checks now, because something is wrong; from any thread."""
        self._hurry.set()

    def end(self, timeout_seconds: float) -> None:
        """Stop; waits for a check that is running."""
        self._ended.set()
        self._hurry.set()
        self._thread.join(timeout_seconds)

    def _serve(self) -> None:
        while not self._ended.is_set():
            self._hurry.wait(_EVERY_SECONDS)
            self._hurry.clear()
            for name, check in self._checks.items():
                if self._ended.is_set():
                    return
                try:
                    check()
                except Exception:
                    logger.exception("the check of %s failed; it runs again in the next round", name)
