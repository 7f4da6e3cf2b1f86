"""SimSupervisor: the supervisors of a simulation: the real tree of decisions, carried out by the simulated world.

Rules: the restart history is posted to the partition as in the real engine, so a crash may lose its newest entries and
nothing else. An operator restarts a pipeline that was given up, some time later.
"""

import itertools
from collections.abc import Iterable
from typing import Protocol

from ...events.decide.announcement import announcement
from ...events.model.codec import pack, unpack
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from ...events.state.rows import Fact
from ...events.supervision.policy import How
from ...events.supervision.restart_history import RestartHistory
from ...events.supervision.tree import (
    Action,
    Broken,
    Escalated,
    PipelineTree,
    Restarted,
    StartWorker,
    StepPolicy,
    StopWorker,
)
from ..pool.notices import as_notice
from .faults import Dice
from .history import History, Supervised
from .loop import VirtualLoop
from .owner import Owner
from .worker import SimWorker

__all__ = ["SimSupervisor"]

_FACT = "supervision"
_BASE_US = 1_000_000_000
_LEAST_OPERATOR_SECONDS = 20.0
_MEAN_OPERATOR_SECONDS = 30.0


class SupervisedPlace(Protocol):
    """The simulated world as a supervisor sees it."""

    loop: VirtualLoop
    dice: Dice
    history: History
    pipeline: Pipeline

    def start_worker(self, supervisor: "SimSupervisor", step: Step, slot: int, start: int) -> None:
        """Start a worker, which takes a while; `start` names this start."""
        ...

    def stop_worker(self, worker: SimWorker) -> None:
        """Kill a worker; `ended` is called when it is gone."""
        ...


class SimSupervisor:
    """The tree of one owner's pipeline."""

    def __init__(self, place: SupervisedPlace, owner: Owner) -> None:
        self.owner = owner
        self._place = place
        pipeline = place.pipeline
        steps = [StepPolicy(step.name, step.replicas, step.supervision) for step in pipeline.steps.values()]
        self._tree = PipelineTree(pipeline.name, pipeline.supervision, steps)
        stored = {fact.name: unpack(fact.body) for fact in owner.log.facts(_FACT) if fact.body is not None}
        histories = {name: RestartHistory.parse(body) for name, body in stored.items()}
        self._tree.restore(histories, self._now_us())
        self._workers: dict[tuple[str, int], SimWorker] = {}
        self._starting: dict[tuple[str, int], int] = {}
        self._starts = itertools.count(1)

    def start(self) -> None:
        """Start every worker of every step; a pipeline that was given up waits for the operator."""
        if self._tree.failed:
            self._ask_operator()
        else:
            self._do(self._tree.start(self._now_us()))

    def is_wanted(self, step: str, slot: int, start: int) -> bool:
        """Whether a worker that has just started is still wanted."""
        return not self.owner.is_dead and not self.owner.is_frozen and self._starting.get((step, slot)) == start

    def came_up(self, worker: SimWorker, slot: int) -> None:
        """A worker is ready for work."""
        place = (worker.step.name, slot)
        self._starting.pop(place, None)
        self._workers[place] = worker
        self._tree.came_up(*place, self._now_us())

    def ended(self, worker: SimWorker, reason: str, *, expected: bool) -> None:
        """A worker is gone."""
        place = next((place for place, known in self._workers.items() if known is worker), None)
        if place is None or self.owner.is_dead or self.owner.is_frozen:
            return
        del self._workers[place]
        how = How.ORDERED if expected else How.WORKED if worker.worked else How.CRASHED
        self._do(self._tree.ended(*place, how, reason, self._now_us()))

    def _now_us(self) -> int:
        return _BASE_US + int(self._place.loop.time() * 1e6)

    def _do(self, actions: Iterable[Action]) -> None:
        told = False
        for action in actions:
            match action:
                case StartWorker(step, slot):
                    start = self._starting[step, slot] = next(self._starts)
                    self._place.start_worker(self, self._place.pipeline.steps[step], slot, start)
                    self._note("start", f"{self._tree.pipeline}/{step}", 0)
                case StopWorker(step, slot):
                    self._stop(step, slot)
                case Restarted() | Escalated():
                    told = True
                    self._tell(action)
                case Broken():
                    continue
        if told:
            for name, history in self._tree.histories().items():
                self.owner.post(Fact(_FACT, name, pack(history)))
        self._set_timer()

    def _tell(self, action: Restarted | Escalated) -> None:
        self.owner.post(announcement(as_notice(self._tree.pipeline, action)))
        if isinstance(action, Restarted):
            self._note("restart", f"{self._tree.pipeline}/{action.step}", action.restarts)
            return
        if action.failed:
            self._note("deserted" if action.step else "failed", action.supervisor, action.restarts)
            self._ask_operator()
        else:
            self._note("escalated", action.supervisor, action.restarts)

    def _stop(self, step: str, slot: int) -> None:
        worker = self._workers.get((step, slot))
        if worker is not None:
            self._place.stop_worker(worker)
        elif self._starting.pop((step, slot), None) is not None:  # it is not up yet, so nothing has to end
            self._place.loop.call_later(0.0, self._void, step, slot)

    def _void(self, step: str, slot: int) -> None:
        if not self.owner.is_dead:
            self._do(self._tree.ended(step, slot, How.ORDERED, "it was told to stop", self._now_us()))

    def _ask_operator(self) -> None:
        wait = _LEAST_OPERATOR_SECONDS + self._place.dice.stream("supervision").expovariate(1 / _MEAN_OPERATOR_SECONDS)
        self._place.loop.call_later(wait, self._restart)

    def _restart(self) -> None:
        if not self.owner.is_dead:
            self._note("operator", self._tree.pipeline, 0)
            self._do(self._tree.restart(self._now_us()))

    def _set_timer(self) -> None:
        due_us = self._tree.due_us
        if due_us is not None:
            self._place.loop.call_later(max(0, due_us - self._now_us()) / 1e6 + 1e-6, self._tick)

    def _tick(self) -> None:
        if not (self.owner.is_dead or self.owner.is_frozen):
            self._do(self._tree.tick(self._now_us()))

    def _note(self, what: str, supervisor: str, restarts: int) -> None:
        self._place.history.observations.append(
            Supervised(self._place.loop.time(), self.owner.number, what, supervisor, restarts)
        )
