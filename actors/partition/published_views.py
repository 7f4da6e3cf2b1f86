"""The published views of a partition: what other threads may read of it.

Rules: only the thread that turns the loop publishes. What is published is immutable and is replaced as a whole, so a
reader in any thread sees one moment. A busy loop publishes some twenty times a second, not at each turn; a loop that
goes to sleep wakes once more to publish its last change.
"""

from ...events.decide.core import Decider
from ...events.policies.breaker import BreakerSnapshot

__all__ = ["PublishedViews"]

_EVERY_US = 50_000


class PublishedViews:
    """The newest views."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self.breakers: tuple[BreakerSnapshot, ...] = decider.breaker_snapshots()
        """The circuit breakers, by name."""
        self.due_us: int | None = None
        """When to publish next (microseconds since the epoch); None while the views are up to date."""

    def note_turn(self, now_us: int) -> None:
        """The loop has turned, so the views may be out of date; called if they were up to date."""
        self.due_us = now_us + _EVERY_US

    def publish(self) -> None:
        """Replace the views by the current state."""
        self.breakers = self._decider.breaker_snapshots()
        self.due_us = None
