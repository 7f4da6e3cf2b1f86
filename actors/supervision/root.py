"""Root: the Ray actor above the supervisors of the pipelines. It starts them anew when they end, with their history.

Rules: detached and named after the store, so it outlives whoever started it. The engine starts the first supervisors
beside the root: a start costs one actor's time, not two. A pipeline whose supervisor keeps dying is given up, as one that
gives up itself.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from ...cluster.processes import ProcessMark
from ...events.supervision.supervisor import Escalate, How, Restart, Start, Supervisor
from .orders import SupervisorGaveUp, SupervisorGone, SupervisorSpec
from .pipeline_supervisor import PipelineSupervisor
from .supervisor_actor import SupervisionTimeouts
from .supervisor_parent import SupervisorChild, SupervisorParent

__all__ = ["RootSupervisor"]

_EARLIER = "its supervisor ended while there was no root"


class RootSupervisor(SupervisorParent):
    """The Ray actor. Each of its children has the intensity of its own pipeline."""

    child_type = PipelineSupervisor
    kind = "pipeline"

    def __init__(self, engine: ProcessMark, patience: SupervisionTimeouts) -> None:
        self._nodes: dict[str, Supervisor] = {}
        super().__init__(engine, patience)

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {**super()._orders(), "adopt": self._adopt, "restart": self._restart}

    def _adopt(self, charter: SupervisorSpec, actor: Any, history: list[Any] | None) -> None:
        """A pipeline to look after; without an actor its supervisor has ended, and nobody saw to it."""
        name, known = charter.name, self._children.get(charter.name)
        if actor is None and known is not None and (known.actor is not None or self._nodes[name].due_us is not None):
            return  # it is being seen to
        node = self._nodes[name] = Supervisor("engine", charter.policy, [name])
        if history:
            node.restore(history, self._now_us())
        if not node.gave_up:
            node.start(self._now_us())
        child = self._children[name] = SupervisorChild(charter, actor, time.monotonic())
        if actor is not None:
            self._watch(child)
        elif not node.gave_up:  # it ended while there was no root, and that counts
            self._has_ended(child, How.CRASHED, _EARLIER)

    def _is_there(self, child: SupervisorChild) -> None:
        self._nodes[child.charter.name].came_up(child.charter.name, self._now_us())

    def _has_ended(self, child: SupervisorChild, how: How, reason: str) -> None:
        name = child.charter.name
        self._do(child, self._nodes[name].ended(name, how, reason, self._now_us()))

    def _do(self, child: SupervisorChild, orders: list[Any]) -> None:
        name = child.charter.name
        for order in orders:
            match order:
                case Start():
                    self._found(child)
                case Restart(_, _, reason, restarts, wait_us):
                    history = self._nodes[name].history()
                    self._report(SupervisorGone(name, reason, restarts, wait_us / 1e6, history))
                case Escalate(reason, restarts):
                    self._report(SupervisorGaveUp(name, reason, restarts, self._nodes[name].history()))
                case _:
                    pass

    def _restart(self, pipeline: str) -> None:
        """An operator begins anew with a pipeline: without history."""
        child, node = self._children[pipeline], self._nodes[pipeline]
        if child.actor is None and node.gave_up:
            self._do(child, node.start(self._now_us()))

    @property
    def _is_waiting(self) -> bool:
        return any(node.due_us is not None for node in self._nodes.values())

    def _tick(self) -> None:
        for name, node in self._nodes.items():
            self._do(self._children[name], node.tick(self._now_us()))

    def _now_us(self) -> int:
        return self._clock.now_us()
