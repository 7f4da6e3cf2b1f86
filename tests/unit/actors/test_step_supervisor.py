"""The supervisor of a step, on workers that answer what a test says."""

import queue
import sys
import threading

from ensue.actors.supervision.long_poll import SUPERSEDED, CompletionLatch
from ensue.actors.supervision.orders import (
    EndWorkers,
    StandingChanged,
    StopStep,
    SupervisionTimeouts,
    WorkerGone,
    WorkerMade,
    WorkerOpened,
    WorkerRefused,
    WorkerWanted,
)
from ensue.cluster.processes import handle_of
from ensue.events.supervision.supervisor import ChildStatus
from ensue.events.supervision.tree import Broken, Restarted, SlotStanding

from ...child_process import spawn
from .stand_in_ray import SECONDS, Actor, Kept, Ray, a_pipeline, a_worker, ray

__all__ = ["ray"]
STEP = "flow/first"


# -- the wait for the end of an actor ----------------------------------------------------------------------------------


def test_a_newer_waiter_relieves_the_older_one_so_that_dead_callers_hold_no_thread() -> None:
    latch = CompletionLatch()
    said: queue.SimpleQueue[str] = queue.SimpleQueue()

    def attend() -> None:
        said.put(latch.wait())  # unbounded: a daemon thread

    for thread in [threading.Thread(target=attend, daemon=True) for _ in range(20)]:
        thread.start()
    assert [said.get(timeout=SECONDS) for _ in range(19)] == [SUPERSEDED] * 19
    latch.end()
    assert said.get(timeout=SECONDS) != SUPERSEDED
    assert latch.wait() != SUPERSEDED  # unbounded: it has ended, so it returns at once


# -- the supervisor of a step ------------------------------------------------------------------------------------------


def test_a_worker_that_ray_refuses_to_start_is_a_start_that_failed_and_is_tried_again_until_the_step_is_broken(
    ray: Ray,
) -> None:
    kept = Kept(a_pipeline("first"))
    answered = 0
    while not kept.events(Broken):
        wanted = kept.all(WorkerWanted)[answered]
        answered += 1
        kept.tell(STEP, WorkerRefused(wanted.slot, wanted.start, "Use the 'num_gpus' keyword"))
        kept.passes(0.02)
    assert "Use the 'num_gpus' keyword" in kept.events(Broken)[0].message
    assert {event.restarts for event in kept.events(Restarted)} == {0}
    assert [wanted.start for wanted in kept.all(WorkerWanted)][:3] == [1, 2, 3]
    assert ray.killed == []


def test_a_supervisor_finds_the_workers_that_are_there_and_wants_only_those_that_are_not(ray: Ray) -> None:
    there, dead = Actor(), Actor()
    workers = [a_worker(STEP, 0, 7, there, is_up=False), a_worker(STEP, 2, 9, dead, is_up=True)]
    kept = Kept(a_pipeline("first", replicas=3), *workers)
    assert [wanted.slot for wanted in kept.all(WorkerWanted)] == [1]
    dead.answers["attend"].set_exception(RuntimeError("boom"))
    kept.passes(0.0)
    assert kept.all(WorkerGone) == [WorkerGone(STEP, 9, "boom", is_blamed=True, was_up=True)]
    assert kept.events(Restarted)[0].restarts == 1  # it was up, so its end counts, though this one never heard it
    assert ("hello",) in there.told
    assert ray.killed == [dead]


def test_a_worker_that_was_at_work_and_ends_before_its_supervisor_hears_it_has_crashed(ray: Ray) -> None:
    worker = Actor()
    kept = Kept(a_pipeline("first"), a_worker(STEP, 0, 7, worker, is_up=False))
    kept.tell(STEP, WorkerOpened(7))
    worker.answers["hello"].set_exception(RuntimeError("boom"))
    kept.passes(0.0)
    assert kept.all(WorkerGone) == [WorkerGone(STEP, 7, "boom", is_blamed=True, was_up=True)]
    assert kept.events(Restarted)[0].restarts == 1


