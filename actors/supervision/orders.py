"""Orders and reports: what supervisors are told, and what they report to the engine.

Rules: closed unions of frozen data, each handled by one `match`. They hold no objects of the user, since a keeper never
unpickles the code of a step. Histories are kept by the engine, in the log, and given to the next keeper.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...cluster.processes import ProcessHandle
from ...events.supervision.policy import Supervision
from ...events.supervision.restart_history import RestartHistory
from ...events.supervision.tree import Broken, Escalated, Restarted, StepPolicy, StepStanding

__all__ = [
    "PARTITION_HISTORY",
    "ROOT",
    "ROOT_HISTORY",
    "Adopt",
    "AttendAnswered",
    "Begin",
    "EndWorker",
    "EndWorkers",
    "EngineMessage",
    "ForgetRestarts",
    "HelloAnswered",
    "HistoryChanged",
    "KeeperSpec",
    "LiveWorker",
    "ParentMessage",
    "PingAnswered",
    "PipelineMessage",
    "PipelineReport",
    "PipelineSpec",
    "ProcessEnded",
    "Report",
    "Reports",
    "RestartConfirmed",
    "RestartPipeline",
    "ResumeStep",
    "RootHistoryChanged",
    "RootMessage",
    "StandingChanged",
    "StartStep",
    "StepMessage",
    "StepQuiet",
    "StepUp",
    "StopStep",
    "SupervisionTimeouts",
    "SupervisorCrashed",
    "SupervisorRestarts",
    "SupervisorStarted",
    "WorkerGone",
    "WorkerMade",
    "WorkerOpened",
    "WorkerRefused",
    "WorkerWanted",
    "WorkerWorked",
    "step_path",
]

ROOT = "/root"
"""The path of the root supervisor: one that no pipeline can have."""
ROOT_HISTORY, PARTITION_HISTORY = "/root", "/partition"
"""The names under which the log keeps the histories that belong to no pipeline."""


class SupervisionTimeouts(NamedTuple):
    """Supervision timeouts, in seconds."""

    start_seconds: float = 60.0
    """A worker or a keeper has to come up within this time."""
    ping_seconds: float = 10.0 / 3
    """The time between two pings; a worker that misses three is killed."""
    silence_seconds: float = 30.0
    """The engine has to ask for reports within this time."""


class KeeperSpec(NamedTuple):
    """The engine and the place of a keeper."""

    engine: ProcessHandle
    node: str
    """The id of the Ray node that both are on."""
    actor_prefix: str
    """The beginning of the names of all actors of this engine: its store and its epoch."""
    timeouts: SupervisionTimeouts


class PipelineSpec(NamedTuple):
    """A pipeline and its steps, as their supervisors need to know them."""

    name: str
    policy: Supervision
    steps: tuple[StepPolicy, ...]


class LiveWorker(NamedTuple):
    """A worker that was there before its supervisor."""

    path: str
    """The path of its step's supervisor."""
    slot: int
    worker: int
    actor: Any
    process: ProcessHandle
    is_up: bool
    has_worked: bool
    """It has completed something since it came up."""


# -- orders: engine -> keeper ------------------------------------------------------------------------------------------


class Adopt(NamedTuple):
    """The first order to a keeper: all pipelines, what their supervisors remember, and the workers that run."""

    pipelines: tuple[PipelineSpec, ...]
    histories: Mapping[str, RestartHistory]
    """By path of the supervisor."""
    root_histories: Mapping[str, RestartHistory]
    """The root's own, by pipeline."""
    workers: tuple[LiveWorker, ...]


class RestartPipeline(NamedTuple):
    """Replace every worker of a pipeline, with all counters at zero."""

    pipeline: str


class WorkerMade(NamedTuple):
    """The engine has started a worker. start: the number of the `WorkerWanted` that this answers."""

    slot: int
    start: int
    worker: int
    actor: Any


class WorkerRefused(NamedTuple):
    """Ray refused to start a worker."""

    slot: int
    start: int
    reason: str


class WorkerOpened(NamedTuple):
    """The lane of a worker is open, so it has come up, even if it has not yet said so here."""

    worker: int


class WorkerWorked(NamedTuple):
    """A worker has completed its first delivery."""

    worker: int


class EndWorker(NamedTuple):
    """Kill a worker. is_blamed: the step is to blame, so this counts as a crash."""

    worker: int
    reason: str
    is_blamed: bool


