"""RootSupervisorClient: the engine's end of the root supervisor: it starts it, hears it, and replaces it for ever.

Rules: nobody is above the root but the engine itself. A root that dies takes none of the supervisors along: the next one
is told of all that are there.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from ...cluster.clock import SystemClock
from ...cluster.processes import ProcessMark, end, mark_of
from ...cluster.ray.exit_reasons import how_it_ended
from ...cluster.ray.session import Session, alive, ray_module
from ...events.supervision.supervisor import PIPELINE_SUPERVISION, Escalate, How, Restart, Start, Supervisor
from ...events.views.health_tree import TreeNode, node
from ..supervision.root import RootSupervisor
from ..supervision.supervisor_actor import Reports, SupervisionTimeouts, send, start_actor
from .liveness_clock import LivenessClock

__all__ = ["LATE_SECONDS", "PATIENCE_SECONDS", "WAIT_SECONDS", "RootSupervisorClient", "kill_actor"]

logger = logging.getLogger("ensue.crew")
WAIT_SECONDS = 5.0
"""How long a supervisor keeps a call that asks for its reports, where it has none."""
LATE_SECONDS = 10.0
PATIENCE_SECONDS = WAIT_SECONDS + LATE_SECONDS
_ROOT = "root"


class RootSupervisorClient:
    """The root. `ask` has the crew's thread hear the outcome of a call; `introduce` tells a new root of all there are."""

    def __init__(
        self,
        family: str,
        patience: SupervisionTimeouts,
        ask: Callable[[str, Any, Any], None],
        introduce: Callable[[], None],
        refused: Callable[[int, BaseException], None],
    ) -> None:
        self._family = family
        self._patience = patience
        self._clock = SystemClock()
        self._ask, self._introduce, self._refused = ask, introduce, refused
        self._policy = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])
        self._session: Session | None = None
        self._actor: Any = None
        self._mark: ProcessMark | None = None
        self._number = 0
        self._upto = 0
        self._asked = 0.0
        self.hearing = LivenessClock()

    @property
    def actor(self) -> Any:
        """The root, or None while there is none."""
        return self._actor

    def start(self, session: Session) -> None:
        """Start the first one."""
        self._session = session
        self._do(self._policy.start(self._clock.now_us()))

    def met(self, number: int, pid: int) -> None:
        """The process of the root."""
        if number == self._number:
            self.hearing.heard()
            self._mark = mark_of(pid)
            self._policy.came_up(_ROOT, self._clock.now_us())

    def heard(self, number: int, error: BaseException | None, reports: Reports | None) -> list[Any]:
        """The answer of the root: what happened; asks again."""
        if number != self._number:
            return []
        if error is not None or reports is None:
            self._lost(how_it_ended(error) if error else "it was lost")
            return []
        if self._actor is None:
            return []
        self.hearing.heard()
        self._upto = reports.upto
        self._poll()
        return reports.items

    def tell(self, *message: Any) -> None:
        """An order for the root; while there is none, the next one is told how things are."""
        if self._actor is not None:
            send(self._actor, *message)

    def node(self) -> TreeNode:
        """The root, as it stands."""
        child = self._policy.children[_ROOT]
        pid = self._mark.pid if self._mark else None
        status = str(child.status) if self._session is not None else "starting"
        return node(
            "supervisor", _ROOT, status, pid=pid, restarts=child.restarts, since=child.since_us, reason=child.reason
        )

    def tend(self, now: float) -> None:
        """Start a root where one is due; one that does not answer is ended. It may take longer while it is started."""
        self._do(self._policy.tick(self._clock.now_us()))
        borne = PATIENCE_SECONDS if self._mark is not None else self._patience.start_seconds + LATE_SECONDS
        if self._actor is not None and now - self._asked > borne:
            self._lost("it did not answer")

    def end(self) -> None:
        """End the root: no supervisor is to be replaced any more."""
        if self._actor is not None:
            ray_module().kill(self._actor, no_restart=True)
        self._forget()

    def forget(self) -> None:
        """It is gone, with the Ray that it was in."""
        self._forget()
        self._session = None
        self._policy = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])

    # -- inside --------------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._actor, self._mark, self._number = None, None, self._number + 1

    def _do(self, orders: list[Any]) -> None:
        for order in orders:
            if isinstance(order, Start):
                self._start()
            elif isinstance(order, Restart):
                logger.warning(
                    "the root supervisor ended (%s); starting another in %.1f s", order.reason, order.wait_us / 1e6
                )
            elif isinstance(order, Escalate):  # nobody is above: it is tried for ever
                logger.error("the root supervisor ends again and again: %s", order.reason)
                self._do(self._policy.start(self._clock.now_us()))

    def _start(self) -> None:
        if self._session is None:
            return
        self._number = number = self._number + 1
        self._upto = 0
        try:
            name = f"{self._family}.{_ROOT}.{number}"
            self._actor = start_actor(RootSupervisor, name, self._session.node_id, mark_of(os.getpid()), self._patience)
            self._introduce()
            self._ask("root pid", number, self._actor.pid.remote())
            self._poll()
        except Exception as error:  # whatever Ray refuses it for: tried again as any other that ended
            logger.exception("the root supervisor cannot be started")
            self._refused(number, error)

    def _lost(self, reason: str) -> None:
        if self._actor is not None:
            kill_actor(self._actor, self._mark)
        self._actor = self._mark = None
        if self._session is None or not alive(self._session):
            return  # all of Ray is lost: whoever sees to that starts anew
        self._do(self._policy.ended(_ROOT, How.CRASHED, reason, self._clock.now_us()))

    def _poll(self) -> None:
        self._asked = self.hearing.now()
        self._ask("root", self._number, self._actor.reports.remote(self._upto, WAIT_SECONDS))


def kill_actor(actor: Any, mark: ProcessMark | None) -> None:
    """The process at once where it is known; else Ray's raylet ends it within seconds, and calls to it fail at once."""
    if mark is not None:
        end(mark)
    ray_module().kill(actor, no_restart=True)
