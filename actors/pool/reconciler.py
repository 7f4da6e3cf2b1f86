"""Reconciler: compares what should be with what is, every few seconds, for as long as the engine lives.

Rules: notices may be lost, and what was mended may break again, so it never relies on having been told. Each item is
tried by itself: one that fails is logged and tried again at the next round, and never ends the loop.
"""

import logging
import threading
from collections.abc import Callable, Mapping

__all__ = ["Reconciler"]

logger = logging.getLogger("ensue.reconciler")
_EVERY_SECONDS = 5.0


class Reconciler:
    """A thread that goes through its items again and again. An item looks at one thing, and mends it."""

    def __init__(self, items: Mapping[str, Callable[[], None]]) -> None:
        self._items = dict(items)
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="ensue-reconciler", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """Somebody has seen that something is wrong: look now; from any thread."""
        self._hurry.set()

    def end(self, timeout_seconds: float) -> None:
        """Look no more; waits for an item that is being mended."""
        self._ended.set()
        self._hurry.set()
        self._thread.join(timeout_seconds)

    def _serve(self) -> None:
        while not self._ended.is_set():
            self._hurry.wait(_EVERY_SECONDS)
            self._hurry.clear()
            for name, look in self._items.items():
                if self._ended.is_set():
                    return
                try:
                    look()
                except Exception:
                    logger.exception("the reconciler could not see to %s; it tries again", name)
