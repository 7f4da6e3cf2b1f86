"""PipelineTree: the supervision tree of one pipeline: a supervisor for each step's workers, and one above them.

Rules: pure, like `supervisor.py`, of which every node is an instance. The escalation of a node is the end of a child at
the node above. The results are actions: workers to start and to stop, and events to announce.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple, assert_never

from .policy import How, Supervision
from .restart_history import RestartHistory
from .supervisor import ChildStatus, Escalate, Leave, Order, Restart, Start, Stop, Supervisor

__all__ = [
    "FAILED_STARTS",
    "Action",
    "Broken",
    "Escalated",
    "PipelineTree",
    "Restarted",
    "SlotStanding",
    "StartWorker",
    "StepPolicy",
    "StepStanding",
    "StepSupervisorNode",
    "StopWorker",
    "deserted",
    "end_of_step",
    "given_up",
]

FAILED_STARTS = 5
"""After this many failed starts of a step's workers in a row, the events that wait for the step fail."""


class StepPolicy(NamedTuple):
    """What its supervisor needs to know of a step."""

    name: str
    replicas: int
    policy: Supervision


class StartWorker(NamedTuple):
    """Start the worker in this slot of a step."""

    step: str
    slot: int


class StopWorker(NamedTuple):
    """Kill the worker in this slot; `ended` is called when it is gone."""

    step: str
    slot: int


class Restarted(NamedTuple):
    """Another worker takes the place of one that ended, after a wait."""

    step: str
    reason: str
    restarts: int
    """Those that count, in the current period."""
    wait_seconds: float
    expected: bool
    """The end of the earlier one had been ordered."""


class Escalated(NamedTuple):
    """A supervisor gave up, or has no child left."""

    supervisor: str
    to: str
    step: str
    """Empty if the supervisor is the pipeline's."""
    reason: str
    restarts: int
    period_seconds: float
    failed: bool
    """Nothing is above that could restart it, so its events wait until an operator acts."""


class Broken(NamedTuple):
    """The starts of a step's workers failed again and again."""

    step: str
    message: str


class SlotStanding(NamedTuple):
    """The current state of one slot of a step."""

    slot: int
    status: ChildStatus
    since_us: int
    restarts: int
    reason: str
    pid: int
    """0 if there is no process, or it is not known."""


class StepStanding(NamedTuple):
    """The current state of a step."""

    gave_up: str
    """Why its supervisor gave up; empty if it did not."""
    slots: tuple[SlotStanding, ...]


Action = StartWorker | StopWorker | Restarted | Escalated | Broken


class StepSupervisorNode:
    """The decisions of one step's supervisor. Every method returns what has to be done, in order."""

    def __init__(self, pipeline: str, step: StepPolicy) -> None:
        self._pipeline = pipeline
        self._step = step.name
        self.failed_starts = 0
        """In a row."""
        self.node = Supervisor(f"{pipeline}/{step.name}", step.policy, [str(n) for n in range(step.replicas)])

    def start(self, now_us: int) -> list[Action]:
        """Start the workers that are not there; a step that gave up starts with its counters at zero."""
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
        """A worker that had completed something is gone before there is a supervisor: its immediate replacement.

        None if a supervisor has to see to it: others are restarted with it, or nobody takes its place.
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
        """Set all counters to zero."""
        self.failed_starts = 0
        self.node.forget()

    def standing(self, pids: Mapping[int, int]) -> StepStanding:
        """The current state; `pids` has the process of each slot."""
        slots = (
            SlotStanding(int(c.name), c.status, c.since_us, c.restarts, c.reason, pids.get(int(c.name), 0))
            for c in self.node.children.values()
        )
        return StepStanding(self.node.gave_up, tuple(slots))

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
    """The end of a step at its pipeline, when its last worker is gone: if it had to stop, or gave up."""
    if top.children[step].status is ChildStatus.STOPPING:
        return top.ended(step, How.ORDERED, reason, now_us)
    return top.ended(step, How.CRASHED, gave_up, now_us) if gave_up else []


def given_up(top: Supervisor, order: Escalate) -> Escalated:
    """The event of a pipeline that is given up: there is no supervisor above that could restart it."""
    return Escalated(top.name, "", "", order.reason, order.restarts, top.policy.period_seconds, failed=True)


def deserted(node: Supervisor, step: str, reason: str) -> Escalated:
    """The event of a step that has no worker left and gets none by its child type: an operator has to act."""
    why = f"it has no worker left, and its children are {node.policy.child}: {reason}"
    return Escalated(node.name, "", step, why, 0, node.policy.period_seconds, failed=True)


class PipelineTree:
    """All supervisors of a pipeline without mailboxes, for the simulator. Every method returns what has to be done."""

    def __init__(self, pipeline: str, policy: Supervision, steps: Iterable[StepPolicy]) -> None:
        self.pipeline = pipeline
        self.steps = {step.name: StepSupervisorNode(pipeline, step) for step in steps}
        self.top = Supervisor(pipeline, policy, self.steps)

    @property
    def failed(self) -> str:
        """Why the pipeline was given up; empty if it was not."""
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
        """Start what is not there; a pipeline that was given up starts with its counters at zero."""
        for step in self.steps.values():
            step.failed_starts = 0
        return self._carry_out(self.top.start(now_us), now_us)

    def stop(self, now_us: int) -> list[Action]:
        """End all workers."""
        return self._carry_out(self.top.stop(now_us), now_us)

    def restart(self, now_us: int) -> list[Action]:
        """Replace all workers, with every counter at zero, because an operator wants it."""
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

    def histories(self) -> dict[str, RestartHistory]:
        """What has to outlive the supervisors, by name."""
        return {node.name: node.history() for node in self._nodes}

    def restore(self, histories: Mapping[str, RestartHistory], now_us: int) -> None:
        """Continue with the histories of earlier supervisors."""
        for node in self._nodes:
            if node.name in histories:
                node.restore(histories[node.name], now_us)

    @property
    def _nodes(self) -> list[Supervisor]:
        return [self.top, *(step.node for step in self.steps.values())]

    def _carry_out(self, orders: list[Order], now_us: int) -> list[Action]:
        """Turn orders about steps into actions on workers."""
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
                    pass  # the escalation of the step has announced it
                case Leave(step, reason):
                    actions.append(deserted(self.top, step, reason))
                case Escalate():
                    actions.append(given_up(self.top, order))
                case _:
                    assert_never(order)
        return actions
