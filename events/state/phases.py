"""Phases: which way a run goes, and what turns it round.

Law: a transition is a row of `PHASES`, and the picture in the documentation is drawn from it. A run that halts starts
nothing new; once nothing of it runs any more, what it owes is undone, or it is over.
"""

from enum import IntEnum, StrEnum

__all__ = ["PHASES", "RunPhase", "RunSignal"]


class RunPhase(IntEnum):
    """Which way a run goes: FORWARD, HALTING (no new attempts, until what runs is over), UNDOING (its compensations)."""

    FORWARD = 0
    HALTING = 1
    UNDOING = 2


class RunSignal(StrEnum):
    """What turns a run round."""

    FAILED = "a step gives up, and no step hears of it"
    CANCELLED = "an operator cancels it, and it owes compensations or runs a pivot or an attempt with a key"
    STOPPED = "nothing runs any more, and it owes compensations"
    PIVOTED = "a pivot is done although it was cancelled"
    REVIVED = "an operator retries it, or redrives a dead letter"


PHASES: dict[tuple[RunPhase, RunSignal], RunPhase] = {
    (RunPhase.FORWARD, RunSignal.FAILED): RunPhase.HALTING,
    (RunPhase.FORWARD, RunSignal.CANCELLED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.FAILED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.CANCELLED): RunPhase.HALTING,
    (RunPhase.HALTING, RunSignal.STOPPED): RunPhase.UNDOING,
    (RunPhase.HALTING, RunSignal.PIVOTED): RunPhase.FORWARD,
    (RunPhase.HALTING, RunSignal.REVIVED): RunPhase.FORWARD,
    (RunPhase.FORWARD, RunSignal.REVIVED): RunPhase.FORWARD,
}
