"""SupervisorClients: the engine's end of its supervisors, which are Ray actors: one for each pipeline and each step, and the root.

Rules: the engine starts the first of them, once the workers are there, so that they take no CPU from these; from then on
each is replaced by the one above it. Whoever is new is told by the engine what is there below it, and its history. Their
reports are fetched by one waiting call each. Only the crew's thread comes in here.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, cast

from ...cluster.processes import end, mark_of
from ...cluster.ray.exit_reasons import first_line, how_it_ended
from ...cluster.ray.process_registry import births_of, forget_births
from ...cluster.ray.session import Session, alive, ray_module
from ...events.pipelines.pipeline import Pipeline
from ...events.supervision.supervisor import Supervision
from ..supervision.orders import ROOT_HISTORY, LiveWorker, SupervisorSpec, step_path
from ..supervision.pipeline_supervisor import PipelineSupervisor
from ..supervision.step_supervisor import StepSupervisor
from ..supervision.supervisor_actor import NAMESPACE, Reports, SupervisionTimeouts, SupervisorActor, send, start_actor
from ..supervision.supervisor_parent import actor_name
from .root_client import LATE_SECONDS, PATIENCE_SECONDS, WAIT_SECONDS, RootSupervisorClient, kill_actor
from .supervisor_client import SupervisorClient

__all__ = ["SUPERVISORS", "SupervisorClients", "family_name", "forgiven"]

logger = logging.getLogger("ensue.crew")
_LATEST_SECONDS = 5.0
"""Workers may take longer than that, or for ever; then supervisors are there to see to them."""
_UPPER_SECONDS = 3.0
"""The same for the supervisors of the steps, behind which those above them are started."""
_NO_HISTORY: list[Any] = [[], [], ""]

Key = tuple[str, int]


SUPERVISORS: dict[str, type[SupervisorActor]] = {"pipeline": PipelineSupervisor, "step": StepSupervisor}
"""Which actor looks after what."""


class SupervisorClients:
    """The supervisors of all pipelines and steps, by name (`pipeline`, `pipeline/step`), and the root.

    `tell` has the crew's thread hear the outcome of a call; `living` says which workers a step has.
    """

    def __init__(
        self, pipelines: Iterable[Pipeline], family: str, histories: Mapping[str, Any], patience: SupervisionTimeouts
    ) -> None:
        self._pipelines = list(pipelines)
        self._family = family
        self._patience = patience
        self._histories = dict(histories)
        self._root_histories: dict[str, list[Any]] = dict(self._histories.get(ROOT_HISTORY, {}))
        self._tell: Callable[..., None] = _nobody
        self._living: Callable[[str], list[LiveWorker]] = _none
        self._session: Session | None = None
        self._steps_at: float | None = None
        self._upper_at: float | None = None
        self._branches: dict[str, SupervisorClient] = {}
        self.root = RootSupervisorClient(family, patience, self._ask, self._introduce, self._refused)
        self._hearing = self.root.hearing

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(self, session: Session, tell: Callable[..., None], living: Callable[[str], list[LiveWorker]]) -> None:
        """Begin: the supervisors themselves are started soon, by `tend`."""
        self._session, self._tell, self._living = session, tell, living
        self._sweep("")
        forget_births(_of_store(self._family))
        place = (mark_of(os.getpid()), session.node_id, self._patience)
        for pipeline in self._pipelines:
            self._branch(pipeline.name, pipeline.name, pipeline.steps, pipeline.supervision, place)
            for step in pipeline.steps.values():
                name, slots = step_path(pipeline.name, step.name), map(str, range(step.replicas))
                self._branch(name, pipeline.name, slots, step.supervision, place)
        self._steps_at = time.monotonic() + _LATEST_SECONDS

    def met(self, name: str, incarnation: int, actor: Any) -> None:
        """This is the supervisor of a pipeline or a step now."""
        branch = self._branches[name]
        branch.charter = branch.charter._replace(incarnation=incarnation)
        branch.actor, branch.mark, branch.upto, branch.missing, branch.standing = actor, None, 0, "", None
        self._ask("pid", (name, incarnation), actor.pid.remote())
        self._poll(branch)

    def met_process(self, key: Key, pid: int) -> None:
        """A supervisor is there, in this process: it is told what it has below it as that is now."""
        branch = self._branch_of(key)
        if branch is None:
            return
        self._hearing.heard()
        branch.mark = mark_of(pid)
        send(branch.actor, "adopt", self._histories.get(key[0]), self._below(branch))
        if branch.anew:
            branch.anew = False
            send(branch.actor, "restart")

    def heard(self, key: Key, reports: Reports) -> list[Any]:
        """The answer of a supervisor: what happened; asks again."""
        branch = self._branch_of(key)
        if branch is None:
            return []
        self._hearing.heard()
        branch.upto, branch.standing = reports.upto, reports.standing
        self._poll(branch)
        return reports.items

    def lost(self, key: Key, error: BaseException | None) -> bool:
        """A supervisor is gone; the one above starts another. False where another one is there already."""
        branch = self._branch_of(key)
        if branch is None:
            return False
        branch.asked = self._hearing.now()
        branch.actor, branch.missing = None, f"its supervisor ended: {how_it_ended(error) if error else 'it was lost'}"
        if branch.mark is not None:
            end(branch.mark)
        return True

    def is_due(self, *, settled: bool) -> bool:
        """Whether the first supervisors are to be started now. settled: no worker is being started."""
        now = time.monotonic()
        if self._steps_at is not None:
            return settled or now >= self._steps_at
        return self._upper_at is not None and (now >= self._upper_at or self._are_met("step"))

    def tend(self, *, settled: bool) -> bool:
        """Start what is due, and end supervisors that do not answer; False where Ray itself is lost."""
        if self._session is None or not alive(self._session):
            return False
        if self.is_due(settled=settled):
            self._start_due(self._session)
        now = self._hearing.now()
        self.root.tend(now)
        for branch in self._branches.values():
            waited = now - branch.asked
            if branch.actor is not None and waited > self._borne_seconds(branch):
                # the call that waits on it fails, and the one above starts another
                kill_actor(branch.actor, branch.mark)
            elif branch.actor is None and waited > PATIENCE_SECONDS and not self.failed(branch.pipeline):
                branch.asked = now
                self._remind(branch)
        return True

    def end_all(self) -> None:
        """End every supervisor, the root first."""
        self.root.end()
        self._end(self._branches.values())
        if self._session is not None and alive(self._session):
            forget_births(births_of(self._family))
        self.forget_all()

    def end_steps(self, pipeline: str) -> None:
        """End the supervisors of a pipeline's steps: there is nobody above them any more."""
        self._end(b for b in self._branches.values() if b.pipeline == pipeline and b.kind == "step")

    def forget_all(self) -> None:
        """They are gone, with the Ray that they were in."""
        self.root.forget()
        self._session = self._steps_at = self._upper_at = None
        for branch in self._branches.values():
            branch.actor, branch.missing = None, "Ray was lost"

    # -- orders --------------------------------------------------------------------------------------------------------

    def order(self, name: str, *message: Any) -> bool:
        """An order for a supervisor; False where there is none, or none yet, to carry it out."""
        branch = self._branches.get(name)
        if branch is None or not branch.is_there:
            return False
        send(branch.actor, *message)
        return True

    def stop(self) -> None:
        """From now on they replace nobody, also those that are on their way."""
        for branch in self._branches.values():
            if branch.actor is not None:
                send(branch.actor, "stop")

    def restart(self, pipeline: str) -> list[tuple[str, Any]]:
        """Begin anew with a pipeline; returns what is to be remembered of its history from now on: nothing."""
        given_up = self._gave_up(self._root_histories.get(pipeline))
        if not self.order(pipeline, "restart") and not given_up:
            self._branches[pipeline].anew = True
        forgotten = {name: _NO_HISTORY for name, b in self._branches.items() if b.pipeline == pipeline}
        changed = [*self.remember(forgotten), (ROOT_HISTORY, self.remember_root(pipeline, _NO_HISTORY))]
        self.root.tell("restart", pipeline)
        return changed

    # -- what is known -------------------------------------------------------------------------------------------------

    def failed(self, pipeline: str) -> str:
        """Why this pipeline was given up; empty where it was not."""
        return self._gave_up(self._root_histories.get(pipeline)) or self._gave_up(self._histories.get(pipeline))

    @property
    def coming(self) -> set[str]:
        """Which steps have no supervisor yet that would see what becomes of their workers."""
        steps = (name for name, b in self._branches.items() if b.kind == "step" and b.is_coming)
        return {name for name in steps if not self.failed(name.partition("/")[0])}

    def branch(self, name: str) -> SupervisorClient | None:
        """A supervisor as it is known; None before the start."""
        return self._branches.get(name)

    def remember(self, histories: Mapping[str, list[Any]]) -> list[tuple[str, Any]]:
        """Keep these for the supervisors that come next; returns those that are new, by name."""
        changed = [(name, body) for name, body in histories.items() if self.history(name) != body]
        self._histories.update(changed)
        return changed

    def history(self, name: str) -> list[Any]:
        """What a supervisor has to remember."""
        return cast("list[Any]", self._histories.get(name, _NO_HISTORY))

    def remember_root(self, pipeline: str, history: list[Any]) -> Any:
        """Keep the root's history of a pipeline; returns that of all."""
        self._root_histories = {**self._root_histories, pipeline: history}
        return self._root_histories

    # -- inside --------------------------------------------------------------------------------------------------------

    def _branch(
        self, name: str, pipeline: str, children: Iterable[str], policy: Supervision, place: tuple[Any, ...]
    ) -> None:
        known = self._branches.get(name)
        incarnation = known.charter.incarnation if known is not None else 0
        charter = SupervisorSpec(name, tuple(children), policy, incarnation, self._family, *place)
        self._branches[name] = SupervisorClient(charter, pipeline)

    def _branch_of(self, key: Key) -> SupervisorClient | None:
        branch = self._branches.get(key[0])
        known = branch is not None and branch.actor is not None and branch.charter.incarnation == key[1]
        return branch if known else None

    def _below(self, branch: SupervisorClient) -> list[Any]:
        """What a supervisor has below it: the workers of a step, the steps of a pipeline."""
        if branch.kind == "step":
            return self._living(branch.charter.name)
        self._sweep(f"step.{branch.pipeline}/")
        steps = [b for b in self._branches.values() if b.pipeline == branch.pipeline and b.kind == "step"]
        return [(b.charter, b.actor, b.missing) for b in steps]

    def _start_due(self, session: Session) -> None:
        """Those of the steps first: they are missed first."""
        if self._steps_at is not None:
            self._steps_at, self._upper_at = None, time.monotonic() + _UPPER_SECONDS
            self._start_kind("step", self.failed, session)
        else:
            self._upper_at = None
            self._start_kind("pipeline", self._root_gave_up, session)
            if self._session is session:
                self.root.start(session)

    def _start_kind(self, kind: str, gave_up: Callable[[str], str], session: Session) -> None:
        for branch in self._branches.values():
            if branch.kind == kind and not gave_up(branch.pipeline) and self._session is session:  # else it was lost
                self._start(branch, session)

    def _are_met(self, kind: str) -> bool:
        return all(b.mark is not None or b.actor is None for b in self._branches.values() if b.kind == kind)

    def _start(self, branch: SupervisorClient, session: Session) -> None:
        charter = branch.charter = branch.charter._replace(incarnation=branch.charter.incarnation + 1)
        try:
            name = actor_name(charter, branch.kind)
            actor = start_actor(SUPERVISORS[branch.kind], name, session.node_id, charter)
            self.met(charter.name, charter.incarnation, actor)
        except Exception as error:  # whatever Ray refuses it for: the one above tries again
            logger.exception("the supervisor of %s cannot be started", charter.name)
            branch.actor, branch.asked = None, self._hearing.now()
            branch.missing = f"its supervisor did not start: {first_line(error)}"

    def _introduce(self) -> None:
        """A root is new: it is told of all supervisors of pipelines that are there."""
        self._sweep("pipeline.")
        for branch in self._branches.values():
            if branch.kind == "pipeline":
                self._give(branch)

    def _give(self, branch: SupervisorClient) -> None:
        history = self._root_histories.get(branch.pipeline)
        self.root.tell("adopt", branch.charter, branch.actor, history)

    def _remind(self, branch: SupervisorClient) -> None:
        """Whoever is above a supervisor that is missing may not know of it."""
        if branch.kind == "pipeline":
            self._give(branch)
        else:
            self.order(branch.pipeline, "remind", branch.charter)

    def _root_gave_up(self, pipeline: str) -> str:
        return self._gave_up(self._root_histories.get(pipeline))

    @staticmethod
    def _gave_up(history: list[Any] | None) -> str:
        return str(history[2]) if history else ""

    def _borne_seconds(self, branch: SupervisorClient) -> float:
        """How long a supervisor may keep silent: longer while it has not said its process, for it is being started."""
        return PATIENCE_SECONDS if branch.mark is not None else self._patience.start_seconds + LATE_SECONDS

    def _end(self, branches: Iterable[SupervisorClient]) -> None:
        for branch in branches:
            if branch.actor is not None:
                kill_actor(branch.actor, branch.mark)
            branch.actor, branch.missing = None, ""

    def _poll(self, branch: SupervisorClient) -> None:
        branch.asked = self._hearing.now()
        key = (branch.charter.name, branch.charter.incarnation)
        self._ask("reports", key, branch.actor.reports.remote(branch.upto, WAIT_SECONDS))

    def _ask(self, what: str, key: Any, reference: Any) -> None:
        def told(outcome: Any) -> None:
            error = outcome.exception()
            self._tell(what, key, error, None if error else outcome.result())

        reference.future().add_done_callback(told)

    def _refused(self, number: int, error: BaseException) -> None:
        self._tell("root", number, error, None)

    def _sweep(self, kind: str) -> None:
        """End what earlier engines on this store have left, and what a supervisor started that nobody was told of."""
        ray = ray_module()
        store = _of_store(self._family)
        known = {actor_name(b.charter, b.kind) for b in self._branches.values() if b.actor is not None}
        for entry in ray.util.list_named_actors(all_namespaces=True):
            name = entry["name"]
            if entry["namespace"] != NAMESPACE or not name.startswith(store) or name in known:
                continue
            epoch, _, rest = name.removeprefix(store).partition(".")
            ours = f"{store}{epoch}" == self._family
            if (ours and rest.startswith(kind)) or (not ours and int(epoch) <= _epoch(self._family)):
                with suppress(ValueError):  # it has gone since
                    _end_left(ray.get_actor(name, NAMESPACE), has_workers=not ours and rest.startswith("step."))


def family_name(store: str, epoch: int) -> str:
    """How the names of an engine's actors begin: with its store and its epoch."""
    return f"ensue-{blake2b(store.encode(), digest_size=8).hexdigest()}-{epoch}"


def forgiven(history: Any) -> Any:
    """A history without that its supervisor gave up; or several, by name."""
    if isinstance(history, dict):
        return {name: forgiven(each) for name, each in cast("dict[str, Any]", history).items()}
    return [*history[:2], ""]


def _end_left(actor: Any, *, has_workers: bool) -> None:
    """That of a step whose engine was stopped, or hangs, is there to end workers that would keep what they claim."""
    if has_workers:
        send(actor, "leave")
    else:
        ray_module().kill(actor, no_restart=True)


def _of_store(family: str) -> str:
    return f"{family.rpartition('-')[0]}-"


def _epoch(family: str) -> int:
    return int(family.rpartition("-")[2])


def _nobody(*_: object) -> None:
    """Nobody listens before the start."""


def _none(_: str) -> list[LiveWorker]:
    return []
