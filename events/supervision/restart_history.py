"""RestartHistory: what a supervisor has to remember so that a crash loop cannot reset its own counter.

Rules: the log keeps it as plain lists, so these fields and their order are part of what is stored.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["ChildHistory", "RestartHistory"]


class ChildHistory(NamedTuple):
    """What a supervisor remembers about one child."""

    child: str
    streak: int
    """Restarts since it was last healthy; the backoff grows with it."""
    restarts: int
    """All restarts, for display."""


class RestartHistory(NamedTuple):
    """What a supervisor needs to remember across its own restarts. The log keeps it as a list of these three."""

    times_us: tuple[int, ...] = ()
    """When the restarts that count in the current period happened."""
    children: tuple[ChildHistory, ...] = ()
    gave_up: str = ""
    """Why the supervisor gave up; empty if it did not."""

    @classmethod
    def parse(cls, stored: Sequence[Any]) -> "RestartHistory":
        """The history that the log keeps as plain lists."""
        times_us, children, gave_up = stored
        return cls(tuple(times_us), tuple(ChildHistory(*child) for child in children), gave_up)

    def forgiven(self) -> "RestartHistory":
        """The same restarts, without that the supervisor gave up."""
        return self._replace(gave_up="")
