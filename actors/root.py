"""Root: the Ray actor above the supervisors of the pipelines. It starts them anew when they end, with their history.

Rules: detached and named after the store, so it outlives whoever started it; the supervisors are detached too, so that a
root that ends takes none of them along, and the next one adopts them. The engine starts the first ones beside the root:
a start costs one actor's time, not two. A pipeline whose supervisor keeps dying is given up, as one that gives up itself.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from ..cluster.clock import SystemClock
from ..cluster.processes import NOBODY, ProcessMark, end, is_gone, mark_of
from ..cluster.session import ray_module
from ..events.supervision import Escalate, How, Restart, Start, Supervisor
from .deaths import first_line, how_it_ended
from .supervising import Patience, Supervising
from .supervisor import Charter, PipelineSupervisor

__all__ = [
    "NAMESPACE",
    "RootSupervisor",
    "SupervisorGaveUp",
    "SupervisorGone",
    "SupervisorUp",
    "start_actor",
    "store_name",
]

logger = logging.getLogger("ensue.supervisor")
NAMESPACE = "ensue"
_CONCURRENCY = 8
_LOOK_SECONDS = 0.05
_IDLE_SECONDS = 0.5
_MISSES = 3
_EARLIER = "its supervisor ended while there was no root"


class SupervisorUp(NamedTuple):
    """Report: this is a pipeline's supervisor now."""

    pipeline: str
    incarnation: int
    actor: Any


class SupervisorGone(NamedTuple):
    """Report: a pipeline's supervisor is gone; the next one starts after this wait."""

    pipeline: str
    reason: str
    restarts: int
    wait_seconds: float
    history: list[Any]


class SupervisorGaveUp(NamedTuple):
    """Report: a pipeline's supervisor died too often."""

    pipeline: str
    reason: str
    restarts: int
    history: list[Any]


@dataclass(slots=True, eq=False)
class _Child:
    """One pipeline's supervisor."""

    charter: Charter
    node: Supervisor
    actor: Any
    started: float
    mark: ProcessMark = NOBODY
    missed: int = 0


def store_name(store: str, epoch: int) -> str:
    """How the actors of an engine are called: by its store and its epoch."""
    return f"ensue-{blake2b(store.encode(), digest_size=8).hexdigest()}-{epoch}"


def start_actor(kind: type[Supervising], name: str, node: str, *arguments: Any) -> Any:
    """Start a supervisor on a node of Ray."""
    ray = ray_module()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - ray loads late

    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_concurrency": _CONCURRENCY,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
    return ray.remote(**options)(kind).remote(*arguments)


