"""Supervisors: the tree of one pipeline. A supervisor for each step looks after its workers, one above looks after those.

Law: pure, as `supervision.py`, of which every node is one: what a node hands up is the end of a child to the node
above. What comes out is for whoever has the processes: workers to start and to end, and what is to be told.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, assert_never

from .policy import How, Supervision
from .supervisor import ChildStatus, Escalate, Leave, Order, Restart, Start, Stop, Supervisor

__all__ = [
    "FAILED_STARTS",
    "Action",
    "Broken",
    "Escalated",
    "PipelineTree",
    "Restarted",
    "StartWorker",
    "StepPolicy",
    "StepSupervisorNode",
    "StopWorker",
    "deserted",
    "end_of_step",
    "given_up",
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
    """A supervisor gave up, or has nobody left to look after. step: empty for that of the pipeline.

    failed: nobody is left to take it, and what waits for it waits until an operator acts.
    """

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


class StepSupervisorNode:
    """The supervisor of one step. Every method returns what has to be done, in order."""

    def __init__(self, pipeline: str, step: StepPolicy) -> None:
        self._pipeline = pipeline
        self._step = step.name
        self.failed_starts = 0
        """In a row."""
        self.node = Supervisor(f"{pipeline}/{step.name}", step.policy, [str(n) for n in range(step.replicas)])

    def start(self, now_us: int) -> list[Action]:
        """Start what is not there; a step that was given up begins anew."""
        return self._carry_out(self.node.start(now_us))

    def stop(self, now_us: int) -> list[Action]:
        """End all workers."""
        return self._carry_out(self.node.stop(now_us))

    def came_up(self, slot: int, now_us: int) -> None:
        """A worker is ready for work."""
        self.failed_starts = 0
        self.node.came_up(str(slot), now_us)

    def ended(self, slot: int, how: How, reason: str, now_us: int) -> list[Action]:
        """A worker is gone."""
        broken = self._broken(reason) if how is How.UNSTARTED else []
        return [*broken, *self._carry_out(self.node.ended(str(slot), how, reason, now_us))]

    def ended_early(self, slot: int, reason: str, now_us: int) -> Restarted | None:
        """A worker that had got something done is gone before there is a supervisor: who takes its place at once.

        None where a supervisor is needed: others share its fate, or nobody takes its place.
        """
        self.start(now_us)
        self.came_up(slot, now_us)
        match self.ended(slot, How.WORKED, reason, now_us):
            case [Restarted() as told, StartWorker()]:
                return told
            case _:
                return None

    def tick(self, now_us: int) -> list[Action]:
        """Start what is due."""
        return self._carry_out(self.node.tick(now_us))

    def forget(self) -> None:
        """All counters at zero."""
        self.failed_starts = 0
        self.node.forget()

    def _broken(self, reason: str) -> list[Action]:
        self.failed_starts += 1
        times = self.failed_starts
        if times < FAILED_STARTS:
            return []
        return [Broken(self._step, f"no worker of step {self._step} starts ({times} times in a row): {reason}")]

    def _carry_out(self, orders: list[Order]) -> list[Action]:
        actions: list[Action] = []
        for order in orders:
            match order:
                case Start(child):
                    actions.append(StartWorker(self._step, int(child)))
                case Stop(child):
                    actions.append(StopWorker(self._step, int(child)))
                case Restart(_, how, reason, restarts, wait_us):
                    actions.append(Restarted(self._step, reason, restarts, wait_us / 1e6, how is How.ORDERED))
                case Escalate(reason, restarts):
                    period = self.node.policy.period_seconds
                    to = (self._pipeline, self._step)
                    actions.append(Escalated(self.node.name, *to, reason, restarts, period, failed=False))
                case Leave(_, reason):
                    if self.node.is_deserted:
                        actions.append(deserted(self.node, self._step, reason))
                case _:
                    assert_never(order)
        return actions


def end_of_step(top: Supervisor, step: str, gave_up: str, reason: str, now_us: int) -> list[Order]:
    """What follows at a pipeline when a step's last worker is gone: its end, where it had to stop or has given up."""
    if top.children[step].status is ChildStatus.STOPPING:
        return top.ended(step, How.ORDERED, reason, now_us)
    return top.ended(step, How.CRASHED, gave_up, now_us) if gave_up else []


