"""PipelineSupervisor: the supervisor of one pipeline: its children are the supervisors of the steps.

Rules: pure code decides (`events/supervision/`), this carries it out. A step that had to stop, or that gave up, keeps
its supervisor: it tells when its last worker is gone, and is told to start again. One that crashed is replaced.
"""

from collections import deque
from collections.abc import Iterable
from typing import assert_never

from ...events.supervision.policy import How
from ...events.supervision.supervisor import ChildStatus, Escalate, Leave, Order, Restart, Start, Stop, Supervisor
from ...events.supervision.tree import StepPolicy, deserted, end_of_step, given_up
from . import orders
from .host import HostedSupervisor, SupervisorHost
from .step_supervisor import StepSupervisor

__all__ = ["PipelineSupervisor"]


class PipelineSupervisor(HostedSupervisor):
    """Starts, stops and replaces the supervisors of its steps."""

    def __init__(self, spec: orders.PipelineSpec, host: SupervisorHost) -> None:
        super().__init__(spec.name, host)
        self._steps: dict[str, StepPolicy] = {step.name: step for step in spec.steps}
        self._node = Supervisor(spec.name, spec.policy, self._steps)

    def handle(self, message: orders.PipelineMessage) -> None:
        """Process one message."""
        match message:
            case orders.Begin():
                self._begin()
            case orders.RestartPipeline():
                self._restart()
            case orders.SupervisorCrashed(path, reason):
                self._crashed(path.partition("/")[2], reason)
            case orders.StepUp(step):
                self._node.came_up(step, self._host.now_us())
            case orders.StepQuiet(step, gave_up, reason):
                self._do_and_remember(end_of_step(self._node, step, gave_up, reason, self._host.now_us()))
            case _:
                assert_never(message)

    def check(self) -> None:
        """Restart the supervisors that are due."""
        if not self._host.is_stopping:
            self._do(self._node.tick(self._host.now_us()))

    def next_check_seconds(self) -> float:
        """Until the first restart is due."""
        return self.seconds_until(self._node.due_us)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Take over the supervisors of the steps that are there, and start those that are not."""
        if (history := self._host.histories.get(self.path)) is not None:
            self._node.restore(history, self._host.now_us())
        for step in self._steps:
            self._post(step, orders.ResumeStep(runs=not self._node.gave_up))
        if self._node.gave_up:
            self._end_unsupervised()
            return
        decisions = self._node.start(self._host.now_us())
        self._do(order for order in decisions if not (isinstance(order, Start) and self._is_running(order.child)))

    def _end_unsupervised(self) -> None:
        """End workers that the keeper before this one had still to end when it died."""
        for step in self._steps:
            if not self._is_running(step) and self._host.workers.get(orders.step_path(self.path, step)):
                self._end_workers(step)

    def _restart(self) -> None:
        decisions = self._node.stop(self._host.now_us())
        self._node.forget()
        for step in self._steps:
            self._post(step, orders.ForgetRestarts())
        self._do(decisions)
        self._do_and_remember(self._node.start(self._host.now_us()))

    def _crashed(self, step: str, reason: str) -> None:
        if self._host.is_stopping:
            return
        child = self._node.children[step]
        was_stopping = child.status is ChildStatus.STOPPING
        decisions = self._node.ended(step, How.CRASHED, f"its supervisor ended: {reason}", self._host.now_us())
        alone = self._node.policy.strategy == "one_for_one"
        if was_stopping or not alone or child.status is not ChildStatus.RESTARTING:
            self._end_workers(step)  # they had to stop, or are restarted with it, as those of its siblings are
        for order in decisions:
            if isinstance(order, Restart):
                path = orders.step_path(self.path, step)
                self._host.report(orders.SupervisorRestarts(path, order.reason, order.wait_us / 1e6))
        self._do_and_remember(decisions)

    # -- orders --------------------------------------------------------------------------------------------------------

    def _do_and_remember(self, decisions: list[Order]) -> None:
        self._do(decisions)
        if decisions:
            self._host.remember(self.path, self._node.history())

    def _do(self, decisions: Iterable[Order]) -> None:
        waiting = deque(decisions)
        while waiting:
            order = waiting.popleft()
            match order:
                case Start(step):
                    self._start(step)
                case Stop(step) if self._is_running(step):
                    self._post(step, orders.StopStep())
                case Stop(step):
                    self._end_workers(step)
                    waiting += self._node.ended(step, How.ORDERED, "it was told to stop", self._host.now_us())
                case Restart():
                    pass
                case Leave(step, reason):
                    self._host.report(orders.PipelineReport(self.path, deserted(self._node, step, reason)))
                case Escalate():
                    self._host.report(orders.PipelineReport(self.path, given_up(self._node, order)))
                case _:
                    assert_never(order)

    def _start(self, step: str) -> None:
        if self._is_running(step):
            self._post(step, orders.StartStep())
        else:
            self._host.start(StepSupervisor(self.path, self._steps[step], self._host))

    def _end_workers(self, step: str) -> None:
        """Have the engine end the workers of a step whose supervisor crashed."""
        path = orders.step_path(self.path, step)
        self._host.workers.pop(path, None)
        self._host.report(orders.EndWorkers(path))

    def _is_running(self, step: str) -> bool:
        return self._host.is_running(orders.step_path(self.path, step))

    def _post(
        self, step: str, message: orders.ResumeStep | orders.ForgetRestarts | orders.StartStep | orders.StopStep
    ) -> None:
        if self._is_running(step):
            self._host.post(orders.step_path(self.path, step), message)
