"""Starts that fail or hang, as the supervisors' own threads see them: on actors that answer what a test says."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Event, Pipeline, Supervision
from ensue.actors.pool import liveness_clock as hearing
from ensue.actors.pool import root_client as root_watch
from ensue.actors.pool import supervisor_clients as branches
from ensue.actors.pool.supervisor_clients import SupervisorClients
from ensue.actors.pool.worker_pool import WorkerPool
from ensue.actors.supervision import supervisor_parent as parent
from ensue.actors.supervision.orders import (
    StepEnds,
    SupervisorGone,
    SupervisorUp,
)
from ensue.actors.supervision.pipeline_supervisor import PipelineSupervisor
from ensue.actors.supervision.root import RootSupervisor
from ensue.actors.supervision.supervisor_actor import Reports, SupervisionTimeouts, SupervisorActor
from ensue.cluster.processes import NOBODY, mark_of
from ensue.events.supervision.policy import StrategyName
from ensue.events.supervision.tree import Broken, Escalated

from ...child_process import spawn
from .stand_in_ray import QUICK, SECONDS, Actor, Ray, charter, first, ray, reported, running

__all__ = ["ray", "running"]


class Order(Event):
    n: int = 0


# -- the supervisor of a pipeline --------------------------------------------------------------------------------------


def a_pipeline(running: Callable[[SupervisorActor], Any], strategy: StrategyName, *actors: Actor | None) -> Any:
    policy = Supervision(strategy, backoff=QUICK.backoff)
    steps = [f"s{n}" for n in range(len(actors))]
    made = running(PipelineSupervisor(charter("flow", *steps, policy=policy)))
    below = [(charter(f"flow/{step}", "0"), actor, "") for step, actor in zip(steps, actors, strict=True)]
    made.tell("adopt", None, below)
    return made


def test_a_step_whose_supervisor_ends_has_another_and_its_workers_stay(
    ray: Ray, running: Callable[[SupervisorActor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, other, second = Actor(), Actor(), Actor()
    monkeypatch.setattr(parent, "start_actor", Mock(return_value=second))
    made = a_pipeline(running, "one_for_one", dead, other)
    made.tell("gone", ("flow/s0", 1), RuntimeError("boom"), None)
    items = reported(made, lambda items: first(items, SupervisorUp))
    gone = first(items, SupervisorGone)
    assert (gone.name, gone.reason, gone.restarts) == ("flow/s0", "its supervisor ended: boom", 1)
    assert first(items, SupervisorUp) == SupervisorUp("flow/s0", 2, second)
    assert first(items, StepEnds) is None
    assert [told[:2] for told in other.told if told[0] == "tell"] == [("tell", "adopted")]
    assert ("tell", "adopted", None, True) in second.told


def test_a_step_whose_supervisor_ends_ends_with_its_siblings_where_all_are_for_one(
    ray: Ray, running: Callable[[SupervisorActor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, other, second = Actor(), Actor(), Actor()
    monkeypatch.setattr(parent, "start_actor", Mock(return_value=second))
    made = a_pipeline(running, "one_for_all", dead, other)
    made.tell("gone", ("flow/s0", 1), RuntimeError("boom"), None)
    items = reported(made, lambda items: first(items, SupervisorGone))
    assert first(items, StepEnds) == StepEnds("s0")
    assert first(items, SupervisorUp) is None  # not before the sibling's last worker is gone
    assert ("tell", "cease") in other.told
    made.tell("quiet", "s1", 1, "", "it was told to stop")
    reported(made, lambda items: first(items, SupervisorUp))
    assert ("tell", "begin") in other.told


def test_a_step_that_gave_up_is_told_to_begin_again_until_its_pipeline_gives_up_too(
    ray: Ray, running: Callable[[SupervisorActor], Any]
) -> None:
    step, other = Actor(), Actor()
    made = a_pipeline(running, "one_for_one", step, other)
    seen: list[Any] = []
    upto = 0
    while not first(seen, Escalated):
        made.tell("quiet", "s0", 1, "more than 5 restarts", "")
        reports = made.reports(upto, 0.05)
        upto, seen = reports.upto, [*seen, *reports.items]
    escalated = first(seen, Escalated)
    assert (escalated.supervisor, escalated.restarts, escalated.failed) == ("flow", 6, True)
    assert step.told.count(("tell", "begin")) == 5
    assert ("tell", "cease") in other.told


# -- the root ----------------------------------------------------------------------------------------------------------


def a_root(patience: SupervisionTimeouts) -> RootSupervisor:
    return RootSupervisor(mark_of(os.getpid()), patience)


def test_a_supervisor_that_does_not_come_up_in_time_is_killed_and_another_is_started_uncounted(
    ray: Ray, running: Callable[[SupervisorActor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, second = Actor(), Actor()
    monkeypatch.setattr(parent, "start_actor", Mock(return_value=second))
    made = running(a_root(SupervisionTimeouts(start_seconds=0.05, ping_seconds=0.01)))
    made.tell("adopt", charter("flow", "step"), hung, None)
    items = reported(made, lambda items: any(isinstance(item, SupervisorUp) for item in items))
    gone, up = items[0], items[1]
    assert isinstance(gone, SupervisorGone)
    assert (gone.reason, gone.restarts) == ("its supervisor did not come up within 0.05 s", 0)
    assert up == SupervisorUp("flow", 2, second)
    assert ray.killed[0] is hung


def test_a_supervisor_whose_start_ray_refuses_is_started_again(
    ray: Ray, running: Callable[[SupervisorActor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parent, "start_actor", Mock(side_effect=[ValueError("no such node"), Actor()]))
    dead = Actor()
    made = running(a_root(SupervisionTimeouts()))
    made.tell("adopt", charter("flow", "step"), dead, None)
    made.tell("gone", ("flow", 1), RuntimeError("boom"), None)
    items = reported(made, lambda items: any(isinstance(item, SupervisorUp) for item in items))
    reasons = [item.reason for item in items if isinstance(item, SupervisorGone)]
    assert reasons == ["its supervisor ended: boom", "its supervisor did not start: no such node"]
    assert items[-1].incarnation == 3
    assert ray.killed == [dead]


# -- the engine's end --------------------------------------------------------------------------------------------------


class Engine:
    """Branches of two pipelines in a time that the test turns."""

    def __init__(self, ray: Ray, monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
        self.now = 1000.0
        self.ray = ray
        self.refused = set(refused)
        self.actors: dict[str, Actor] = {}
        for module in (branches, root_watch):
            monkeypatch.setattr(module, "start_actor", self._start_actor)
            monkeypatch.setattr(module, "alive", Mock(return_value=True))
        for module in (branches, hearing):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))
        pipelines = [Pipeline("one"), Pipeline("two")]
        self.branches = SupervisorClients(pipelines, "ensue-0-1", {}, SupervisionTimeouts(start_seconds=60.0))
        monkeypatch.setattr(self.branches.root, "_clock", SimpleNamespace(now_us=lambda: int(self.now * 1e6)))
        self.branches.start(SimpleNamespace(node_id="here"), self._tell, lambda _: [])  # type: ignore[arg-type]
        self.passes(0.0)  # the supervisors of the steps come first, and there are none

    def _start_actor(self, _kind: Any, name: str, _node: str, *_: Any) -> Actor:
        kind, title = name.split(".")[1:3]
        title = kind if kind == "root" else title
        if title in self.refused:
            self.refused.discard(title)
            raise ValueError("no such node")
        return self.actors.setdefault(title, Actor())

    def _tell(self, what: str, key: Any, error: BaseException | None, value: Any) -> None:
        if what == "root":
            self.branches.root.heard(key, error, value)
        elif what == "root pid" and error is None:
            self.branches.root.met(key, value)
        elif what == "pid" and error is None:
            self.branches.met_process(key, value)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.branches.tend(settled=True)

    def met(self, *titles: str) -> None:
        """These have said their process; it is none that can be killed."""
        for title in titles:
            branch = self.branches.branch(title)
            assert branch is not None
            branch.mark = NOBODY

    def goes_on(self, seconds: float, *titles: str) -> None:
        """So long only these answer, every 2 s."""
        for _ in range(round(seconds / 2)):
            self.passes(2.0)
            self.answer(*titles)

    def answer(self, *titles: str) -> None:
        """These go on, as ever."""
        for title in titles:
            self.actors[title].answers["reports"].set_result(Reports(0, [], None))
            branch = self.branches.branch(title)
            if branch is not None:
                self.branches.heard((title, branch.charter.incarnation), Reports(0, [], None))


def test_a_supervisor_that_never_says_its_process_is_killed_when_its_start_takes_too_long(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(0.0)
    engine.goes_on(70.0, "two", "root")
    assert ray.killed == []
    engine.goes_on(2.0, "two", "root")
    assert ray.killed == [engine.actors["one"]]


def test_a_supervisor_is_told_what_it_has_below_it_once_it_is_there_and_until_then_it_gets_no_orders(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    actor = engine.actors["one"]
    assert not engine.branches.order("one", "end", 7)
    engine.branches.restart("one")
    assert [call for call in actor.told if call[0] == "tell"] == []
    actor.answers["pid"].set_result(os.getpid())
    assert [call[1] for call in actor.told if call[0] == "tell"] == ["adopt", "restart"]
    assert engine.branches.order("one", "end", 7)
    engine.branches.stop()
    assert actor.told[-1] == ("tell", "stop")
    assert engine.actors["two"].told[-1] == ("tell", "stop"), "also who is on its way"


def test_a_root_that_never_says_its_process_is_killed_when_its_start_takes_too_long_and_another_is_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    hung = engine.actors.pop("root")
    engine.goes_on(70.0, "one", "two")
    assert ray.killed == []
    engine.goes_on(2.0, "one", "two")
    assert ray.killed == [hung]
    engine.passes(1.0)
    assert engine.actors["root"] is not hung
    assert engine.branches.root.node()["restarts"] == 1


def test_a_root_that_answers_no_more_is_killed_and_another_is_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"])
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    engine.actors["root"].answers["pid"].set_result(process.pid)
    assert engine.branches.root.node()["status"] == "up"
    hung = engine.actors.pop("root")
    engine.goes_on(16.0, "one", "two")
    assert process.wait(SECONDS) == -signal.SIGKILL
    assert hung in ray.killed
    engine.passes(1.0)
    assert engine.actors["root"] is not hung


def test_none_is_killed_for_a_silence_of_all_and_afterwards_each_has_its_time_again(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    engine.answer("one", "two", "root")
    engine.met("one", "two")
    engine.passes(40.0)
    assert ray.killed == [], "the machine was busy, or this process stood still"
    engine.answer("two")
    engine.goes_on(8.0, "two", "root")
    assert ray.killed == [], "answers that came in meanwhile are read one by one"
    engine.goes_on(2.0, "two", "root")
    assert ray.killed == [engine.actors["one"]], "the others are heard and it is not"


def test_supervisors_that_have_all_stopped_are_killed_all_the_same(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    engine.answer("one", "two", "root")
    engine.met("one", "two")
    for _ in range(40):
        engine.passes(2.0)
    assert {engine.actors["one"], engine.actors["two"]} <= set(ray.killed)


def test_a_pipeline_whose_supervisor_ray_refuses_to_start_keeps_nobody_else_from_theirs(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch, "one")
    engine.passes(3.0)
    branch = engine.branches.branch("one")
    assert branch is not None
    assert branch.missing == "its supervisor did not start: no such node"
    adopted = [message[2:4] for message in engine.actors["root"].told if message[:2] == ("tell", "adopt")]
    assert [(charter.name, actor) for charter, actor in adopted] == [("one", None), ("two", engine.actors["two"])]


def test_a_root_that_ray_refuses_to_start_is_started_again(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch, "root")
    engine.passes(3.0)
    assert "root" not in engine.actors
    assert engine.branches.root.node()["reason"] == "no such node"
    engine.passes(3.0)
    assert ("pid",) in engine.actors["root"].told


# -- the crew ----------------------------------------------------------------------------------------------------------


def test_a_report_that_cannot_be_seen_to_loses_none_of_those_that_came_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    posted: list[Any] = []

    def post(entry: Any) -> None:
        if entry.message == "bad":
            raise RuntimeError("this one is always bad")
        posted.append(entry.message)

    reports = Reports(2, [Broken("first", "bad"), Broken("second", "good")], None)
    supervisors = Mock(branches={"flow": Mock()}, **{"heard.return_value": reports.items, "failed.return_value": ""})
    crew = WorkerPool(Mock(), supervisors, Mock(), [Pipeline("flow")], post)
    crew._take_all(("flow", 1), reports)
    assert posted == ["good"]
    assert "Broken(step='first', message='bad')" in caplog.text
    assert crew.roster.given_up == {("flow", "second")}


def test_a_crew_that_waits_for_a_lost_ray_has_another_thread_see_to_the_loss() -> None:
    held, begun = threading.Event(), threading.Event()

    def hangs(*_: Any) -> None:
        begun.set()
        held.wait(SECONDS)

    supervisors = Mock(**{"start.side_effect": hangs, "is_due.return_value": False, "failed.return_value": ""})
    crew = WorkerPool(Mock(), supervisors, Mock(), [Pipeline("flow")], Mock())
    crew.start(Mock())
    stuck = crew._thread
    assert begun.wait(SECONDS)
    assert crew.lose(SECONDS)
    assert supervisors.forget_all.called
    held.set()
    assert stuck is not None
    stuck.join(SECONDS)
    assert not stuck.is_alive()
    crew.stop(0.0)
