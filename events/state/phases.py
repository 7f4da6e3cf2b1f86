"""Run phases: the direction in which a run moves, and the signals that change it.

Rules: a transition is a row of `PHASES`, and the diagram in the documentation is drawn from it. A run that halts
starts nothing new; once none of its attempts is running, its compensations begin or the run ends.
"""

from enum import IntEnum, StrEnum

__all__ = ["PHASES", "RunPhase", "RunSignal"]


class RunPhase(IntEnum):
    """The direction of a run. The numbers are in snapshots."""

    FORWARD = 0
    """Its deliveries run."""
    HALTING = 1
    """No new attempts start, until those that are running have ended."""
    COMPENSATING = 2
    """Its compensations run, the newest first."""


class RunSignal(StrEnum):
    """What changes the phase of a run."""

    FAILED = "a step gives up, and no step handles it"
    CANCELLED = "an operator cancels it, and it has compensations, a pivot under way or a running attempt with a key"
    STOPPED = "no attempt is running any more, and it has compensations"
    PIVOTED = "a pivot completes after the cancel"
    REVIVED = "an operator retries it, or redrives a dead letter"


PHASES: dict[tuple[RunPhase, RunSignal], RunPhase] = {
    (RunPhase.FORWARD, RunSignal.FAILED): RunPhase.HALTING,
    (RunPhase.FORWARD, RunSignal.CANCELLED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.FAILED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.CANCELLED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.STOPPED): RunPhase.COMPENSATING,
    (RunPhase.HALTING, RunSignal.PIVOTED): RunPhase.FORWARD,
    (RunPhase.HALTING, RunSignal.REVIVED): RunPhase.FORWARD,
    (RunPhase.FORWARD, RunSignal.REVIVED): RunPhase.FORWARD,
}
"""The next phase, by phase and signal. A pair that is not here cannot occur."""
