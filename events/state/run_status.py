"""Run status: the states of a run that users see, stored as numbers.

Rules: the numbers are in every log on disk. They are never changed, and never used again for another status.
"""

from enum import IntEnum

__all__ = ["LIVE", "Status"]


class Status(IntEnum):
    """The status of a run."""

    RUNNING = 1
    WAITING = 2
    COMPLETED = 3
    FAILED = 4
    CANCELLED = 5
    COMPENSATED = 6
    NEEDS_MIGRATION = 7

    @property
    def wire(self) -> str:
        """The lower-case name used in JSON, on the command line and in the console."""
        return self.name.lower()

    @property
    def live(self) -> bool:
        """Whether the run may still go on, so that its records are needed to restore its state."""
        return self in LIVE


LIVE = frozenset({Status.RUNNING, Status.WAITING, Status.NEEDS_MIGRATION})