def given_up(top: Supervisor, order: Escalate) -> Escalated:
    """What is told when the supervisor of a pipeline gives up: nobody is above it who could take it."""
    return Escalated(top.name, "", "", order.reason, order.restarts, top.policy.period_seconds, failed=True)


def deserted(node: Supervisor, step: str, reason: str) -> Escalated:
    """What is told when a step has no worker left and by its type of child gets none: an operator has to know."""
    why = f"it has no worker left, and its children are {node.policy.child}: {reason}"
    return Escalated(node.name, "", step, why, 0, node.policy.period_seconds, failed=True)


class PipelineTree:
    """All supervisors of one pipeline at one place, as a simulation has them. Every method returns what has to be done."""

    def __init__(self, pipeline: str, policy: Supervision, steps: Iterable[StepPolicy]) -> None:
        self.pipeline = pipeline
        self.steps = {step.name: StepSupervisorNode(pipeline, step) for step in steps}
        self.top = Supervisor(pipeline, policy, self.steps)

    @property
    def failed(self) -> str:
        """Why the pipeline was given up; empty while it was not."""
        return self.top.gave_up

    @property
    def due_us(self) -> int | None:
        """When `tick` has something to start."""
        times = (node.due_us for node in self._nodes)
        return min((time_us for time_us in times if time_us is not None), default=None)

    @property
    def is_quiet(self) -> bool:
        """Whether no worker has a process."""
        return all(step.node.is_quiet for step in self.steps.values())

    def start(self, now_us: int) -> list[Action]:
        """Start what is not there; a pipeline that was given up begins anew."""
        for step in self.steps.values():
            step.failed_starts = 0
        return self._carry_out(self.top.start(now_us), now_us)

    def stop(self, now_us: int) -> list[Action]:
        """End all workers."""
        return self._carry_out(self.top.stop(now_us), now_us)

    def restart(self, now_us: int) -> list[Action]:
        """End all workers and start new ones, with every counter at zero: an operator wants it so."""
        actions = self.stop(now_us)
        self.top.forget()
        for step in self.steps.values():
            step.forget()
        return [*actions, *self.start(now_us)]

    def came_up(self, step: str, slot: int, now_us: int) -> None:
        """A worker is ready for work."""
        self.steps[step].came_up(slot, now_us)
        self.top.came_up(step, now_us)

    def ended(self, step: str, slot: int, how: How, reason: str, now_us: int) -> list[Action]:
        """A worker is gone."""
        below = self.steps[step]
        actions = below.ended(slot, how, reason, now_us)
        if below.node.is_quiet:
            actions += self._carry_out(end_of_step(self.top, step, below.node.gave_up, reason, now_us), now_us)
        return actions

    def tick(self, now_us: int) -> list[Action]:
        """Start what is due."""
        actions = self._carry_out(self.top.tick(now_us), now_us)
        for step in self.steps.values():
            actions += step.tick(now_us)
        return actions

    def histories(self) -> dict[str, list[Any]]:
        """What has to outlive this process, by supervisor."""
        return {node.name: node.history() for node in self._nodes}

    def restore(self, histories: Mapping[str, list[Any]], now_us: int) -> None:
        """Go on with the histories of an earlier process."""
        for node in self._nodes:
            if node.name in histories:
                node.restore(histories[node.name], now_us)

    @property
    def _nodes(self) -> list[Supervisor]:
        return [self.top, *(step.node for step in self.steps.values())]

    def _carry_out(self, orders: list[Order], now_us: int) -> list[Action]:
        """Orders about steps, made into orders about workers."""
        actions: list[Action] = []
        waiting = deque(orders)
        while waiting:
            order = waiting.popleft()
            match order:
                case Start(step):
                    actions += self.steps[step].start(now_us)
                case Stop(step):
                    actions += self.steps[step].stop(now_us)
                    if self.steps[step].node.is_quiet:
                        waiting += self.top.ended(step, How.ORDERED, "it was told to stop", now_us)
                case Restart():
                    pass  # told by the step's own escalation
                case Leave(step, reason):
                    actions.append(deserted(self.top, step, reason))
                case Escalate():
                    actions.append(given_up(self.top, order))
                case _:
                    assert_never(order)
        return actions
