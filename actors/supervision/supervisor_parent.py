"""SupervisorParent: a supervisor whose children are supervisors, each of them a Ray actor: it watches, ends and replaces them.

Rules: children are detached, so that a parent that ends takes none of them along, and the next one adopts them. Who is
started anew after whom is the affair of those that build on this.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...cluster.clock import SystemClock
from ...cluster.processes import NOBODY, ProcessMark, end, is_gone, mark_of
from ...cluster.ray.exit_reasons import first_line, how_it_ended
from ...cluster.ray.session import ray_module
from ...events.supervision.supervisor import How
from .long_poll import SUPERSEDED
from .orders import SupervisorSpec, SupervisorUp
from .supervisor_actor import SupervisionTimeouts, SupervisorActor, start_actor

__all__ = ["SupervisorChild", "SupervisorParent", "actor_name"]

logger = logging.getLogger("ensue.supervisor")
_LOOK_SECONDS = 0.05
_IDLE_SECONDS = 0.5
_MISSES = 3

Key = tuple[str, int]


@dataclass(slots=True, eq=False)
class SupervisorChild:
    """One supervisor below: `actor` is None while there is none."""

    charter: SupervisorSpec
    actor: Any
    started: float
    mark: ProcessMark = NOBODY
    missed: int = 0

    @property
    def key(self) -> Key:
        """Its name and incarnation: what is said of an earlier one does not concern it."""
        return self.charter.name, self.charter.incarnation


class SupervisorParent(SupervisorActor):
    """What the root and the supervisor of a pipeline have in common."""

    child_type: type[SupervisorActor]
    """What is started in the place of a child that ended."""
    kind: str
    """What children are called, in the names of their actors."""

    def __init__(self, engine: ProcessMark, patience: SupervisionTimeouts) -> None:
        self._clock = SystemClock()
        self._children: dict[str, SupervisorChild] = {}
        self._pinged = time.monotonic()
        super().__init__(engine, patience)

    # -- for those who build on it -------------------------------------------------------------------------------------

    @abstractmethod
    def _has_ended(self, child: SupervisorChild, how: How, reason: str) -> None:
        """A child is gone, and seen to be."""

    @abstractmethod
    def _is_there(self, child: SupervisorChild) -> None:
        """A child has said its process."""

    @abstractmethod
    def _tick(self) -> None:
        """Start what is due."""

    @property
    @abstractmethod
    def _is_waiting(self) -> bool:
        """Whether something is to be started before long."""

    def _orders(self) -> Mapping[str, Callable[..., None]]:
        return {"pid": self._met, "gone": self._gone, "refused": self._refused, "pong": self._pong}

    def _watch(self, child: SupervisorChild) -> None:
        self._ask("pid", child.key, child.actor.pid.remote())
        self._ask("gone", child.key, child.actor.attend.remote())

    def _found(self, child: SupervisorChild) -> None:
        """Start another supervisor in the place of a child."""
        child.charter = child.charter._replace(incarnation=child.charter.incarnation + 1)
        child.mark, child.missed, child.started = NOBODY, 0, time.monotonic()
        try:
            name = actor_name(child.charter, self.kind)
            child.actor = start_actor(self.child_type, name, child.charter.node, child.charter)
        except Exception as error:  # whatever Ray refuses it for
            logger.exception("the supervisor of %s cannot be started", child.charter.name)
            self.tell("refused", child.key, error)
            return
        self._watch(child)
        self._report(SupervisorUp(*child.key, child.actor))

    # -- what it hears -------------------------------------------------------------------------------------------------

    def _met(self, key: Key, error: BaseException | None, pid: int) -> None:
        child = self._child(key)
        if child is not None and error is None:
            child.mark = mark_of(pid)
            self._is_there(child)

    def _pong(self, key: Key, error: BaseException | None, _: object) -> None:
        child = self._child(key)
        if child is not None and error is None:
            child.missed = 0

    def _gone(self, key: Key, error: BaseException | None, said: object) -> None:
        child = self._child(key)
        if child is not None and said != SUPERSEDED:
            reason = how_it_ended(error) if error else "it stopped"
            self._end(child, How.CRASHED, f"its supervisor ended: {reason}")

    def _refused(self, key: Key, error: BaseException) -> None:
        child = self._children[key[0]]
        if child.key == key and child.actor is None:
            self._end(child, How.UNSTARTED, f"its supervisor did not start: {first_line(error)}")

    def _end(self, child: SupervisorChild, how: How, reason: str) -> None:
        """See that it is gone: Ray's raylet ends the process of an actor that does not follow within seconds."""
        end(child.mark)
        if child.actor is not None:
            ray_module().kill(child.actor, no_restart=True)
        child.actor = None
        self._has_ended(child, how, reason)

    def _child(self, key: Key) -> SupervisorChild | None:
        child = self._children.get(key[0])
        return child if child is not None and child.actor is not None and child.key == key else None

    # -- looking after -------------------------------------------------------------------------------------------------

    def _pause_seconds(self) -> float:
        return _LOOK_SECONDS if self._is_waiting else _IDLE_SECONDS

    def _tend(self, now: float) -> None:
        for child in list(self._children.values()):
            if child.actor is not None and child.mark.pid and is_gone(child.mark):
                self._gone(child.key, None, None)
        self._tick()
        if now - self._pinged >= self._patience.ping_seconds:
            self._ping(late=now - self._pinged > 2 * self._patience.ping_seconds)
            self._pinged = now

    def _ping(self, *, late: bool) -> None:
        for child in list(self._children.values()):
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
            self._ask("pong", child.key, child.actor.ping.remote())

    def _check_start(self, child: SupervisorChild) -> None:
        limit = self._patience.start_seconds
        if time.monotonic() - child.started > limit:
            self._end(child, How.UNSTARTED, f"its supervisor did not come up within {limit:g} s")

    def _abandon(self) -> None:
        """The supervisors below see for themselves that the engine is gone, and end what they look after first."""


def actor_name(charter: SupervisorSpec, kind: str) -> str:
    """How the actor of a supervisor is called."""
    return f"{charter.family}.{kind}.{charter.name}.{charter.incarnation}"