class RootSupervisor(Supervising):
    """The Ray actor."""

    def __init__(self, name: str, engine: ProcessMark, patience: Patience, incarnation: int) -> None:
        self._name = name
        self._clock = SystemClock()
        self._incarnation = incarnation
        self._children: dict[str, _Child] = {}
        self._pinged = time.monotonic()
        super().__init__(engine, patience)

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {
            "adopt": self._adopt,
            "remember": self._remember,
            "pid": self._met,
            "gone": self._gone,
            "refused": self._refused,
            "pong": self._pong,
            "restart": self._restart,
        }

    def _adopt(self, charter: Charter, actor: Any, history: list[Any] | None) -> None:
        known = self._children.get(charter.pipeline)
        if actor is None and known is not None and (known.actor is not None or known.node.due_us is not None):
            return  # it is being seen to
        node = Supervisor("engine", charter.policy, [charter.pipeline])
        if history:
            node.restore(history, self._clock.now_us())
        if not node.gave_up:
            node.start(self._clock.now_us())
        self._incarnation = max(self._incarnation, charter.incarnation)
        child = self._children[charter.pipeline] = _Child(charter, node, actor, time.monotonic())
        if actor is not None:
            self._watch(child)
        elif not node.gave_up:  # it ended while there was no root, and that counts
            self._do(child, node.ended(charter.pipeline, How.CRASHED, _EARLIER, self._clock.now_us()))

    def _remember(self, pipeline: str, histories: Mapping[str, list[Any]]) -> None:
        child = self._children.get(pipeline)
        if child is not None:
            child.charter = child.charter._replace(histories={**child.charter.histories, **histories})

    def _watch(self, child: _Child) -> None:
        key = (child.charter.pipeline, child.charter.incarnation)
        self._ask("pid", key, child.actor.pid.remote())
        self._ask("gone", key, child.actor.attend.remote())

    def _met(self, key: tuple[str, int], error: BaseException | None, pid: int) -> None:
        child = self._child(key)
        if child is not None and error is None:
            child.mark = mark_of(pid)
            child.node.came_up(key[0], self._clock.now_us())

    def _pong(self, key: tuple[str, int], error: BaseException | None, _: object) -> None:
        child = self._child(key)
        if child is not None and error is None:
            child.missed = 0

    def _gone(self, key: tuple[str, int], error: BaseException | None, _: object) -> None:
        child = self._child(key)
        if child is not None:
            reason = how_it_ended(error) if error else "it stopped"
            self._end(child, How.CRASHED, f"its supervisor ended: {reason}")

    def _refused(self, key: tuple[str, int], error: BaseException) -> None:
        child = self._children[key[0]]
        if child.charter.incarnation == key[1] and child.actor is None:
            self._end(child, How.UNSTARTED, f"its supervisor did not start: {first_line(error)}")

    def _end(self, child: _Child, how: How, reason: str) -> None:
        """See that it is gone: Ray's raylet ends the process of an actor that does not follow within seconds."""
        end(child.mark)
        if child.actor is not None:
            ray_module().kill(child.actor, no_restart=True)
        child.actor = None
        self._do(child, child.node.ended(child.charter.pipeline, how, reason, self._clock.now_us()))

    def _do(self, child: _Child, orders: list[Any]) -> None:
        pipeline = child.charter.pipeline
        for order in orders:
            match order:
                case Start():
                    self._start(child)
                case Restart(_, _, reason, restarts, wait_us):
                    self._report(SupervisorGone(pipeline, reason, restarts, wait_us / 1e6, child.node.history()))
                case Escalate(reason, restarts):
                    self._report(SupervisorGaveUp(pipeline, reason, restarts, child.node.history()))
                case _:
                    pass

    def _start(self, child: _Child) -> None:
        self._incarnation += 1
        child.charter = child.charter._replace(incarnation=self._incarnation)
        child.mark, child.missed, child.started = NOBODY, 0, time.monotonic()
        name = f"{self._name}-{child.charter.pipeline}-{self._incarnation}"
        try:
            child.actor = start_actor(PipelineSupervisor, name, child.charter.node, child.charter)
        except Exception as error:  # whatever Ray refuses it for
            logger.exception("the supervisor of pipeline %s cannot be started", child.charter.pipeline)
            self.tell("refused", (child.charter.pipeline, self._incarnation), error)
            return
        self._watch(child)
        self._report(SupervisorUp(child.charter.pipeline, self._incarnation, child.actor))

    def _restart(self, pipeline: str) -> None:
        """An operator begins anew with a pipeline: without history."""
        child = self._children[pipeline]
        child.charter = child.charter._replace(histories={})
        if child.actor is None and child.node.gave_up:
            self._do(child, child.node.start(self._clock.now_us()))

    def _child(self, key: tuple[str, int]) -> _Child | None:
        pipeline, incarnation = key
        child = self._children.get(pipeline)
        current = child is not None and child.actor is not None and child.charter.incarnation == incarnation
        return child if current else None

    def _pause_seconds(self) -> float:
        waiting = any(child.node.due_us is not None for child in self._children.values())
        return _LOOK_SECONDS if waiting else _IDLE_SECONDS

    def _tend(self, now: float) -> None:
        for child in self._children.values():
            if child.actor is not None and child.mark.pid and is_gone(child.mark):
                self._gone((child.charter.pipeline, child.charter.incarnation), None, None)
            self._do(child, child.node.tick(self._clock.now_us()))
        if now - self._pinged >= self._patience.ping_seconds:
            self._ping(late=now - self._pinged > 2 * self._patience.ping_seconds)
            self._pinged = now

    def _ping(self, *, late: bool) -> None:
        for child in self._children.values():
            if child.actor is None:
                continue
            if not child.mark.pid:
                self._check_start(child)
                continue
            child.missed = 0 if late else child.missed
            if child.missed >= _MISSES:
                end(child.mark)  # its end is seen at the next look
                continue
            child.missed += 1
            key = (child.charter.pipeline, child.charter.incarnation)
            self._ask("pong", key, child.actor.ping.remote())

    def _check_start(self, child: _Child) -> None:
        limit = self._patience.start_seconds
        if time.monotonic() - child.started > limit:
            self._end(child, How.UNSTARTED, f"its supervisor did not come up within {limit:g} s")

    def _abandon(self) -> None:
        """The supervisors see for themselves that the engine is gone, and end their workers first."""
