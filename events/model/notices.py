"""Notices: what the engine does of its own accord, as events that pipelines can hear.

Rules: a notice starts a run in every pipeline with a step that hears its type, and none where nobody does. A pipeline
does not hear a notice about a step of its own that hears such notices, so that a handler that breaks does not call
itself for ever.
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
    """The root of all notices: what it is about. `pipeline` and `step` are empty where it is about neither."""

    pipeline: str = ""
    step: str = ""


class StepRestarted(Notice, type="ensue.step_restarted"):
    """A worker of a step ended and another one takes its place.

    reason: how it ended. restarts: how many in the step's current period. wait_seconds: the backoff before the start.
    """

    reason: str
    restarts: int
    wait_seconds: float


class StepEscalated(Notice, type="ensue.step_escalated"):
    """A supervisor saw more restarts than its intensity allows and hands the fault up, or has no worker left.

    supervisor: `pipeline/step`, `pipeline`, or `engine`. to: who takes it (empty at the top). failed: the pipeline is
    given up (`step` is empty), or the step's last worker is gone and by the type of child nobody takes its place; what
    waits for it waits until an operator acts.
    """

    supervisor: str
    to: str
    reason: str
    restarts: int
    period_seconds: float
    failed: bool = False


class PartitionTakenOver(Notice, type="ensue.partition_taken_over"):
    """An engine took over a log whose last owner had not left it in order. epoch: the new one. previous: the last owner."""

    epoch: int
    previous: str
    owner: str
    resumed_runs: int


class BreakerOpened(Notice, type="ensue.breaker_opened"):
    """A circuit breaker opened: nothing is called for `open_seconds`; what waits loses no attempt.

    breaker: its name. reason: what tripped it. by: `engine`, or the operator who forced it.
    """

    breaker: str
    reason: str
    open_seconds: float
    by: str = "engine"


class BreakerHalfOpen(Notice, type="ensue.breaker_half_open"):
    """A circuit breaker lets one probe at a time through."""

    breaker: str


class BreakerClosed(Notice, type="ensue.breaker_closed"):
    """A circuit breaker closed: calls go through again."""

    breaker: str
    by: str = "engine"


class CompensationBlocked(Notice, type="ensue.compensation_blocked"):
    """A compensation gave up: the rest of the run's compensations waits for an operator's decision.

    step: the compensating step. compensates: the step whose effect it undoes. letter: the dead letter to decide on.
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
