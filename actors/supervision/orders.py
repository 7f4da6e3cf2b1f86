"""Charters and reports: what supervisors are told when they start, and what they tell the engine.

Rules: plain tuples, with nothing of the user's in them: a supervisor never opens the code of a step. Their histories are
kept by the engine, in the log, and given to whoever comes next.
"""

from typing import Any, NamedTuple

from ...cluster.processes import ProcessMark
from ...events.supervision.supervisor import Supervision
from .supervisor_actor import SupervisionTimeouts

__all__ = [
    "PARTITION_HISTORY",
    "ROOT_HISTORY",
    "LiveWorker",
    "StepEnds",
    "SupervisorGaveUp",
    "SupervisorGone",
    "SupervisorSpec",
    "SupervisorUp",
    "WorkerGone",
    "WorkerWanted",
    "step_path",
]


ROOT_HISTORY, PARTITION_HISTORY = "/root", "/partition"
"""Under which names the log has the histories that are of no pipeline: names that no pipeline can have."""


class SupervisorSpec(NamedTuple):
    """What a supervisor has to know that looks after a pipeline, or after one of its steps.

    name: `pipeline` or `pipeline/step`. children: the names of the steps, or of the places of workers. incarnation: how
    many of this name there were before it, of this engine. family: how the names of all actors of this engine begin.
    """

    name: str
    children: tuple[str, ...]
    policy: Supervision
    incarnation: int
    family: str
    engine: ProcessMark
    node: str
    patience: SupervisionTimeouts


class LiveWorker(NamedTuple):
    """A worker that was there before its supervisor. up: it has come up. worked: it has got something done."""

    slot: int
    worker: int
    actor: Any
    mark: ProcessMark
    up: bool
    worked: bool


class SupervisorUp(NamedTuple):
    """Report: this is the supervisor of a pipeline, or of a step, now."""

    name: str
    incarnation: int
    actor: Any


class SupervisorGone(NamedTuple):
    """Report: a supervisor is gone; the next one starts after this wait. history: of the one above it, who reports it."""

    name: str
    reason: str
    restarts: int
    wait_seconds: float
    history: list[Any]


class SupervisorGaveUp(NamedTuple):
    """Report of the root: a pipeline's supervisor died too often."""

    name: str
    reason: str
    restarts: int
    history: list[Any]


class StepEnds(NamedTuple):
    """Report of a pipeline's supervisor: a step's workers are to end, and it has no supervisor to see to that."""

    step: str


class WorkerWanted(NamedTuple):
    """Report: a worker is to be started. start: names this start, for the answer."""

    slot: int
    start: int


class WorkerGone(NamedTuple):
    """Report: a worker's process is gone. was_up: it had come up, as far as its supervisor knows.

    blamed: nobody had ordered it, so what it ran is to count as crashed.
    """

    worker: int
    message: str
    blamed: bool
    was_up: bool


def step_path(pipeline: str, step: str) -> str:
    """The name of a step's supervisor."""
    return f"{pipeline}/{step}"
