"""The supervisor of a step as its own thread sees it: on workers that answer what a test says."""

import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from ensue.actors.supervision.long_poll import SUPERSEDED, CompletionLatch
from ensue.actors.supervision.orders import (
    LiveWorker,
    WorkerGone,
    WorkerWanted,
)
from ensue.actors.supervision.step_supervisor import StepSupervisor
from ensue.actors.supervision.supervisor_actor import SupervisionTimeouts, SupervisorActor
from ensue.cluster.processes import NOBODY, mark_of
from ensue.events.supervision.tree import Broken, Restarted

from ...child_process import spawn
from .stand_in_ray import SECONDS, Actor, Ray, awaited, charter, first, ray, reported, running

__all__ = ["ray", "running"]


# -- the end of an actor -----------------------------------------------------------------------------------------------


def test_whoever_attends_is_relieved_by_the_next_one_so_that_dead_callers_hold_no_thread() -> None:
    attendance = CompletionLatch()
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def attend() -> None:
        said.put(attendance.wait())  # unbounded: a daemon thread

    for thread in [threading.Thread(target=attend, daemon=True) for _ in range(20)]:
        thread.start()
    assert [said.get(timeout=SECONDS) for _ in range(19)] == [SUPERSEDED] * 19
    attendance.end()
    assert said.get(timeout=SECONDS) != SUPERSEDED
    assert attendance.wait() != SUPERSEDED  # unbounded: it has ended, so it returns at once


# -- the supervisor of a step ------------------------------------------------------------------------------------------


def test_a_worker_that_ray_refuses_to_start_is_a_start_that_failed_and_is_tried_again_until_the_step_is_broken(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    made = running(StepSupervisor(charter("flow/first", "0")))
    made.tell("adopt", None, [])
    seen: list[Any] = []
    upto = 0
    while not first(seen, Broken):
        reports = made.reports(upto, SECONDS)
        upto, seen = reports.upto, [*seen, *reports.items]
        for item in reports.items:
            if isinstance(item, WorkerWanted):
                made.tell("refused", item.slot, item.start, ValueError("Use the 'num_gpus' keyword"))
    assert "Use the 'num_gpus' keyword" in first(seen, Broken).message
    assert {item.restarts for item in seen if isinstance(item, Restarted)} == {0}
    assert [item.start for item in seen if isinstance(item, WorkerWanted)][:3] == [1, 2, 3]
    assert ray.killed == []


def test_a_supervisor_finds_the_workers_that_are_there_and_wants_only_those_that_are_not(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    there, dead = Actor(), Actor()
    made = running(StepSupervisor(charter("flow/first", "0", "1", "2")))
    living = [
        LiveWorker(0, 7, there, NOBODY, up=False, worked=False),
        LiveWorker(2, 9, dead, NOBODY, up=True, worked=False),
    ]
    made.tell("adopt", None, living)
    wanted = first(reported(made, lambda items: first(items, WorkerWanted)), WorkerWanted)
    assert wanted.slot == 1
    awaited(dead, "attend").set_exception(RuntimeError("boom"))
    items = reported(made, lambda items: first(items, Restarted))
    assert first(items, WorkerGone) == WorkerGone(9, "boom", blamed=True, was_up=True)
    assert first(items, Restarted).restarts == 1  # it was up, so its end counts, though this one never heard it
    assert ("hello",) in there.told
    assert ray.killed == [dead]


def test_a_worker_that_was_at_work_and_ends_before_its_supervisor_hears_it_has_crashed(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    worker = Actor()
    made = running(StepSupervisor(charter("flow/first", "0")))
    made.tell("adopt", None, [LiveWorker(0, 7, worker, NOBODY, up=False, worked=False)])
    made.tell("opened", 7)
    awaited(worker, "hello").set_exception(RuntimeError("boom"))
    items = reported(made, lambda items: first(items, Restarted))
    assert first(items, WorkerGone) == WorkerGone(7, "boom", blamed=True, was_up=True)
    assert first(items, Restarted).restarts == 1


def test_what_a_worker_ran_has_crashed_with_it_though_its_supervisor_never_heard_that_it_was_up(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    worker = Actor()
    made = running(StepSupervisor(charter("flow/first", "0")))
    made.tell("adopt", None, [LiveWorker(0, 7, worker, NOBODY, up=False, worked=False)])
    awaited(worker, "hello").set_exception(RuntimeError("boom"))
    gone = first(reported(made, lambda items: first(items, WorkerGone)), WorkerGone)
    assert gone == WorkerGone(7, "boom", blamed=True, was_up=False)


def test_a_worker_that_nobody_wants_any_more_is_ended_when_it_is_made(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    late = Actor()
    made = running(StepSupervisor(charter("flow/first", "0")))
    made.tell("adopt", None, [])
    wanted = first(reported(made, lambda items: first(items, WorkerWanted)), WorkerWanted)
    made.tell("cease")
    made.tell("made", 0, wanted.start, 5, late)
    awaited(late, "hello").set_exception(RuntimeError("killed"))
    gone = first(reported(made, lambda items: first(items, WorkerGone)), WorkerGone)
    assert (gone.worker, gone.message) == (5, "its supervisor ended it")
    assert late in ray.killed


def test_a_worker_that_is_gone_is_seen_to_be_gone_though_ray_says_nothing(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"])
    made = running(StepSupervisor(charter("flow/first", "0", patience=SupervisionTimeouts(ping_seconds=1000.0))))
    made.tell("adopt", None, [LiveWorker(0, 7, Actor(), mark_of(process.pid), up=True, worked=False)])
    process.kill()
    process.wait(SECONDS)
    gone = first(reported(made, lambda items: first(items, WorkerGone)), WorkerGone)
    assert gone == WorkerGone(7, "its process was gone", blamed=True, was_up=True)


def test_a_supervisor_whose_engine_was_replaced_ends_the_workers_and_then_itself(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    worker = Actor()
    made = running(StepSupervisor(charter("flow/first", "0")))
    made.tell("adopt", None, [LiveWorker(0, 7, worker, NOBODY, up=True, worked=True)])
    made.tell("leave")
    assert made.attend() != SUPERSEDED
    assert ray.killed[0] is worker