def test_what_a_worker_ran_has_crashed_with_it_though_its_supervisor_never_heard_that_it_was_up(ray: Ray) -> None:
    worker = Actor()
    kept = Kept(a_pipeline("first"), a_worker(STEP, 0, 7, worker, is_up=False))
    worker.answers["hello"].set_exception(RuntimeError("boom"))
    kept.passes(0.0)
    assert kept.all(WorkerGone) == [WorkerGone(STEP, 7, "boom", is_blamed=True, was_up=False)]


def test_a_worker_that_nobody_wants_any_more_is_ended_when_it_is_made(ray: Ray) -> None:
    late = Actor()
    kept = Kept(a_pipeline("first"))
    (wanted,) = kept.all(WorkerWanted)
    kept.tell(STEP, StopStep())
    kept.tell(STEP, WorkerMade(0, wanted.start, 5, late))
    late.answers["hello"].set_exception(RuntimeError("killed"))
    kept.passes(0.0)
    (gone,) = kept.all(WorkerGone)
    assert (gone.worker, gone.message) == (5, "its supervisor ended it")
    assert late in ray.killed


def test_a_worker_that_was_made_for_a_supervisor_that_crashed_is_ended_by_the_engine(ray: Ray) -> None:
    kept = Kept(a_pipeline("first"))
    (wanted,) = kept.all(WorkerWanted)
    kept.crash(STEP)
    kept.tell(STEP, WorkerMade(0, wanted.start, 5, Actor()))
    assert kept.all(EndWorkers) == []
    kept.passes(0.02)
    assert kept.all(EndWorkers) == [EndWorkers(STEP, 5)]
    assert [each.start for each in kept.all(WorkerWanted)] == [1, 2]


def test_a_worker_that_is_gone_is_seen_to_be_gone_though_ray_says_nothing(ray: Ray) -> None:
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"])
    there = a_worker(STEP, 0, 7, Actor(), is_up=True, process=handle_of(process.pid))
    kept = Kept(a_pipeline("first"), there, timeouts=SupervisionTimeouts(ping_seconds=1000.0))
    process.kill()
    process.wait(SECONDS)
    kept.passes(0.0)
    assert kept.all(WorkerGone) == [], "Ray has a second to say why"
    kept.passes(1.0)
    assert kept.all(WorkerGone) == [WorkerGone(STEP, 7, "its process was gone", is_blamed=True, was_up=True)]


def test_a_worker_that_misses_three_pings_is_killed_and_one_that_answers_is_not(ray: Ray) -> None:
    silent, well = Actor(), Actor()
    workers = [a_worker(STEP, 0, 7, silent, is_up=True), a_worker(STEP, 1, 8, well, is_up=True)]
    kept = Kept(a_pipeline("first", replicas=2), *workers, timeouts=SupervisionTimeouts(ping_seconds=2.0))
    for _ in range(4):
        assert ray.killed == []
        kept.passes(2.0)
        well.answers["ping"].set_result(None)
        kept.passes(0.0)
    assert ray.killed == [silent]


def test_a_worker_that_does_not_come_up_in_time_is_killed_and_its_start_has_failed(ray: Ray) -> None:
    worker = Actor()
    there = a_worker(STEP, 0, 7, worker, is_up=False)
    kept = Kept(a_pipeline("first"), there, timeouts=SupervisionTimeouts(start_seconds=8.0, ping_seconds=2.0))
    kept.host.workers[STEP][0].is_located = True
    for _ in range(5):
        assert ray.killed == []
        kept.passes(2.0)
    assert ray.killed == [worker]
    worker.answers["hello"].set_exception(RuntimeError("killed"))
    kept.passes(0.0)
    assert kept.events(Restarted)[0].reason == "it did not come up within 8 s"
    assert kept.events(Restarted)[0].restarts == 0


def test_the_state_of_a_step_is_reported_when_it_changes_and_only_then(ray: Ray) -> None:
    kept = Kept(a_pipeline("first"), a_worker(STEP, 0, 7, Actor(), is_up=True))
    for _ in range(3):
        kept.passes(0.5)
    (changed,) = kept.all(StandingChanged)
    assert changed.path == STEP
    assert changed.standing.slots == (SlotStanding(0, ChildStatus.UP, 1_000_000_000, 0, "", 0),)
