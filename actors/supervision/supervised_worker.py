"""SupervisedWorker: the record that a step's supervisor keeps of one worker.

Rules: plain state plus the two calls that end a worker. The record outlives the supervisor that made it, as the worker
itself does.
"""

from dataclasses import dataclass
from typing import Any

from ...cluster.processes import NO_PROCESS, ProcessHandle, kill
from ...cluster.ray.session import ray_module
from ...events.supervision.policy import How
from .orders import LiveWorker

__all__ = ["SupervisedWorker", "adopted_worker"]


@dataclass(slots=True, eq=False)
class SupervisedWorker:
    """The worker in one slot of a step."""

    slot: int
    start: int
    """The number of the `WorkerWanted` that asked for it; 0 if it was adopted."""
    since: float
    """When it was asked for, made or located, in monotonic seconds."""
    worker: int = 0
    """0 until the engine has made it."""
    actor: Any = None
    process: ProcessHandle = NO_PROCESS
    is_located: bool = False
    """Its node and pid are known."""
    is_watched: bool = False
    """The end of its process will be put into the mailbox."""
    is_up: bool = False
    has_worked: bool = False
    end_reason: str | None = None
    """Why it was told to end, or how it ended."""
    how: How = How.ORDERED
    missed_pings: int = 0
    gone_since: float = 0.0
    """When its process was seen to have ended."""

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end, or has ended."""
        return self.end_reason is not None

    def kill(self) -> None:
        """Kill the process itself if it is on this node: Ray's own kill asks the process to end itself."""
        kill(self.process)
        if self.actor is not None:
            ray_module().kill(self.actor, no_restart=True)


def adopted_worker(live: LiveWorker, now: float) -> SupervisedWorker:
    """The record of a worker that runs already."""
    return SupervisedWorker(
        live.slot,
        0,
        now,
        live.worker,
        live.actor,
        live.process,
        is_located=live.is_up,
        is_up=live.is_up,
        has_worked=live.has_worked,
    )
