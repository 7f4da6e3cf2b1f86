"""StepSupervisor: the supervisor of one step: it has workers started, watches them, and kills them.

Rules: pure code decides (`events/supervision/tree.py`), this carries it out. Workers belong to the engine, which starts
them on request; Ray ends them with the engine's process, and with nothing else. A worker is gone when its process is
seen to be gone, and only then is its work given to another.
"""

from collections.abc import Iterable
from functools import partial
from typing import assert_never

from ...cluster.processes import handle_of, kill
from ...cluster.ray.exit_reasons import how_it_ended, is_orderly
from ...cluster.ray.process_registry import find_process, forget_processes, process_key
from ...events.supervision.policy import How
from ...events.supervision.tree import (
    Action,
    Broken,
    Escalated,
    Restarted,
    StartWorker,
    StepPolicy,
    StepStanding,
    StepSupervisorNode,
    StopWorker,
)
from . import orders
from .host import HostedSupervisor, SupervisorHost
from .long_poll import SUPERSEDED
from .supervised_worker import SupervisedWorker

__all__ = ["StepSupervisor"]

_MAX_MISSED_PINGS = 3
_REASON_SECONDS = 1.0
"""How long Ray may take to report why a process ended. Under torture, one report in ten comes seconds later."""


class StepSupervisor(HostedSupervisor):
    """The workers themselves are kept by the host, so the next supervisor of this step finds them."""

    def __init__(self, pipeline: str, step: StepPolicy, host: SupervisorHost) -> None:
        super().__init__(orders.step_path(pipeline, step.name), host)
        self._pipeline = pipeline
        self._step = step.name
        self._tree = StepSupervisorNode(pipeline, step)
        self._node = self._tree.node
        self._workers = host.workers[self.path]
        self._stopped = False
        self._pinged_at = host.now
        self._standing: StepStanding | None = None

    def handle(self, message: orders.StepMessage) -> None:
        """Process one message."""
        match message:
            case (
                orders.Begin() | orders.StartStep() | orders.StopStep() | orders.ForgetRestarts() | orders.ResumeStep()
            ):
                self._take_from_parent(message)
            case (
                orders.WorkerMade()
                | orders.WorkerRefused()
                | orders.WorkerOpened()
                | orders.WorkerWorked()
                | orders.EndWorker()
            ):
                self._take_from_engine(message)
            case orders.HelloAnswered() | orders.AttendAnswered() | orders.PingAnswered():
                self._take_answer(message)
            case orders.ProcessEnded(pid):
                self._process_ended(pid)
            case _:
                assert_never(message)

    def _take_from_parent(self, message: orders.ParentMessage) -> None:
        match message:
            case orders.Begin():
                self._begin()
            case orders.StartStep():
                self._start_all()
            case orders.StopStep():
                self._stop_all()
            case orders.ForgetRestarts():
                self._tree.forget()
                self._remember()
            case orders.ResumeStep(runs):
                self._resume(runs=runs)
            case _:
                assert_never(message)

    def _take_from_engine(self, message: orders.EngineMessage) -> None:
        match message:
            case orders.WorkerMade():
                self._made(message)
            case orders.WorkerRefused(slot, start, reason):
                self._refused(slot, start, reason)
            case orders.WorkerOpened(worker):
                self._opened(worker)
            case orders.WorkerWorked(worker):
                self._worked(worker)
            case orders.EndWorker(worker, reason, is_blamed):
                self._end_worker(worker, reason, How.CRASHED if is_blamed else How.ORDERED)
            case _:
                assert_never(message)

    def check(self) -> None:
        """Start what is due, forget workers that are gone, and ping the others."""
        now = self._host.now
        for worker in list(self._workers.values()):
            if worker.gone_since:
                self._check_gone(worker)
        if not self._host.is_stopping:
            self._do(self._tree.tick(self._host.now_us()))
        ping_seconds = self._host.spec.timeouts.ping_seconds
        if now - self._pinged_at >= ping_seconds:
            self._ping(late=now - self._pinged_at > 2 * ping_seconds)
            self._pinged_at = now
        self._publish_standing()

    def next_check_seconds(self) -> float:
        """Until the next ping, the next start, or the end of the wait for Ray's reason."""
        now = self._host.now
        waits = [self._pinged_at + self._host.spec.timeouts.ping_seconds - now, self.seconds_until(self._node.due_us)]
        waits += [w.gone_since + _REASON_SECONDS - now for w in self._workers.values() if w.gone_since]
        return max(0.0, min(waits))

    # -- start and stop ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Continue where the supervisor before this one ended, with the workers that run.

        If that one had given up, the pipeline has counted it, and wants the step to start again.
        """
        if (history := self._host.histories.get(self.path)) is not None:
            self._node.restore(history, self._host.now_us())
        self._start_all()

    def _resume(self, *, runs: bool) -> None:
        if any(worker.is_up for worker in self._workers.values()):
            self._host.post(self._pipeline, orders.StepUp(self._step))
        if self._node.gave_up:
            self._report_quiet(self._node.gave_up)
        elif self._stopped and runs:  # the supervisor that wanted it so is gone
            self._start_all()
        elif not runs:
            self._stop_all()

    def _start_all(self) -> None:
        self._stopped = False
        self._do(self._tree.start(self._host.now_us()))

    def _stop_all(self) -> None:
        self._stopped = True
        self._do(self._tree.stop(self._host.now_us()))
        self._report_quiet("it was told to stop")

    def _report_quiet(self, reason: str) -> None:
        if self._node.is_quiet and (self._stopped or self._node.gave_up):
            self._host.post(self._pipeline, orders.StepQuiet(self._step, self._node.gave_up, reason))

    # -- what the engine tells -----------------------------------------------------------------------------------------

    def _made(self, message: orders.WorkerMade) -> None:
        worker = self._workers.get(message.slot)
        if worker is None or worker.start != message.start:  # the supervisor that wanted it crashed
            self._host.report(orders.EndWorkers(self.path, message.worker))
            return
        worker.worker, worker.actor, worker.since = message.worker, message.actor, self._host.now
        if worker.is_ending:
            worker.kill()
        self._ask_hello(worker)

    def _refused(self, slot: int, start: int, reason: str) -> None:
        worker = self._workers.get(slot)
        if worker is not None and worker.start == start:
            worker.end_reason, worker.how = reason, How.UNSTARTED
            self._forget(worker)

    def _opened(self, number: int) -> None:
        worker = self._worker(number)
        if worker is not None and not worker.is_up:
            self._is_up(worker)

    def _worked(self, number: int) -> None:
        if (worker := self._worker(number)) is not None:
            worker.has_worked = True

    def _end_worker(self, number: int, reason: str, how: How) -> None:
        if (worker := self._worker(number)) is not None:
            self._end(worker, reason, how)

    # -- what workers tell ---------------------------------------------------------------------------------------------

    def _take_answer(self, message: orders.HelloAnswered | orders.AttendAnswered | orders.PingAnswered) -> None:
        worker = self._worker(message.worker)
        if worker is None:
            return
        match message:
            case orders.HelloAnswered(_, None, (node, pid)):
                self._locate(worker, node, pid)
                if not worker.is_up:
                    self._is_up(worker)
            case orders.HelloAnswered(_, error, _):
                self._ended(worker, error)
            case orders.AttendAnswered(_, error, answer):
                if answer != SUPERSEDED:
                    self._ended(worker, error)
            case orders.PingAnswered(_, error, _):
                worker.missed_pings = 0 if error is None else worker.missed_pings
            case _:
                assert_never(message)

    def _is_up(self, worker: SupervisedWorker) -> None:
        worker.is_up = True
        self._tree.came_up(worker.slot, self._host.now_us())
        self._host.ask(self.path, partial(orders.AttendAnswered, worker.worker), worker.actor.attend.remote())
        self._host.post(self._pipeline, orders.StepUp(self._step))

    def _ended(self, worker: SupervisedWorker, error: BaseException | None) -> None:
        """Ray says that it is gone, or that it has stopped."""
        if worker.end_reason is None:
            worker.end_reason = how_it_ended(error) if error else "it stopped"
            worker.how = _how(worker, error)
        self._find(worker)
        worker.kill()
        if not worker.process.pid:  # on another node, where Ray's word has to do, or it never registered
            self._forget(worker)

    def _process_ended(self, pid: int) -> None:
        for worker in self._workers.values():
            if worker.process.pid == pid:
                worker.gone_since = worker.gone_since or self._host.now

    def _check_gone(self, worker: SupervisedWorker) -> None:
        """Forget a worker whose process has ended: once Ray has reported why, or after a second without."""
        if worker.end_reason is None and self._host.now - worker.gone_since >= _REASON_SECONDS:
            self._end(worker, "its process was gone", How.CRASHED if worker.is_up else How.UNSTARTED)
        if worker.is_ending:
            self._forget(worker)

    # -- actions -------------------------------------------------------------------------------------------------------

    def _do(self, actions: Iterable[Action]) -> None:
        has_news = False
        for action in actions:
            match action:
                case StartWorker(_, slot):
                    self._start(slot)
                case StopWorker(_, slot):
                    self._end(self._workers[slot], "its supervisor ended it", How.ORDERED)
                case Restarted() | Escalated() | Broken():
                    self._host.report(orders.PipelineReport(self._pipeline, action))
                    has_news = True
                case _:
                    assert_never(action)
        if has_news:
            self._remember()

    def _start(self, slot: int) -> None:
        """Have a worker started, unless one runs that had another supervisor."""
        known = self._workers.get(slot)
        if known is not None and known.worker:
            self._take_over(known)
            return
        worker = SupervisedWorker(slot, next(self._host.start_numbers), self._host.now)
        self._workers[slot] = worker
        self._host.report(orders.WorkerWanted(self.path, slot, worker.start))

    def _take_over(self, worker: SupervisedWorker) -> None:
        worker.missed_pings = 0
        self._watch(worker)
        self._ask_hello(worker)
        if worker.is_up:
            self._is_up(worker)

    def _ask_hello(self, worker: SupervisedWorker) -> None:
        self._host.ask(self.path, partial(orders.HelloAnswered, worker.worker), worker.actor.hello.remote())

    def _end(self, worker: SupervisedWorker, reason: str, how: How) -> None:
        if worker.end_reason is None:
            worker.end_reason = reason
            worker.how = How.WORKED if how is How.CRASHED and worker.has_worked else how
        self._find(worker)
        worker.kill()

    def _forget(self, worker: SupervisedWorker) -> None:
        """It is gone: tell the engine, and do what follows."""
        del self._workers[worker.slot]
        reason = worker.end_reason or "it stopped"
        if worker.worker:
            forget_processes(process_key(self._host.spec.actor_prefix, worker.worker))
            is_blamed = worker.how is not How.ORDERED
            self._host.report(orders.WorkerGone(self.path, worker.worker, reason, is_blamed, worker.is_up))
        if not self._host.is_stopping:
            how = worker.how if worker.is_up or worker.how is How.ORDERED else How.UNSTARTED
            self._do(self._tree.ended(worker.slot, how, reason, self._host.now_us()))
            self._report_quiet(reason)

    # -- liveness ------------------------------------------------------------------------------------------------------

    def _ping(self, *, late: bool) -> None:
        for worker in self._workers.values():
            self._find(worker)
            if worker.is_ending:
                continue
            if worker.is_up:
                self._ping_one(worker, late=late)
            elif worker.is_located and self._host.now - worker.since > self._host.spec.timeouts.start_seconds:
                limit = self._host.spec.timeouts.start_seconds
                self._end(worker, f"it did not come up within {limit:g} s", How.UNSTARTED)

    def _ping_one(self, worker: SupervisedWorker, *, late: bool) -> None:
        """late: it was this process that stood still."""
        worker.missed_pings = 0 if late else worker.missed_pings
        if worker.missed_pings >= _MAX_MISSED_PINGS:
            self._end(worker, f"it did not answer {_MAX_MISSED_PINGS} pings", How.CRASHED)
            return
        worker.missed_pings += 1
        self._host.ask(self.path, partial(orders.PingAnswered, worker.worker), worker.actor.ping.remote())

    def _find(self, worker: SupervisedWorker) -> None:
        """Look up the process of a worker that has not answered: it registers before any user code runs."""
        if worker.worker and not worker.is_located:
            location = find_process(process_key(self._host.spec.actor_prefix, worker.worker))
            if location is not None:
                self._locate(worker, *location)

    def _locate(self, worker: SupervisedWorker, node: str, pid: int) -> None:
        if worker.is_located:
            return
        worker.is_located, worker.since = True, self._host.now
        if node == self._host.spec.node:
            worker.process = handle_of(pid)
            self._watch(worker)
            if worker.is_ending:
                kill(worker.process)

    def _watch(self, worker: SupervisedWorker) -> None:
        if worker.process.pid and not worker.is_watched:
            worker.is_watched = True
            self._host.watch(self.path, worker.process)

    # -- what it tells -------------------------------------------------------------------------------------------------

    def _publish_standing(self) -> None:
        standing = self._tree.standing({w.slot: w.process.pid for w in self._workers.values()})
        if standing != self._standing:
            self._standing = standing
            self._host.report(orders.StandingChanged(self.path, standing))

    def _remember(self) -> None:
        self._host.remember(self.path, self._node.history())

    def _worker(self, number: int) -> SupervisedWorker | None:
        return next((worker for worker in self._workers.values() if worker.worker == number), None)


def _how(worker: SupervisedWorker, error: BaseException | None) -> How:
    if not worker.is_up:
        return How.UNSTARTED
    if error is None or is_orderly(error):
        return How.NORMAL
    return How.WORKED if worker.has_worked else How.CRASHED
