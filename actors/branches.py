"""Branches: the supervisors of an engine as Ray actors: the root, and one for each pipeline.

Rules: a root that dies is replaced from here, for ever; a supervisor that dies is replaced by the root, which finds those
that were there before it. Their reports are fetched by one waiting call each. Only the crew's thread comes in here.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..cluster.clock import SystemClock
from ..cluster.processes import ProcessMark, end, mark_of
from ..cluster.session import Session, alive, ray_module
from ..events.errors import PipelineInvalid
from ..events.pipeline import Pipeline
from ..events.supervision import PIPELINE_SUPERVISION, Escalate, How, Restart, Start, Supervisor
from .deaths import first_line, how_it_ended
from .root import NAMESPACE, RootSupervisor, start_actor, store_name
from .supervising import Patience, Reports
from .supervisor import Charter, PipelineSupervisor, StepCharter
from .tree import TreeNode, node
from .worker_actor import worker_actor

__all__ = ["Branch", "Branches", "forgiven", "pack_steps"]

logger = logging.getLogger("ensue.crew")
_WAIT_SECONDS = 5.0
_LATE_SECONDS = 10.0
_PATIENCE_SECONDS = _WAIT_SECONDS + _LATE_SECONDS
_ROOT = "root"
_ROOT_SECONDS = 2.0
"""The root is started a little later, so that its start does not take the CPU that the first workers' need."""
_NO_HISTORY: list[Any] = [[], [], ""]


@dataclass(slots=True, eq=False)
class Branch:
    """One supervisor: its actor, what of its reports has come, and how its pipeline stands.

    missing: why there is no supervisor now; empty where there is one.
    """

    charter: Charter
    actor: Any = None
    mark: ProcessMark | None = None
    upto: int = 0
    asked: float = 0.0
    standing: Any = None
    missing: str = "it is being started"
    history: list[Any] | None = None
    """That of the root for this supervisor."""


