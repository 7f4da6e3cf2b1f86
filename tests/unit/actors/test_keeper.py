"""The keeper and its supervisors: one that crashes is replaced by its parent, and nothing else notices."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ensue import Supervision
from ensue.actors.supervision import keeper as keeper_module
from ensue.actors.supervision.host import RootCrashed
from ensue.actors.supervision.keeper import Keeper
from ensue.actors.supervision.orders import (
    ROOT,
    Adopt,
    EndWorker,
    EndWorkers,
    HistoryChanged,
    PipelineSpec,
    RestartPipeline,
    RootHistoryChanged,
    StandingChanged,
    StepQuiet,
    StopStep,
    SupervisionTimeouts,
    SupervisorRestarts,
    SupervisorStarted,
    WorkerGone,
    WorkerWanted,
)
from ensue.events.supervision.policy import StrategyName
from ensue.events.supervision.restart_history import ChildHistory, RestartHistory
from ensue.events.supervision.supervisor import ChildStatus
from ensue.events.supervision.tree import Escalated, Restarted, StepPolicy

from .stand_in_ray import QUICK, SECONDS, Actor, Kept, Ray, a_pipeline, a_worker, keeper_spec, ray

__all__ = ["ray"]
ALWAYS_GIVES_UP = Supervision(intensity=0, backoff=QUICK.backoff)
BUG = "its supervisor ended: Expected code to be unreachable, but got: 'boom'"


class Two:
    """A pipeline of two steps with a worker each, which is up."""

    def __init__(self, strategy: StrategyName = "one_for_one", policy: Supervision | None = None) -> None:
        self.actors = Actor(), Actor()
        workers = [a_worker(f"flow/s{n}", 0, n + 1, actor, is_up=True) for n, actor in enumerate(self.actors)]
        policy = policy or Supervision(strategy, backoff=QUICK.backoff)
        self.kept = Kept(a_pipeline("s0", "s1", policy=policy), *workers)


# -- the supervisor of a step crashes ----------------------------------------------------------------------------------


def test_a_step_whose_supervisor_crashes_has_another_and_its_workers_stay(ray: Ray) -> None:
    two = Two()
    kept = two.kept
    kept.crash("flow/s0")
    assert kept.all(SupervisorRestarts) == [SupervisorRestarts("flow/s0", BUG, 0.01)]
    assert not kept.host.is_running("flow/s0")
    kept.passes(0.02)
    assert kept.all(SupervisorStarted)[-1] == SupervisorStarted("flow/s0")
    assert kept.all(HistoryChanged)[-1].history.times_us == (1_000_000_000,)
    assert (kept.all(EndWorkers), kept.all(WorkerWanted), ray.killed) == ([], [], [])
    two.actors[0].answers["attend"].set_exception(RuntimeError("its worker crashed"))
    kept.passes(0.02)
    kept.passes(0.02)
    assert kept.events(Restarted)[0].restarts == 1
    assert [wanted.path for wanted in kept.all(WorkerWanted)] == ["flow/s0"]


def test_a_step_whose_supervisor_crashes_is_replaced_with_its_siblings_if_all_are_restarted_with_one(ray: Ray) -> None:
    two = Two("one_for_all")
    kept = two.kept
    kept.crash("flow/s0")
    assert kept.all(EndWorkers) == [EndWorkers("flow/s0")]
    assert ray.killed == [two.actors[1]]
    kept.passes(1.0)
    assert not kept.host.is_running("flow/s0"), "not before the last worker of its sibling is gone"
    two.actors[1].answers["attend"].set_exception(RuntimeError("killed"))
    kept.passes(1.0)
    assert [wanted.path for wanted in kept.all(WorkerWanted)] == ["flow/s0", "flow/s1"]


def test_a_pipeline_one_of_whose_steps_crashes_too_often_is_given_up_until_it_is_restarted(ray: Ray) -> None:
    two = Two(policy=ALWAYS_GIVES_UP)
    kept = two.kept
    kept.crash("flow/s0")
    (escalated,) = kept.events(Escalated)
    assert (escalated.supervisor, escalated.to, escalated.failed) == ("flow", "", True)
    assert BUG in escalated.reason
    assert kept.all(EndWorkers) == [EndWorkers("flow/s0")]
    assert ray.killed == [two.actors[1]]
    two.actors[1].answers["attend"].set_exception(RuntimeError("killed"))
    kept.passes(60.0)
    assert kept.all(WorkerWanted) == []
    kept.tell(ROOT, RestartPipeline("flow"))
    assert {wanted.path for wanted in kept.all(WorkerWanted)} == {"flow/s0", "flow/s1"}


def test_orders_wait_in_the_mailbox_of_a_supervisor_that_crashed(ray: Ray) -> None:
    two = Two()
    two.kept.crash("flow/s0")
    two.kept.tell("flow/s0", EndWorker(1, "it was told to end", is_blamed=False))
    assert ray.killed == []
    two.kept.passes(0.02)
    assert ray.killed == [two.actors[0]]
    two.actors[0].answers["attend"].set_exception(RuntimeError("killed"))
    two.kept.passes(0.0)
    assert two.kept.all(WorkerGone) == [WorkerGone("flow/s0", 1, "it was told to end", is_blamed=False, was_up=True)]


def test_the_history_of_a_step_outlives_its_supervisor(ray: Ray) -> None:
    history = RestartHistory((999_000_000,), (ChildHistory("0", 1, 4),))
    worker = Actor()
    kept = Kept(a_pipeline("s0"), a_worker("flow/s0", 0, 1, worker, is_up=True), histories={"flow/s0": history})
    kept.crash("flow/s0")
    kept.passes(0.02)
    worker.answers["attend"].set_exception(RuntimeError("its worker crashed"))
    kept.passes(0.0)
    assert kept.events(Restarted)[0].restarts == 2
    (changed,) = (each.history for each in kept.all(HistoryChanged) if each.path == "flow/s0")
    assert changed == RestartHistory((999_000_000, 1_000_020_000), (ChildHistory("0", 2, 5),))


def test_a_step_that_gave_up_is_started_again_until_its_pipeline_gives_up_too(ray: Ray) -> None:
    kept = Kept(a_pipeline("s0", "s1"))
    while not kept.events(Escalated):
        kept.tell("flow", StepQuiet("s0", "more than 5 restarts", ""))
        kept.passes(0.02)
    (escalated,) = kept.events(Escalated)
    assert (escalated.supervisor, escalated.restarts, escalated.failed) == ("flow", 6, True)


# -- the supervisor of a pipeline, and the root ------------------------------------------------------------------------


def test_a_pipeline_whose_supervisor_crashes_has_another_and_nothing_below_notices(ray: Ray) -> None:
    two = Two()
    kept = two.kept
    kept.crash("flow")
    assert kept.all(SupervisorRestarts) == [SupervisorRestarts("flow", BUG, 0.01)]
    assert kept.all(RootHistoryChanged)[0].history.times_us == (1_000_000_000,)
    kept.passes(0.02)
    assert kept.host.is_running("flow")
    assert (kept.all(EndWorkers), kept.all(WorkerWanted), ray.killed) == ([], [], [])
    kept.crash("flow/s1")
    kept.passes(0.02)
    assert kept.all(SupervisorStarted)[-1] == SupervisorStarted("flow/s1"), "the new one sees to its steps"


def test_a_step_that_crashes_while_its_pipeline_has_no_supervisor_is_replaced_by_the_next_one(ray: Ray) -> None:
    kept = Two().kept
    kept.crash("flow")
    kept.crash("flow/s0")
    kept.passes(0.02)
    kept.passes(0.02)
    assert kept.host.is_running("flow/s0")
    assert [each.path for each in kept.all(SupervisorRestarts)] == ["flow", "flow/s0"]


def test_a_step_that_was_stopped_by_a_supervisor_that_crashed_is_started_by_the_next_one(ray: Ray) -> None:
    two = Two()
    two.kept.tell("flow/s0", StopStep())
    two.kept.crash("flow")
    two.actors[0].answers["attend"].set_exception(RuntimeError("killed"))
    two.kept.passes(0.02)
    two.kept.passes(0.02)
    assert [wanted.path for wanted in two.kept.all(WorkerWanted)] == ["flow/s0"]


def test_a_pipeline_whose_supervisor_keeps_crashing_is_given_up_until_it_is_restarted(ray: Ray) -> None:
    two = Two(policy=ALWAYS_GIVES_UP)
    kept = two.kept
    kept.crash("flow")
    (escalated,) = kept.events(Escalated)
    assert (escalated.supervisor, escalated.to, escalated.failed) == ("engine", "", True)
    assert kept.all(EndWorkers) == [EndWorkers("flow/s0"), EndWorkers("flow/s1")]
    assert kept.all(RootHistoryChanged)[-1].history.gave_up
    kept.passes(60.0)
    assert not any(kept.host.is_running(path) for path in ("flow", "flow/s0", "flow/s1"))
    kept.tell(ROOT, RestartPipeline("flow"))
    assert {wanted.path for wanted in kept.all(WorkerWanted)} == {"flow/s0", "flow/s1"}


def test_a_pipeline_that_was_given_up_stays_so_in_the_next_keeper(ray: Ray) -> None:
    kept = Kept(a_pipeline("s0"), histories={"flow": RestartHistory(gave_up="more than 0 restarts")})
    kept.passes(60.0)
    assert kept.all(WorkerWanted) == []
    kept.tell(ROOT, RestartPipeline("flow"))
    assert [wanted.path for wanted in kept.all(WorkerWanted)] == ["flow/s0"]


def test_a_step_that_had_given_up_is_started_again_by_the_next_keeper(ray: Ray) -> None:
    kept = Kept(a_pipeline("s0"), histories={"flow/s0": RestartHistory(gave_up="more than 5 restarts")})
    assert [wanted.path for wanted in kept.all(WorkerWanted)] == ["flow/s0"]


def test_a_step_that_gave_up_and_then_crashes_is_started_again(ray: Ray) -> None:
    worker = Actor()
    policy = Supervision(intensity=0, backoff=QUICK.backoff)
    spec = PipelineSpec("flow", QUICK, (StepPolicy("s0", 1, policy),))
    kept = Kept(spec, a_worker("flow/s0", 0, 1, worker, is_up=True))
    worker.answers["attend"].set_exception(RuntimeError("its worker crashed"))
    kept.passes(0.0)
    assert [(each.supervisor, each.failed) for each in kept.events(Escalated)] == [("flow/s0", False)]
    kept.crash("flow/s0")
    kept.passes(0.02)
    assert [wanted.path for wanted in kept.all(WorkerWanted)] == ["flow/s0"]
    assert kept.all(EndWorkers) == []


def test_nothing_is_replaced_once_the_engine_stops(ray: Ray) -> None:
    two = Two()
    two.kept.host.is_stopping = True
    two.actors[0].answers["attend"].set_exception(RuntimeError("stopped"))
    two.kept.crash("flow/s1")
    two.kept.crash("flow")
    two.kept.passes(60.0)
    assert two.kept.all(WorkerWanted) == []
    assert [gone.worker for gone in two.kept.all(WorkerGone)] == [1]
    assert len(two.kept.all(SupervisorStarted)) == 3


def test_a_restart_that_is_due_while_the_engine_stops_does_not_keep_the_thread_awake(ray: Ray) -> None:
    two = Two()
    two.actors[0].answers["attend"].set_exception(RuntimeError("its worker crashed"))
    two.kept.crash("flow")
    two.kept.crash("flow/s1")
    assert two.kept.host.next_check_seconds(two.kept.now, 1.0) < 0.1
    two.kept.host.is_stopping = True
    two.kept.passes(1.0)
    assert two.kept.host.next_check_seconds(two.kept.now, 1.0) == 1.0
    assert two.kept.all(WorkerWanted) == []


def test_an_old_order_to_stop_does_not_stop_the_next_supervisor_of_a_step(ray: Ray) -> None:
    two = Two()
    kept = two.kept
    kept.host.post("flow/s0", "boom")
    kept.tell(ROOT, RestartPipeline("flow"))
    two.actors[1].answers["attend"].set_exception(RuntimeError("killed"))
    kept.passes(1.0)
    kept.passes(1.0)
    assert {wanted.path for wanted in kept.all(WorkerWanted)} == {"flow/s0", "flow/s1"}
    standing = next(each.standing for each in reversed(kept.all(StandingChanged)) if each.path == "flow/s0")
    assert [slot.status for slot in standing.slots] == [ChildStatus.STARTING]


def test_the_workers_of_a_pipeline_that_was_given_up_are_ended_by_the_next_keeper(ray: Ray) -> None:
    given_up = {"flow": RestartHistory(gave_up="more than 0 restarts")}
    kept = Kept(a_pipeline("s0", "s1"), a_worker("flow/s1", 0, 1, Actor(), is_up=True), histories=given_up)
    assert kept.all(EndWorkers) == [EndWorkers("flow/s1")]
    kept.tell(ROOT, RestartPipeline("flow"))
    assert {wanted.path for wanted in kept.all(WorkerWanted)} == {"flow/s0", "flow/s1"}


def test_a_restart_forgets_also_how_often_the_supervisor_of_the_pipeline_crashed(ray: Ray) -> None:
    kept = Two(policy=Supervision(intensity=1, backoff=QUICK.backoff)).kept
    for _ in range(2):
        kept.crash("flow")
        kept.passes(0.02)
        kept.tell(ROOT, RestartPipeline("flow"))
    assert kept.events(Escalated) == []
    assert kept.host.is_running("flow")


def test_a_root_that_crashes_ends_the_keeper(ray: Ray) -> None:
    kept = Two().kept
    with pytest.raises(RootCrashed):
        kept.crash(ROOT)


# -- the actor ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def started() -> Iterator[Callable[[SupervisionTimeouts], Any]]:
    """Starts keepers, and ends their threads."""
    known: list[Keeper] = []

    def start(timeouts: SupervisionTimeouts) -> Any:
        known.append(Keeper(keeper_spec(timeouts)))
        return known[-1]

    yield start
    for keeper in known:
        keeper.leave()
    for thread in threading.enumerate():
        if thread.name == "ensue-keeper":
            thread.join(SECONDS)


def end_of(keeper: Keeper) -> None:
    """Wait until the thread of a keeper has ended."""
    keeper._thread.join(SECONDS)
    assert not keeper._thread.is_alive()


def adopted(keeper: Keeper, worker: Actor) -> None:
    keeper.tell(ROOT, Adopt((a_pipeline("s0"),), {}, {}, (a_worker("flow/s0", 0, 1, worker, is_up=True),)))


def test_reports_are_kept_until_the_engine_has_them(ray: Ray, started: Callable[[SupervisionTimeouts], Keeper]) -> None:
    keeper = started(SupervisionTimeouts())
    adopted(keeper, Actor())
    first = keeper.reports(0, SECONDS)
    again = keeper.reports(0, SECONDS)
    assert again.items[: len(first.items)] == first.items
    assert keeper.reports(again.upto, 0.0).items == []


def test_a_keeper_whose_engine_was_replaced_ends_the_workers_and_then_itself(
    ray: Ray, started: Callable[[SupervisionTimeouts], Keeper]
) -> None:
    worker = Actor()
    keeper = started(SupervisionTimeouts())
    adopted(keeper, worker)
    keeper.reports(0, SECONDS)
    keeper.leave()
    end_of(keeper)
    assert ray.killed == [worker, "the keeper itself"]


def test_a_keeper_whose_engine_is_silent_for_too_long_ends_the_workers_and_then_itself(
    ray: Ray, started: Callable[[SupervisionTimeouts], Keeper]
) -> None:
    worker = Actor()
    keeper = started(SupervisionTimeouts(silence_seconds=2.5))
    adopted(keeper, worker)
    keeper.reports(0, SECONDS)
    end_of(keeper)
    assert ray.killed == [worker, "the keeper itself"]


def test_a_keeper_whose_root_crashes_ends_itself_and_no_worker(
    ray: Ray, started: Callable[[SupervisionTimeouts], Keeper]
) -> None:
    keeper = started(SupervisionTimeouts())
    adopted(keeper, Actor())
    keeper.reports(0, SECONDS)
    keeper.tell(ROOT, "boom")
    end_of(keeper)
    assert ray.killed == ["the keeper itself"]


def test_a_keeper_ends_itself_and_all_other_workers_if_one_cannot_be_killed(
    ray: Ray, started: Callable[[SupervisionTimeouts], Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = Actor(), Actor()
    kill = ray.kill

    def refuses(actor: Any, *, no_restart: bool) -> None:
        if actor is stuck:
            raise RuntimeError("the control store does not answer")
        kill(actor, no_restart=no_restart)

    monkeypatch.setattr(ray, "kill", refuses)
    keeper = started(SupervisionTimeouts())
    workers = tuple(a_worker("flow/s0", slot, slot + 1, actor, is_up=True) for slot, actor in enumerate((stuck, other)))
    keeper.tell(ROOT, Adopt((a_pipeline("s0", replicas=2),), {}, {}, workers))
    keeper.reports(0, SECONDS)
    keeper.leave()
    end_of(keeper)
    assert ray.killed == [other, "the keeper itself"]


def test_a_keeper_whose_thread_stands_still_says_so_when_it_is_asked_for_reports(
    ray: Ray, started: Callable[[SupervisionTimeouts], Keeper], monkeypatch: pytest.MonkeyPatch
) -> None:
    held, begun = threading.Event(), threading.Event()

    def hangs(*_: Any) -> None:
        begun.set()
        held.wait(SECONDS)

    monkeypatch.setattr(keeper_module, "_IDLE_SECONDS", 0.001)
    keeper = started(SupervisionTimeouts())
    monkeypatch.setattr(keeper._host, "run", hangs)
    assert begun.wait(SECONDS)
    assert keeper.reports(0, 0.01).items == []
    assert keeper.reports(0, 0.01).items == []
    with pytest.raises(RuntimeError, match="stands still"):
        keeper.reports(0, 0.01)
    held.set()
