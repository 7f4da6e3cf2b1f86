"""KeeperClient: the engine's end of the keeper: it starts it, sends it orders, fetches its reports, and replaces it.

Rules: the keeper is started once the workers are there, so that it takes no CPU from their start. Workers survive a
keeper that dies or is silent; its successor gets the histories and the workers that run. A keeper is replaced without
limit, since nothing is above the engine that could decide otherwise. Only the pool's thread calls these methods.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import Any, assert_never

from ...cluster.clock import SystemClock
from ...cluster.processes import NO_PROCESS, handle_of, is_gone, kill
from ...cluster.ray.exit_reasons import first_line, how_it_ended
from ...cluster.ray.process_registry import forget_processes, processes_of
from ...cluster.ray.session import Session, alive, ray_module
from ...events.pipelines.pipeline import Pipeline
from ...events.supervision.policy import PIPELINE_SUPERVISION, How
from ...events.supervision.supervisor import Escalate, Leave, Order, Restart, Start, Stop, Supervisor
from ...events.supervision.tree import StepPolicy, StepStanding
from ...events.views.health_tree import TreeNode, node
from ..supervision import orders
from ..supervision.keeper import NAMESPACE, send, send_stop, start_keeper
from .liveness_clock import LivenessClock
from .restart_histories import RestartHistories

__all__ = ["KeeperClient", "actor_prefix"]

logger = logging.getLogger("ensue.pool")
_POLL_SECONDS = 5.0
"""How long the keeper holds a call for reports if it has none."""
_LATE_SECONDS = 10.0
_MAX_WAIT_FOR_WORKERS_SECONDS = 5.0
"""Workers may take longer to start, or never come up; then the keeper has to be there to restart them."""
_ROOT = "root"


class KeeperClient:
    """The keeper of one engine, and what it last reported.

    soon: has the pool's thread call a function. live_workers: the workers that a new keeper finds.
    """

    def __init__(
        self,
        pipelines: Iterable[Pipeline],
        prefix: str,
        histories: RestartHistories,
        timeouts: orders.SupervisionTimeouts,
    ) -> None:
        self.histories = histories
        self.standings: dict[str, StepStanding] = {}
        """Of the steps, by path, as this keeper reported them."""
        self.missing: dict[str, str] = {}
        """Why a supervisor is not there now, by path."""
        self.clock = LivenessClock()
        self._specs = tuple(_spec(pipeline) for pipeline in pipelines)
        self._prefix = prefix
        self._timeouts = timeouts
        self._now_us = SystemClock().now_us
        self._soon: Callable[..., None] = _ignore
        self._live_workers: Callable[[], list[orders.LiveWorker]] = list
        self._take: Callable[[list[orders.Report]], None] = _ignore
        self._lost: Callable[[], None] = _ignore
        self._session: Session | None = None
        self._start_at: float | None = None
        self._rules = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])
        self._actor: Any = None
        self._process = NO_PROCESS
        self._incarnation = 0
        self._upto = 0
        self._asked_at = 0.0
        self._has_been_up = False
        self._restarts_wanted: set[str] = set()

    # -- life ----------------------------------------------------------------------------------------------------------

    def start(
        self,
        session: Session,
        soon: Callable[..., None],
        live_workers: Callable[[], list[orders.LiveWorker]],
        take: Callable[[list[orders.Report]], None],
        lost: Callable[[], None],
    ) -> None:
        """Begin in this Ray; the keeper itself is started later, by `check`.

        take: is given each batch of reports. lost: is told that the keeper is gone.
        """
        self._session = session
        self._soon, self._live_workers, self._take, self._lost = soon, live_workers, take, lost
        self._start_at = time.monotonic() + _MAX_WAIT_FOR_WORKERS_SECONDS
        try:
            self._sweep()
            forget_processes(_of_store(self._prefix))
        except Exception:  # the start of the keeper sweeps again
            logger.exception("what earlier engines on this store left could not be ended")

    def is_due(self, *, settled: bool) -> bool:
        """Whether the first keeper is to be started now. settled: no worker is being started."""
        return self._start_at is not None and (settled or time.monotonic() >= self._start_at)

    def check(self, *, settled: bool) -> bool:
        """Start a keeper if one is due, and kill one that does not answer; False if Ray itself is lost."""
        if self._session is None or not alive(self._session):
            return False
        if self.is_due(settled=settled):
            self._start_at = None
            self._do(self._rules.start(self._now_us()))
        elif self._start_at is None:
            self._do(self._rules.tick(self._now_us()))
        self._check_silence()
        return True

    def end(self) -> None:
        """Kill the keeper, and start none any more."""
        if self._actor is not None:
            self._kill()
        if self._session is not None and alive(self._session):
            forget_processes(processes_of(self._prefix))
        self.forget()

    def forget(self) -> None:
        """The keeper is gone with the Ray that it was in."""
        self._clear()
        self._session = self._start_at = None
        self._rules = Supervisor("engine", PIPELINE_SUPERVISION, [_ROOT])
        self._has_been_up = False
        self._restarts_wanted.clear()

    # -- orders --------------------------------------------------------------------------------------------------------

    def order(self, path: str, message: Any) -> bool:
        """Send an order to a supervisor; False if there is no keeper, or it has not come up."""
        if not self.is_up:
            return False
        send(self._actor, path, message)
        return True

    def stop_replacing(self) -> None:
        """Have the keeper replace no worker and no supervisor any more, even if it is still starting."""
        if self._actor is not None:
            send_stop(self._actor)

    def restart(self, pipeline: str) -> list[tuple[str, Any]]:
        """Have all workers of a pipeline replaced, with its history forgotten; returns the facts to record."""
        self.order(orders.ROOT, orders.RestartPipeline(pipeline))
        if not self.histories.failed(pipeline):  # one that was given up has no workers to replace
            self._restarts_wanted.add(pipeline)
        spec = next(spec for spec in self._specs if spec.name == pipeline)
        return self.histories.forget(
            pipeline, [pipeline, *(orders.step_path(pipeline, step.name) for step in spec.steps)]
        )

    def confirm_restart(self, pipeline: str) -> None:
        """The keeper has the order to restart this pipeline."""
        self._restarts_wanted.discard(pipeline)

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def is_up(self) -> bool:
        """Whether the keeper has come up, and so been told of the workers."""
        return self._actor is not None and self._process is not NO_PROCESS

    @property
    def is_coming(self) -> bool:
        """Whether the first keeper in this Ray has not come up yet."""
        return self._session is not None and not self._has_been_up

    def pid(self, path: str) -> int:
        """The process of a supervisor, which is the keeper's; 0 if the supervisor is not there."""
        return self._process.pid if self.is_up and not self.missing.get(path) else 0

    def why_missing(self, path: str) -> str:
        """Why a supervisor that was there is not there now; empty if it is, or never was."""
        child = self._rules.children[_ROOT]
        return self.missing.get(path, "") if self.is_up else child.reason

    def root_node(self) -> TreeNode:
        """The root supervisor, for the health tree. Its restarts are those of the keeper."""
        child = self._rules.children[_ROOT]
        return node(
            "supervisor",
            _ROOT,
            str(child.status) if self._session is not None and self._start_at is None else "starting",
            pid=self._process.pid,
            restarts=child.restarts,
            since=child.since_us,
            reason=child.reason,
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _do(self, decisions: list[Order]) -> None:
        for order in decisions:
            match order:
                case Start():
                    self._start()
                case Restart(_, _, reason, _, wait_us):
                    logger.warning("the keeper ended (%s); starting another in %.1f s", reason, wait_us / 1e6)
                case Escalate(reason):
                    logger.error("the keeper ends again and again: %s", reason)
                    self._do(self._rules.start(self._now_us()))
                case Stop() | Leave():
                    pass
                case _:
                    assert_never(order)

    def _start(self) -> None:
        if self._session is None:
            return
        self._clear()
        spec = orders.KeeperSpec(handle_of(os.getpid()), self._session.node_id, self._prefix, self._timeouts)
        try:
            self._sweep()
            self._actor = start_keeper(spec, self._incarnation)
            self._ask(self._came_up, self._actor.pid.remote())
            self._poll()
        except Exception as error:
            logger.exception("the keeper cannot be started")
            self._actor = None
            self._do(self._rules.ended(_ROOT, How.UNSTARTED, first_line(error), self._now_us()))

    def _came_up(self, error: BaseException | None, pid: int) -> None:
        """The keeper is up: it is given the workers as they are now, and no orders came before that."""
        if error is not None:  # the call for reports fails too, and its callback replaces the keeper
            return
        self.clock.heard()
        self._process = handle_of(pid)
        self._has_been_up = True
        self._rules.came_up(_ROOT, self._now_us())
        by_path, by_pipeline = dict(self.histories.by_path), dict(self.histories.root)
        self.order(orders.ROOT, orders.Adopt(self._specs, by_path, by_pipeline, tuple(self._live_workers())))
        for pipeline in self._restarts_wanted:
            self.order(orders.ROOT, orders.RestartPipeline(pipeline))

    def _poll(self) -> None:
        self._asked_at = self.clock.now()
        self._ask(self._answered, self._actor.reports.remote(self._upto, _POLL_SECONDS))

    def _answered(self, error: BaseException | None, reports: orders.Reports | None) -> None:
        if error is not None or reports is None:
            self._end_keeper(how_it_ended(error) if error else "it was lost")
            return
        self.clock.heard()
        self._upto = reports.upto
        self._poll()
        self._take(reports.items)

    def _check_silence(self) -> None:
        if self._actor is None:
            return
        limit = _POLL_SECONDS if self.is_up else self._timeouts.start_seconds
        if self.clock.now() - self._asked_at > limit + _LATE_SECONDS:
            self._end_keeper("it did not answer")
        elif self.is_up and is_gone(self._process):
            self._end_keeper("its process was gone")

    def _end_keeper(self, reason: str) -> None:
        was_up = self.is_up
        self._kill()
        self._clear()
        if self._session is None or not alive(self._session):
            return  # all of Ray is lost, and another one will be started
        how = How.CRASHED if was_up else How.UNSTARTED
        self._do(self._rules.ended(_ROOT, how, reason, self._now_us()))
        self._lost()

    def _kill(self) -> None:
        """Kill the process at once if it is known; else Ray ends it within seconds, and calls to it fail at once."""
        kill(self._process)
        ray_module().kill(self._actor, no_restart=True)

    def _clear(self) -> None:
        self._actor, self._process, self._upto = None, NO_PROCESS, 0
        self._incarnation += 1
        self.standings.clear()
        self.missing.clear()

    def _ask(self, answered: Callable[[BaseException | None, Any], None], reference: Any) -> None:
        """Pass the outcome of a call to the pool's thread, unless another keeper is there by then."""
        incarnation = self._incarnation

        def told(outcome: Any) -> None:
            error = outcome.exception()
            self._soon(self._if_current, incarnation, answered, error, None if error else outcome.result())

        reference.future().add_done_callback(told)

    def _if_current(
        self,
        incarnation: int,
        answered: Callable[[BaseException | None, Any], None],
        error: BaseException | None,
        value: Any,
    ) -> None:
        if incarnation == self._incarnation and self._actor is not None:
            answered(error, value)

    def _sweep(self) -> None:
        """End what earlier engines on this store, or an earlier keeper of this one, have left."""
        ray = ray_module()
        store = _of_store(self._prefix)
        for entry in ray.util.list_named_actors(all_namespaces=True):
            name = entry["name"]
            if entry["namespace"] != NAMESPACE or not name.startswith(store):
                continue
            epoch, _, rest = name.removeprefix(store).partition(".")
            if int(epoch) <= _epoch(self._prefix):
                with suppress(ValueError):  # it has ended meanwhile
                    is_ours = f"{store}{epoch}" == self._prefix
                    _end_left_over(
                        ray.get_actor(name, NAMESPACE), is_keeper_of_other=not is_ours and rest.startswith("keeper.")
                    )


def _end_left_over(actor: Any, *, is_keeper_of_other: bool) -> None:
    """The keeper of an engine that was stopped, or hangs, has to end its workers, which would keep their resources."""
    if is_keeper_of_other:
        actor.leave.remote()
    else:
        ray_module().kill(actor, no_restart=True)


def actor_prefix(store: str, epoch: int) -> str:
    """The beginning of the names of an engine's actors: its store and its epoch."""
    return f"ensue-{blake2b(store.encode(), digest_size=8).hexdigest()}-{epoch}"


def _of_store(prefix: str) -> str:
    return f"{prefix.rpartition('-')[0]}-"


def _epoch(prefix: str) -> int:
    return int(prefix.rpartition("-")[2])


def _spec(pipeline: Pipeline) -> orders.PipelineSpec:
    steps = (StepPolicy(step.name, step.replicas, step.supervision) for step in pipeline.steps.values())
    return orders.PipelineSpec(pipeline.name, pipeline.supervision, tuple(steps))


def _ignore(*_: object) -> None:
    """The callbacks before the start."""