class Branches:
    """The root and the supervisors of all pipelines. `tell` has the crew's thread hear the outcome of a call."""

    def __init__(
        self,
        pipelines: Iterable[Pipeline],
        codes: Mapping[tuple[str, str], bytes],
        name: tuple[str, int],
        histories: Mapping[str, Any],
        patience: Patience,
    ) -> None:
        self._pipelines = list(pipelines)
        self._codes = codes
        self._store, self._epoch = name
        self._patience = patience
        self._clock = SystemClock()
        self._histories = dict(histories)
        self._incarnation = 0
        self._policy = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])
        self._root: Any = None
        self._root_upto = 0
        self._root_asked = 0.0
        self._root_mark: ProcessMark | None = None
        self._roots = 0
        self._root_from: float | None = None
        self._tell: Callable[..., None] = _nobody
        self._session: Session | None = None
        self.branches: dict[str, Branch] = {}

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, session: Session, tell: Callable[..., None]) -> None:
        """Start a supervisor for each pipeline, all at once, and the root soon."""
        self._session, self._tell = session, tell
        self._sweep()
        self.branches = {p.name: Branch(self._charter(p, session)) for p in self._pipelines}
        for pipeline, branch in self.branches.items():
            history: Any = self._histories.get("engine", {}).get(pipeline)
            branch.history = history
            if history and history[2]:
                branch.missing = history[2]
            else:
                self._start(pipeline, branch, session)
        self._root_from = time.monotonic() + _ROOT_SECONDS

    def met(self, pipeline: str, incarnation: int, actor: Any) -> None:
        """This is a pipeline's supervisor now."""
        branch = self.branches[pipeline]
        branch.charter = branch.charter._replace(incarnation=incarnation)
        branch.actor, branch.mark, branch.upto, branch.missing, branch.standing = actor, None, 0, "", None
        self._ask("branch", (pipeline, incarnation), actor.pid.remote())
        self._poll(pipeline, branch)

    def met_process(self, key: tuple[str, int], pid: int) -> None:
        """The process of a supervisor."""
        if key == (_ROOT, self._roots):
            self._root_mark = mark_of(pid)
            self._policy.came_up(_ROOT, self._clock.now_us())
        branch = self.branch_of(key)
        if branch is not None:
            branch.mark = mark_of(pid)

    def branch_of(self, key: tuple[str, int]) -> Branch | None:
        """The branch that an outcome is about, unless it is about an earlier supervisor."""
        branch = self.branches.get(key[0])
        known = branch is not None and branch.actor is not None and branch.charter.incarnation == key[1]
        return branch if known else None

    def heard(self, key: tuple[str, int], reports: Reports) -> list[Any]:
        """The answer of a pipeline's supervisor: what happened; asks again."""
        branch = self.branch_of(key)
        if branch is None:
            return []
        branch.upto, branch.standing = reports.upto, reports.standing
        self._poll(key[0], branch)
        return reports.items

    def heard_root(self, number: int, error: BaseException | None, reports: Reports | None) -> list[Any]:
        """The answer of the root."""
        if number != self._roots:
            return []
        if error is not None or reports is None:
            self._root_lost(how_it_ended(error) if error else "it was lost")
            return []
        if self._root is None:
            return []
        self._root_upto = reports.upto
        self._poll_root()
        return reports.items

    def failed(self, pipeline: str) -> str:
        """Why this pipeline was given up; empty where it was not."""
        branch = self.branches[pipeline]
        return str((branch.history and branch.history[2]) or (branch.standing and branch.standing[0]) or "")

    def lost(self, key: tuple[str, int], error: BaseException | None) -> Branch | None:
        """A pipeline's supervisor is gone; the root starts another."""
        branch = self.branch_of(key)
        if branch is None:
            return None
        branch.asked = time.monotonic()
        branch.actor, branch.missing = None, f"its supervisor ended: {how_it_ended(error) if error else 'it was lost'}"
        if branch.mark is not None:
            end(branch.mark)
        return branch

    def order(self, pipeline: str, *message: Any) -> None:
        """An order for a pipeline's supervisor; one that is gone has nobody to carry it out on."""
        branch = self.branches[pipeline]
        if branch.actor is not None:
            branch.actor.tell.remote(*message)

    def order_all(self, *message: Any) -> None:
        """An order for all of them."""
        for pipeline in self.branches:
            self.order(pipeline, *message)

    def restart(self, pipeline: str) -> None:
        """Begin anew with a pipeline, its history forgotten."""
        branch = self.branches[pipeline]
        branch.history = None
        branch.charter = branch.charter._replace(histories={})
        self.order(pipeline, "restart")
        if self._root is not None:
            self._root.tell.remote("restart", pipeline)

    def remember(self, pipeline: str, histories: Mapping[str, list[Any]]) -> list[tuple[str, Any]]:
        """Keep these for the next supervisor of this pipeline; returns those that are new, by name."""
        changed = [(name, body) for name, body in histories.items() if self._histories.get(name, _NO_HISTORY) != body]
        self._histories.update(changed)
        branch = self.branches[pipeline]
        branch.charter = branch.charter._replace(histories={**branch.charter.histories, **histories})
        if self._root is not None:
            self._root.tell.remote("remember", pipeline, dict(histories))
        return changed

    def remember_root(self, pipeline: str, history: list[Any]) -> Any:
        """Keep the root's history of a supervisor; returns that of all."""
        self.branches[pipeline].history = history
        self._histories["engine"] = {**self._histories.get("engine", {}), pipeline: history}
        return self._histories["engine"]

    def root_node(self) -> TreeNode:
        """The root, as it stands."""
        child = self._policy.children[_ROOT]
        pid = self._root_mark.pid if self._root_mark else None
        status = str(child.status) if self._root_from is None else "starting"
        return node(
            "supervisor", _ROOT, status, pid=pid, restarts=child.restarts, since=child.since_us, reason=child.reason
        )

    def tend(self) -> bool:
        """Start a root where one is due, and end supervisors that do not answer; False where Ray itself is lost."""
        if self._session is None or not alive(self._session):
            return False
        now = time.monotonic()
        if self._root_from is not None and now >= self._root_from:
            self._root_from = None
            self._do(self._policy.start(self._clock.now_us()))
        self._do(self._policy.tick(self._clock.now_us()))
        if self._root is not None and now - self._root_asked > self._borne_seconds(self._root_mark):
            self._root_lost("it did not answer")
        for pipeline, branch in self.branches.items():
            waited = now - branch.asked
            if branch.actor is not None and waited > self._borne_seconds(branch.mark):
                _kill(branch.actor, branch.mark)  # the call that waits on it fails, and the root starts another
            elif branch.actor is None and waited > _PATIENCE_SECONDS and self._root and not self.failed(pipeline):
                branch.asked = now
                self._root.tell.remote("adopt", branch.charter, None, branch.history)
        return True

    def end_root(self) -> None:
        """End the root: no supervisor is to be replaced any more."""
        if self._root is not None:
            ray_module().kill(self._root, no_restart=True)
        self._root, self._roots = None, self._roots + 1

    def end_all(self) -> None:
        """End every supervisor, the root first."""
        self.end_root()
        for branch in self.branches.values():
            if branch.actor is not None:
                ray_module().kill(branch.actor, no_restart=True)
        self.forget_all()

    def forget_all(self) -> None:
        """They are gone, with the Ray that they were in."""
        self._root, self._roots = None, self._roots + 1
        self._policy = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])
        for branch in self.branches.values():
            branch.actor, branch.missing = None, "Ray was lost"

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return store_name(self._store, self._epoch)

    def _charter(self, pipeline: Pipeline, session: Session) -> Charter:
        self._incarnation += 1
        steps = [
            StepCharter(s.name, s.replicas, s.supervision, self._codes[pipeline.name, s.name], s.resources)
            for s in pipeline.steps.values()
        ]
        histories = {
            n: h for n, h in self._histories.items() if n == pipeline.name or n.startswith(f"{pipeline.name}/")
        }
        place = (mark_of(os.getpid()), session.node_id, self._patience)
        return Charter(pipeline.name, pipeline.supervision, steps, self._incarnation, histories, *place)

    def _start(self, pipeline: str, branch: Branch, session: Session) -> None:
        incarnation = branch.charter.incarnation
        try:
            name = f"{self._name}-{pipeline}-{incarnation}"
            self.met(pipeline, incarnation, start_actor(PipelineSupervisor, name, session.node_id, branch.charter))
        except Exception as error:  # whatever Ray refuses it for: the root tries again
            logger.exception("the supervisor of pipeline %s cannot be started", pipeline)
            branch.actor, branch.asked = None, time.monotonic()
            branch.missing = f"its supervisor did not start: {first_line(error)}"

    def _borne_seconds(self, mark: ProcessMark | None) -> float:
        """How long a supervisor may keep silent: longer while it has not said its process, for it is being started."""
        return _PATIENCE_SECONDS if mark is not None else self._patience.start_seconds + _LATE_SECONDS

    def _do(self, orders: list[Any]) -> None:
        for order in orders:
            if isinstance(order, Start):
                self._start_root()
            elif isinstance(order, Restart):
                logger.warning(
                    "the root supervisor ended (%s); starting another in %.1f s", order.reason, order.wait_us / 1e6
                )
            elif isinstance(order, Escalate):  # nobody is above: it is tried for ever
                logger.error("the root supervisor ends again and again: %s", order.reason)
                self._do(self._policy.start(self._clock.now_us()))

    def _start_root(self) -> None:
        session = self._session
        if session is None:
            return
        self._roots += 1
        self._root_upto = 0
        try:
            self._found_root(session)
        except Exception as error:  # whatever Ray refuses it for: tried again as any other that ended
            logger.exception("the root supervisor cannot be started")
            self._tell("root", self._roots, error, None)

    def _found_root(self, session: Session) -> None:
        if self._roots > 1:
            self._sweep()
        name = f"{self._name}-{_ROOT}-{self._roots}"
        arguments = (self._name, mark_of(os.getpid()), self._patience, self._incarnation)
        self._root = start_actor(RootSupervisor, name, session.node_id, *arguments)
        for branch in self.branches.values():
            self._root.tell.remote("adopt", branch.charter, branch.actor, branch.history)
        self._ask("branch", (_ROOT, self._roots), self._root.pid.remote())
        self._poll_root()

    def _root_lost(self, reason: str) -> None:
        if self._root is not None:
            _kill(self._root, self._root_mark)
        self._root = self._root_mark = None
        if self._session is None or not alive(self._session):
            return  # all of Ray is lost: whoever sees to that starts anew
        self._do(self._policy.ended(_ROOT, How.CRASHED, reason, self._clock.now_us()))

    def _poll(self, pipeline: str, branch: Branch) -> None:
        branch.asked = time.monotonic()
        self._ask(
            "reports", (pipeline, branch.charter.incarnation), branch.actor.reports.remote(branch.upto, _WAIT_SECONDS)
        )

    def _poll_root(self) -> None:
        self._root_asked = time.monotonic()
        self._ask("root", self._roots, self._root.reports.remote(self._root_upto, _WAIT_SECONDS))

    def _ask(self, what: str, key: Any, reference: Any) -> None:
        def told(outcome: Any) -> None:
            error = outcome.exception()
            self._tell(what, key, error, None if error else outcome.result())

        reference.future().add_done_callback(told)

    def _sweep(self) -> None:
        """End what earlier engines on this store have left, and what a root started that nobody was told of."""
        ray = ray_module()
        family = store_name(self._store, 0).removesuffix("0")
        known = {f"{self._name}-{n}-{b.charter.incarnation}" for n, b in self.branches.items() if b.actor is not None}
        for entry in ray.util.list_named_actors(all_namespaces=True):
            name = entry["name"]
            if entry["namespace"] != NAMESPACE or not name.startswith(family) or name in known:
                continue
            if int(name.removeprefix(family).partition("-")[0]) <= self._epoch:
                try:
                    ray.kill(ray.get_actor(name, NAMESPACE), no_restart=True)
                except ValueError:  # it has gone since
                    continue


