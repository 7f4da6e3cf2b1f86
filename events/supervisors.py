"""Supervisors: the tree of one pipeline. A supervisor for each step looks after its workers, one above looks after those.

Law: pure, as `supervision.py`, of which every node is one: what a node hands up is the end of a child to the node
above. What comes out is for whoever has the processes: workers to start and to end, and what is to be told.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, assert_never

from .supervision import ChildStatus, Escalate, How, Order, Restart, Start, Stop, Supervision, Supervisor

__all__ = [
    "FAILED_STARTS",
    "Action",
    "Broken",
    "Escalated",
    "PipelineTree",
    "Restarted",
    "StartWorker",
    "StepPolicy",
    "StopWorker",
]

FAILED_STARTS = 5
"""So many starts of a step's workers that fail, with no success between them, and what waits for it fails."""


class StepPolicy(NamedTuple):
    """A step as its supervisor has to know it."""

    name: str
    replicas: int
    policy: Supervision


class StartWorker(NamedTuple):
    """Start a worker of a step; its place among them is `slot`."""

    step: str
    slot: int


class StopWorker(NamedTuple):
    """End the worker in this place for certain; `ended` says when it is gone."""

    step: str
    slot: int


class Restarted(NamedTuple):
    """Another worker takes the place of one that ended, after a wait. expected: its end had been ordered."""

    step: str
    reason: str
    restarts: int
    wait_seconds: float
    expected: bool


class Escalated(NamedTuple):
    """A supervisor gave up. step: empty for that of the pipeline. failed: nobody is left to take it."""

    supervisor: str
    to: str
    step: str
    reason: str
    restarts: int
    period_seconds: float
    failed: bool


class Broken(NamedTuple):
    """Start after start of a step's workers failed."""

    step: str
    message: str


Action = StartWorker | StopWorker | Restarted | Escalated | Broken


class PipelineTree:
    """The supervisors of one pipeline. Every method returns what has to be done, in order."""

    def __init__(self, pipeline: str, policy: Supervision, steps: Iterable[StepPolicy]) -> None:
        known = list(steps)
        self.pipeline = pipeline
        self.top = Supervisor(pipeline, policy, [step.name for step in known])
        self.steps = {
            step.name: Supervisor(f"{pipeline}/{step.name}", step.policy, [str(n) for n in range(step.replicas)])
            for step in known
        }
        self._failed_starts: Counter[str] = Counter()

    @property
    def failed(self) -> str:
        """Why the pipeline was given up; empty while it was not."""
        return self.top.gave_up

    @property
    def due_us(self) -> int | None:
        """When `tick` has something to start."""
        times = (node.due_us for node in (self.top, *self.steps.values()))
        return min((time_us for time_us in times if time_us is not None), default=None)

    @property
    def is_quiet(self) -> bool:
        """Whether no worker has a process."""
        return all(node.is_quiet for node in self.steps.values())

    def start(self, now_us: int) -> list[Action]:
        """Start what is not there; a pipeline that was given up begins anew."""
        self._failed_starts.clear()
        return self._carry_out(self.top.start(now_us), now_us)

    def stop(self, now_us: int) -> list[Action]:
        """End all workers."""
        return self._carry_out(self.top.stop(now_us), now_us)

    def restart(self, now_us: int) -> list[Action]:
        """End all workers and start new ones, with every counter at zero: an operator wants it so."""
        actions = self.stop(now_us)
        for node in (self.top, *self.steps.values()):
            node.forget()
        return [*actions, *self.start(now_us)]

    def came_up(self, step: str, slot: int, now_us: int) -> None:
        """A worker is ready for work."""
        self._failed_starts.pop(step, None)
        self.steps[step].came_up(str(slot), now_us)
        self.top.came_up(step, now_us)

    def ended(self, step: str, slot: int, how: How, reason: str, now_us: int) -> list[Action]:
        """A worker is gone."""
        node = self.steps[step]
        broken = self._broken(step, reason) if how is How.UNSTARTED else []
        actions = self._of_step(step, node.ended(str(slot), how, reason, now_us))
        return [*broken, *actions, *self._handed_up(step, reason, now_us)]

    def tick(self, now_us: int) -> list[Action]:
        """Start what is due."""
        actions = self._carry_out(self.top.tick(now_us), now_us)
        for name, node in self.steps.items():
            actions += self._of_step(name, node.tick(now_us))
        return actions

    def histories(self) -> dict[str, list[Any]]:
        """What has to outlive this process, by supervisor."""
        return {node.name: node.history() for node in (self.top, *self.steps.values())}

    def restore(self, histories: Mapping[str, list[Any]], now_us: int) -> None:
        """Go on with the histories of an earlier process."""
        for node in (self.top, *self.steps.values()):
            if node.name in histories:
                node.restore(histories[node.name], now_us)

    def _broken(self, step: str, reason: str) -> list[Action]:
        self._failed_starts[step] += 1
        times = self._failed_starts[step]
        if times < FAILED_STARTS:
            return []
        return [Broken(step, f"no worker of step {step} starts ({times} times in a row): {reason}")]

    def _handed_up(self, step: str, reason: str, now_us: int) -> list[Action]:
        """The end of a step's last worker is the end of the step, where it had to stop or has given up."""
        node = self.steps[step]
        if not node.is_quiet:
            return []
        if self.top.children[step].status is ChildStatus.STOPPING:
            return self._carry_out(self.top.ended(step, How.ORDERED, reason, now_us), now_us)
        if node.gave_up:
            return self._carry_out(self.top.ended(step, How.CRASHED, node.gave_up, now_us), now_us)
        return []

    def _carry_out(self, orders: list[Order], now_us: int) -> list[Action]:
        """Orders about steps, made into orders about workers."""
        actions: list[Action] = []
        waiting = deque(orders)
        while waiting:
            order = waiting.popleft()
            match order:
                case Start(step):
                    actions += self._of_step(step, self.steps[step].start(now_us))
                case Stop(step):
                    actions += self._of_step(step, self.steps[step].stop(now_us))
                    if self.steps[step].is_quiet:
                        waiting += self.top.ended(step, How.ORDERED, "it was told to stop", now_us)
                case Restart():
                    pass  # told by the step's own escalation
                case Escalate(reason, restarts):
                    period = self.top.policy.period_seconds
                    actions.append(Escalated(self.pipeline, "", "", reason, restarts, period, failed=True))
                case _:
                    assert_never(order)
        return actions

    def _of_step(self, step: str, orders: list[Order]) -> list[Action]:
        node = self.steps[step]
        actions: list[Action] = []
        for order in orders:
            match order:
                case Start(child):
                    actions.append(StartWorker(step, int(child)))
                case Stop(child):
                    actions.append(StopWorker(step, int(child)))
                case Restart(_, how, reason, restarts, wait_us):
                    actions.append(Restarted(step, reason, restarts, wait_us / 1e6, how is How.ORDERED))
                case Escalate(reason, restarts):
                    period = node.policy.period_seconds
                    actions.append(Escalated(node.name, self.pipeline, step, reason, restarts, period, failed=False))
                case _:
                    assert_never(order)
        return actions
