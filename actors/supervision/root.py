"""RootSupervisor: the supervisor above those of the pipelines. It restarts one that crashed, with its history.

Rules: each pipeline has the intensity of its own policy here too, so pipelines do not share a counter. A pipeline whose
supervisor keeps crashing is given up, like one whose supervisor gives up. Nothing in the keeper is above the root.
"""

from collections.abc import Iterable
from typing import assert_never

from ...events.supervision.policy import How
from ...events.supervision.restart_history import RestartHistory
from ...events.supervision.supervisor import Escalate, Leave, Order, Restart, Start, Stop, Supervisor
from ...events.supervision.tree import Escalated
from . import orders
from .host import HostedSupervisor, SupervisorHost
from .pipeline_supervisor import PipelineSupervisor
from .supervised_worker import adopted_worker

__all__ = ["RootSupervisor"]

_ABOVE = "engine"
"""The name by which the root appears in notices."""


class RootSupervisor(HostedSupervisor):
    """One rule set (`Supervisor`) for each pipeline."""

    def __init__(self, host: SupervisorHost) -> None:
        super().__init__(orders.ROOT, host)
        self._specs: dict[str, orders.PipelineSpec] = {}
        self._nodes: dict[str, Supervisor] = {}

    def handle(self, message: orders.RootMessage) -> None:
        """Process one message."""
        match message:
            case orders.Begin():
                pass  # it starts the pipelines when the engine has sent them
            case orders.Adopt():
                self._adopt(message)
            case orders.RestartPipeline(pipeline):
                self._restart(pipeline)
            case orders.SupervisorCrashed(pipeline, reason):
                self._crashed(pipeline, reason)
            case _:
                assert_never(message)

    def check(self) -> None:
        """Restart the supervisors that are due."""
        if not self._host.is_stopping:
            for name, node in self._nodes.items():
                self._do(name, node.tick(self._host.now_us()))

    def next_check_seconds(self) -> float:
        """Until the first restart is due."""
        return min((self.seconds_until(node.due_us) for node in self._nodes.values()), default=60.0)

    def _adopt(self, order: orders.Adopt) -> None:
        self._host.histories.update(order.histories)
        for live in order.workers:
            self._host.workers[live.path][live.slot] = adopted_worker(live, self._host.now)
        for spec in order.pipelines:
            node = self._nodes[spec.name] = Supervisor(_ABOVE, spec.policy, [spec.name])
            self._specs[spec.name] = spec
            node.restore(order.root_histories.get(spec.name, RestartHistory()), self._host.now_us())
            if not node.gave_up:
                self._do(spec.name, node.start(self._host.now_us()))

    def _restart(self, pipeline: str) -> None:
        node = self._nodes[pipeline]
        node.forget()
        self._host.report(orders.RestartConfirmed(pipeline))
        if not node.gave_up:
            self._host.post(pipeline, orders.RestartPipeline(pipeline))
            return
        for path in self._paths(pipeline):
            self._host.histories.pop(path, None)
        self._do(pipeline, node.start(self._host.now_us()))

    def _crashed(self, pipeline: str, reason: str) -> None:
        if self._host.is_stopping:
            return
        reason = f"its supervisor ended: {reason}"
        self._do(pipeline, self._nodes[pipeline].ended(pipeline, How.CRASHED, reason, self._host.now_us()))

    def _do(self, name: str, decisions: Iterable[Order]) -> None:
        node = self._nodes[name]
        for order in decisions:
            match order:
                case Start():
                    self._host.start(PipelineSupervisor(self._specs[name], self._host))
                    node.came_up(name, self._host.now_us())
                case Restart(_, _, reason, _, wait_us):
                    self._host.report(orders.RootHistoryChanged(name, node.history()))
                    self._host.report(orders.SupervisorRestarts(name, reason, wait_us / 1e6))
                case Escalate():
                    self._give_up(name, order)
                case Stop() | Leave():
                    pass
                case _:
                    assert_never(order)

    def _give_up(self, name: str, order: Escalate) -> None:
        node = self._nodes[name]
        for path in self._paths(name):
            self._host.remove(path)
            if path != name:
                self._host.workers.pop(path, None)
                self._host.report(orders.EndWorkers(path))
        self._host.report(orders.RootHistoryChanged(name, node.history()))
        told = Escalated(_ABOVE, "", "", order.reason, order.restarts, node.policy.period_seconds, failed=True)
        self._host.report(orders.PipelineReport(name, told))

    def _paths(self, pipeline: str) -> list[str]:
        """The pipeline's supervisor and those of its steps."""
        return [pipeline, *(orders.step_path(pipeline, step.name) for step in self._specs[pipeline].steps)]