def pack_steps(pipelines: Iterable[Pipeline]) -> dict[tuple[str, str], bytes]:
    """Every step with its models as it travels to its workers. Raises `PipelineInvalid` where it cannot."""
    dumps = ray_module().cloudpickle.dumps
    codes: dict[tuple[str, str], bytes] = {}
    for pipeline in pipelines:
        for step in pipeline.steps.values():
            try:
                worker_actor(step.resources)
            except (TypeError, ValueError) as error:
                raise PipelineInvalid(f"step {step.name}: Ray refuses its claims: {first_line(error)}") from error
            try:
                codes[pipeline.name, step.name] = dumps((step, list(pipeline.registry)))
            except Exception as error:  # whatever the author's objects raise
                reason = first_line(error)
                raise PipelineInvalid(
                    f"step {step.name} cannot be sent to a worker, since what it refers to cannot be pickled ({reason}): "
                    "open files, connections and locks inside the step, or in __init__ of a step class"
                ) from error
    return codes


def forgiven(history: Any) -> Any:
    """A history without that its supervisor gave up; or several, by name."""
    if isinstance(history, dict):
        return {name: forgiven(each) for name, each in cast("dict[str, Any]", history).items()}
    return [*history[:2], ""]


def _kill(actor: Any, mark: ProcessMark | None) -> None:
    """The process at once where it is known; else Ray's raylet ends it within seconds, and calls to it fail at once."""
    if mark is not None:
        end(mark)
    ray_module().kill(actor, no_restart=True)


def _nobody(*_: object) -> None:
    """Nobody listens before the start."""
