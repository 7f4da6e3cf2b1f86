"""PipelineSupervisor: the Ray actor that looks after one pipeline: its children are the supervisors of the steps.

Rules: what follows from what is decided by a pure node (`events/supervision/supervisor.py`); this does it. A step that had to stop,
or that gave up, keeps its actor: it says when its last worker is gone, and is told to begin again. One whose process
ended is started anew. What a step needs to go on, workers and history, the engine tells it.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from ...cluster.ray.session import ray_module
from ...events.supervision.supervisor import ChildStatus, Escalate, How, Leave, Order, Restart, Start, Stop, Supervisor
from ...events.supervision.tree import deserted, end_of_step, given_up
from .orders import StepEnds, SupervisorGone, SupervisorSpec, step_path
from .step_supervisor import StepSupervisor
from .supervisor_actor import send
from .supervisor_parent import SupervisorChild, SupervisorParent

__all__ = ["PipelineSupervisor"]


class PipelineSupervisor(SupervisorParent):
    """The Ray actor. Detached and named, so that neither the root nor the engine takes it along when it ends."""

    child_type = StepSupervisor
    kind = "step"

    def __init__(self, charter: SupervisorSpec) -> None:
        self._charter = charter
        self._node = Supervisor(charter.name, charter.policy, charter.children)
        self._stopping = False
        self._me = ray_module().get_runtime_context().current_actor
        super().__init__(charter.engine, charter.patience)

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {
            **super()._orders(),
            "adopt": self._adopt,
            "remind": self._remind,
            "working": self._working,
            "quiet": self._quiet,
            "stop": self._stop,
            "restart": self._restart,
        }

    # -- what it is told -----------------------------------------------------------------------------------------------

    def _adopt(self, history: list[Any] | None, steps: list[tuple[SupervisorSpec, Any, str]]) -> None:
        """All steps: their supervisors where they are there, and why not where one ended and nobody saw to it."""
        if self._stopping:
            return
        if history:
            self._node.restore(history, self._now_us())
        for charter, actor, _ in steps:
            child = self._children[charter.name] = SupervisorChild(charter, actor, time.monotonic())
            if actor is not None:
                self._watch(child)
        if not self._node.gave_up:
            ended = {self._step_of(charter): reason for charter, actor, reason in steps if actor is None and reason}
            orders = self._node.start(self._now_us())
            self._do([order for order in orders if not (isinstance(order, Start) and self._has_no_need(order, ended))])
            for step, reason in ended.items():
                self._has_ended(self._of(step), How.CRASHED, reason)

    def _has_no_need(self, order: Start, ended: Mapping[str, str]) -> bool:
        return order.child in ended or self._of(order.child).actor is not None

    def _remind(self, charter: SupervisorSpec) -> None:
        """The engine misses the supervisor of a step."""
        child = self._children.get(charter.name)
        if child is not None and child.actor is None and not self._is_waiting:
            self._has_ended(child, How.CRASHED, "its supervisor ended, and nobody saw it")

    def _working(self, step: str) -> None:
        self._node.came_up(step, self._now_us())

    def _quiet(self, step: str, incarnation: int, gave_up: str, reason: str) -> None:
        """The last worker of a step is gone, for it had to stop or has given up."""
        if self._child((step_path(self._charter.name, step), incarnation)) is not None:
            self._do_and_say(end_of_step(self._node, step, gave_up, reason, self._now_us()))

    def _stop(self) -> None:
        """From now on nobody is replaced."""
        self._stopping = True

    def _restart(self) -> None:
        """Begin anew, whatever was: every worker, and every counter at zero."""
        orders = self._node.stop(self._now_us())
        self._node.forget()
        self._tell_all("forget")
        self._do(orders)
        self._do_and_say(self._node.start(self._now_us()))

    # -- doing ---------------------------------------------------------------------------------------------------------

    def _watch(self, child: SupervisorChild) -> None:
        send(child.actor, "adopted", self._me, not self._node.gave_up)
        super()._watch(child)

    def _is_there(self, child: SupervisorChild) -> None:
        """That its workers are there, it says itself."""

    def _has_ended(self, child: SupervisorChild, how: How, reason: str) -> None:
        if self._stopping:
            return
        step = self._step_of(child.charter)
        orders = self._node.ended(step, how, reason, self._now_us())
        alone = self._node.policy.strategy == "one_for_one"
        if not alone or self._node.children[step].status is not ChildStatus.RESTARTING:
            self._report(StepEnds(step))  # what it looked after shares its fate, as that of its siblings does
        for order in orders:
            if isinstance(order, Restart):
                told = (order.reason, order.restarts, order.wait_us / 1e6, self._node.history())
                self._report(SupervisorGone(child.charter.name, *told))
        self._do_and_say(orders)

    def _do_and_say(self, orders: list[Order]) -> None:
        self._do(orders)
        if orders:
            self._report({self._node.name: self._node.history()})

    def _do(self, orders: list[Order]) -> None:
        waiting = deque(orders)
        while waiting:
            order = waiting.popleft()
            match order:
                case Start(step):
                    self._begin(self._of(step))
                case Stop(step) if (actor := self._of(step).actor) is not None:
                    send(actor, "cease")
                case Stop(step):
                    self._report(StepEnds(step))
                    waiting += self._node.ended(step, How.ORDERED, "it was told to stop", self._now_us())
                case Restart():
                    pass
                case Leave(step, reason):
                    self._report(deserted(self._node, step, reason))
                case Escalate():
                    self._report(given_up(self._node, order))
                case _:
                    assert_never(order)

    def _begin(self, child: SupervisorChild) -> None:
        if child.actor is None:
            self._found(child)
        else:
            send(child.actor, "begin")

    def _tell_all(self, *message: Any) -> None:
        for child in self._children.values():
            if child.actor is not None:
                send(child.actor, *message)

    # -- looking after -------------------------------------------------------------------------------------------------

    @property
    def _is_waiting(self) -> bool:
        return self._node.due_us is not None

    def _tick(self) -> None:
        if not self._stopping:
            self._do(self._node.tick(self._now_us()))

    def _of(self, step: str) -> SupervisorChild:
        return self._children[step_path(self._charter.name, step)]

    def _step_of(self, charter: SupervisorSpec) -> str:
        return charter.name.removeprefix(f"{self._charter.name}/")

    def _now_us(self) -> int:
        return self._clock.now_us()
