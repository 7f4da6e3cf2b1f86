"""Notices: what the engine does by itself, as events that pipelines can receive.

Rules: a notice starts a run in every pipeline that has a step with a parameter of its type. A pipeline does not receive
a notice about one of its own steps that receive such notices, so that a broken handler does not trigger itself.
"""

from .event import Event

__all__ = [
    "NOTICES",
    "BreakerClosed",
    "BreakerHalfOpen",
    "BreakerOpened",
    "CompensationBlocked",
    "Notice",
    "PartitionTakenOver",
    "StepEscalated",
    "StepRestarted",
]


class Notice(Event, type="ensue.notice"):
    """The base of all notices.

    pipeline, step: what it is about; empty if it is about neither.
    """

    pipeline: str = ""
    step: str = ""


class StepRestarted(Notice, type="ensue.step_restarted"):
    """A worker of a step ended and is restarted.

    reason: how it ended.
    restarts: how many the step had in its current period.
    wait_seconds: the backoff before the start.
    """

    reason: str
    restarts: int
    wait_seconds: float


class StepEscalated(Notice, type="ensue.step_escalated"):
    """A supervisor had more restarts than its intensity allows and escalates, or has no worker left.

    supervisor: `pipeline/step`, `pipeline`, or `engine`.
    to: the supervisor above it; empty at the top.
    reason: why the last child ended.
    restarts: how many there were in the period.
    period_seconds: the period.
    failed: the pipeline is given up (`step` is empty), or the step's last worker is gone and, by its type of child, is
        not restarted. Deliveries of that step wait until an operator acts.
    """

    supervisor: str
    to: str
    reason: str
    restarts: int
    period_seconds: float
    failed: bool = False


class PartitionTakenOver(Notice, type="ensue.partition_taken_over"):
    """An engine took over a log whose last owner did not close it.

    epoch: the new epoch.
    previous: the last owner.
    owner: the new owner.
    resumed_runs: how many runs go on.
    """

    epoch: int
    previous: str
    owner: str
    resumed_runs: int


class BreakerOpened(Notice, type="ensue.breaker_opened"):
    """A circuit breaker opened: no step that it guards is called for a while, and waiting deliveries lose no attempt.

    breaker: its name.
    reason: what tripped it.
    open_seconds: for how long.
    by: `engine`, or the operator who forced it.
    """

    breaker: str
    reason: str
    open_seconds: float
    by: str = "engine"


class BreakerHalfOpen(Notice, type="ensue.breaker_half_open"):
    """A circuit breaker lets one probe at a time through.

    breaker: its name.
    """

    breaker: str


class BreakerClosed(Notice, type="ensue.breaker_closed"):
    """A circuit breaker closed: its steps are called again.

    breaker: its name.
    by: `engine`, or the operator who forced it.
    """

    breaker: str
    by: str = "engine"


class CompensationBlocked(Notice, type="ensue.compensation_blocked"):
    """A compensation gave up: the other compensations of the run wait for an operator's decision.

    step: the compensation.
    run_id: its run, as text.
    compensates: the step that it compensates.
    letter: the id of the dead letter to decide on.
    error: the exception's type.
    message: its message.
    """

    run_id: str
    compensates: str
    letter: str
    error: str
    message: str


NOTICES: tuple[type[Notice], ...] = (
    StepRestarted,
    StepEscalated,
    PartitionTakenOver,
    BreakerOpened,
    BreakerHalfOpen,
    BreakerClosed,
    CompensationBlocked,
)
