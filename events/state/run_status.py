"""Where a run stands: one small closed set of words, stored as numbers.

The numbers are in every log on disk: they are never changed and never used again for another word.
"""

from enum import IntEnum

__all__ = ["LIVE", "Status"]


class Status(IntEnum):
    """The state of one run; `wire` is the name that people and machines outside see."""

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
        """Whether the run may still go on: its records are needed to bring its state back."""
        return self in LIVE


LIVE = frozenset({Status.RUNNING, Status.WAITING, Status.NEEDS_MIGRATION})
