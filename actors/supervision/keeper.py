"""Keeper: the detached Ray actor that holds all supervisors of one store: root, pipelines and steps.

Rules: one thread runs the supervisors; the methods that Ray calls only put messages into its inbox. Reports are kept
until the engine confirms them, so a lost answer loses none. Workers survive the death of the keeper, and its successor
adopts them. If the engine is gone, or silent for too long, the keeper ends the workers and then itself: nothing else
ends a detached actor.
"""

import logging
import os
import threading
import time
from typing import Any, Final

from ...cluster.processes import ProcessHandle, handle_of, wait_until_gone
from ...cluster.ray.process_registry import find_process, process_key
from ...cluster.ray.session import ray_module
from .host import SupervisorHost
from .orders import KeeperSpec, Report, Reports
from .root import RootSupervisor
from .supervised_worker import SupervisedWorker

__all__ = ["NAMESPACE", "Keeper", "send", "send_stop", "start_keeper"]

logger = logging.getLogger("ensue.supervisor")
NAMESPACE = "ensue"
_CONCURRENCY = 4
_MAIL = "mail"
"""Orders have a thread of their own, so that none overtakes another."""
_IDLE_SECONDS = 1.0
_GONE_SECONDS = 10.0
_MAX_STANDSTILLS = 3


class Keeper:
    """The thread of the supervisors, its inbox, and the reports for the engine."""

    def __init__(self, spec: KeeperSpec) -> None:
        self._spec: Final = spec
        self._reports: list[Report] = []
        self._reported = 0
        self._news = threading.Condition()
        self._heard_at = time.monotonic()
        self._checked_at = 0.0
        self._engine_is_gone = False
        self._must_leave = False
        self._turns = 0
        self._standstills = 0
        """Calls for reports in a row during which the thread did not turn."""
        self._host = SupervisorHost(spec, self._report)
        self._thread = threading.Thread(target=self._serve, name="ensue-keeper", daemon=True)
        self._thread.start()

    # -- what Ray calls ------------------------------------------------------------------------------------------------

    def pid(self) -> int:
        """The pid of the keeper; the answer shows that it is up."""
        return os.getpid()

    def reports(self, upto: int, wait_seconds: float) -> Reports:
        """The reports after `upto`; waits until there are some. The call also shows that the engine is alive.

        Raises: `RuntimeError` if the thread of the supervisors stands still, so that the engine replaces this keeper.
        """
        self._heard_at = time.monotonic()
        turns = self._turns
        with self._news:
            del self._reports[: max(0, len(self._reports) - (self._reported - upto))]
            self._news.wait_for(lambda: self._reports, wait_seconds)
            self._heard_at = time.monotonic()
            self._check_turning(turns, wait_seconds)
            return Reports(self._reported, list(self._reports))

    def tell(self, path: str, message: Any) -> None:
        """Put an order into the mailbox of a supervisor."""
        self._host.post_from_thread(path, message)

    def stop_replacing(self) -> None:
        """Replace no worker and no supervisor from now on."""
        self._host.is_stopping = True

    def leave(self) -> None:
        """Another engine has taken over the store: end all workers, and then this process."""
        self._must_leave = True
        self._host.watcher.wake()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        self._host.watcher.watch(self._spec.engine, self._engine_ended)
        self._host.start(RootSupervisor(self._host))
        try:
            while not self._must_leave:
                now = time.monotonic()
                self._turns += 1
                self._host.run(now)
                self._check_engine(now)
                self._host.watcher.wait(self._host.next_check_seconds(time.monotonic(), _IDLE_SECONDS))
        except Exception:
            logger.exception("the root supervisor crashed; the engine starts another keeper")
            self._exit()
            return
        try:
            self._end_workers()
        finally:
            self._exit()

    def _engine_ended(self) -> None:
        self._engine_is_gone = True

    def _check_engine(self, now: float) -> None:
        silence_seconds = self._spec.timeouts.silence_seconds
        if self._checked_at and now - self._checked_at > silence_seconds / 2:
            self._heard_at = now  # this process stood still, so it heard nothing
        self._checked_at = now
        if self._engine_is_gone or now - self._heard_at > silence_seconds:
            self._must_leave = True

    def _check_turning(self, turns: int, waited_seconds: float) -> None:
        """One standstill may be that of the whole process; a thread that waits for Ray forever has several."""
        stood_still = not self._reports and self._turns == turns and waited_seconds > _IDLE_SECONDS
        self._standstills = self._standstills + 1 if stood_still else 0
        if self._standstills >= _MAX_STANDSTILLS:
            raise RuntimeError("the thread of its supervisors stands still")

    def _end_workers(self) -> None:
        """Kill all workers, and wait until they are gone, so that their resources are free."""
        self._host.is_stopping = True
        workers = [worker for by_slot in self._host.workers.values() for worker in by_slot.values()]
        wait_until_gone([self._end_worker(worker) for worker in workers], _GONE_SECONDS)

    def _end_worker(self, worker: SupervisedWorker) -> ProcessHandle:
        try:
            if worker.worker and not worker.process.pid:
                location = find_process(process_key(self._spec.actor_prefix, worker.worker))
                if location is not None and location[0] == self._spec.node:
                    worker.process = handle_of(location[1])
            worker.kill()
        except Exception:  # Ray may be gone with the engine; the others are to be ended all the same
            logger.exception("worker %d could not be ended", worker.worker)
        return worker.process

    def _exit(self) -> None:
        """End this process: nothing else ends a detached actor."""
        ray_module().kill(ray_module().get_runtime_context().current_actor, no_restart=True)

    def _report(self, report: Report) -> None:
        with self._news:
            self._reports.append(report)
            self._reported += 1
            self._news.notify_all()


def start_keeper(spec: KeeperSpec, incarnation: int) -> Any:
    """Start a keeper beside its engine: detached, so that it can end the workers if the engine is gone."""
    ray = ray_module()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - ray loads late

    options: dict[str, Any] = {
        "name": f"{spec.actor_prefix}.keeper.{incarnation}",
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_concurrency": _CONCURRENCY,
        "concurrency_groups": {_MAIL: 1},
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=spec.node, soft=False),
    }
    return ray.remote(**options)(Keeper).remote(spec)


def send(keeper: Any, path: str, message: Any) -> None:
    """Send an order to a supervisor; the orders of one sender arrive in sequence."""
    keeper.tell.options(concurrency_group=_MAIL).remote(path, message)


def send_stop(keeper: Any) -> None:
    """Have it replace nothing any more, before it takes any order that is sent later."""
    keeper.stop_replacing.options(concurrency_group=_MAIL).remote()