# -- messages inside the keeper ----------------------------------------------------------------------------------------


class Begin(NamedTuple):
    """The first message to every supervisor."""


class SupervisorCrashed(NamedTuple):
    """To the parent: an exception ended a supervisor."""

    path: str
    reason: str


class StartStep(NamedTuple):
    """To a step: start all workers."""


class StopStep(NamedTuple):
    """To a step: end all workers, and answer `StepQuiet` when they are gone."""


class ForgetRestarts(NamedTuple):
    """To a step: set all counters to zero."""


class ResumeStep(NamedTuple):
    """To a step: its pipeline has a new supervisor. runs: the pipeline has not been given up."""

    runs: bool


class StepUp(NamedTuple):
    """To a pipeline: a worker of this step is up."""

    step: str


class StepQuiet(NamedTuple):
    """To a pipeline: the last worker of a step is gone, because it had to stop or because the step gave up."""

    step: str
    gave_up: str
    reason: str


class HelloAnswered(NamedTuple):
    """To a step: a worker answered `hello` with its node and pid, or failed to start."""

    worker: int
    error: BaseException | None
    location: tuple[str, int] | None


class AttendAnswered(NamedTuple):
    """To a step: the call that waits for the end of a worker has returned."""

    worker: int
    error: BaseException | None
    answer: str | None


class PingAnswered(NamedTuple):
    """To a step: a worker answered a ping, or the call failed."""

    worker: int
    error: BaseException | None
    answer: object


class ProcessEnded(NamedTuple):
    """To a step: a process that it watches has ended."""

    pid: int


RootMessage = Begin | Adopt | RestartPipeline | SupervisorCrashed
PipelineMessage = Begin | RestartPipeline | SupervisorCrashed | StepUp | StepQuiet
ParentMessage = Begin | StartStep | StopStep | ForgetRestarts | ResumeStep
"""To a step, from its pipeline's supervisor."""
EngineMessage = WorkerMade | WorkerRefused | WorkerOpened | WorkerWorked | EndWorker
"""To a step, from the engine."""
StepMessage = ParentMessage | EngineMessage | HelloAnswered | AttendAnswered | PingAnswered | ProcessEnded


# -- reports: keeper -> engine -----------------------------------------------------------------------------------------


class WorkerWanted(NamedTuple):
    """A worker is to be started. start: the number of this start, which the answer repeats."""

    path: str
    slot: int
    start: int


class WorkerGone(NamedTuple):
    """The process of a worker has ended."""

    path: str
    worker: int
    message: str
    is_blamed: bool
    """It had no order to end, so its running attempts count as crashed."""
    was_up: bool
    """It had come up, as far as its supervisor knows."""


class EndWorkers(NamedTuple):
    """Workers of a step have to end, and no supervisor has a record of them: the engine ends them."""

    path: str
    worker: int | None = None
    """Only this one; None: all workers of the step."""


class PipelineReport(NamedTuple):
    """What the supervisors of a pipeline did, as a notice."""

    pipeline: str
    event: Restarted | Escalated | Broken


class HistoryChanged(NamedTuple):
    """What a supervisor of a pipeline or step has to remember."""

    path: str
    history: RestartHistory


class RootHistoryChanged(NamedTuple):
    """What the root has to remember about a pipeline's supervisor."""

    pipeline: str
    history: RestartHistory


class StandingChanged(NamedTuple):
    """The current state of a step and its workers."""

    path: str
    standing: StepStanding


class SupervisorStarted(NamedTuple):
    """The supervisor of a pipeline or step runs."""

    path: str


class RestartConfirmed(NamedTuple):
    """The root has the order to restart a pipeline; the engine repeats it to the next keeper until it hears this."""

    pipeline: str


class SupervisorRestarts(NamedTuple):
    """A supervisor crashed; another takes its place after this wait."""

    path: str
    reason: str
    wait_seconds: float


Report = (
    WorkerWanted
    | WorkerGone
    | EndWorkers
    | PipelineReport
    | HistoryChanged
    | RootHistoryChanged
    | StandingChanged
    | SupervisorStarted
    | SupervisorRestarts
    | RestartConfirmed
)


class Reports(NamedTuple):
    """A batch of reports. The next call passes `upto`, which tells the keeper to forget this batch."""

    upto: int
    items: list[Report]


def step_path(pipeline: str, step: str) -> str:
    """The path of a step's supervisor."""
    return f"{pipeline}/{step}"
