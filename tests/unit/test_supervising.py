"""Starts that fail or hang, as the supervisors' own threads see them: on actors that answer what a test says."""

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Backoff, Event, Pipeline, Supervision
from ensue.actors import branches, root, supervising, supervisor
from ensue.actors.branches import Branches
from ensue.actors.crew import Crew
from ensue.actors.root import RootSupervisor, SupervisorGone, SupervisorUp
from ensue.actors.supervising import Patience, Reports, Supervising
from ensue.actors.supervisor import Charter, PipelineSupervisor, StepCharter, WorkerGone
from ensue.cluster.processes import mark_of
from ensue.events.step import Resources
from ensue.events.supervisors import Broken, Restarted

SECONDS = 10.0
QUICK = Supervision(backoff=Backoff(0.01, 1.0, 0.01, 0.0))


class Order(Event):
    n: int = 0


class Actor:
    """An actor's handle: notes what it is told, and answers once a test does."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.answers: dict[str, Future[Any]] = {}

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Any:
            self.told.append((method, *arguments))
            answer = self.answers[method] = Future()
            return SimpleNamespace(future=lambda: answer)

        return SimpleNamespace(remote=remote)


class Ray:
    """The part of Ray that supervisors use."""

    def __init__(self) -> None:
        self.killed: list[Any] = []
        self.util = self

    def kill(self, actor: Any, *, no_restart: bool) -> None:
        assert no_restart
        self.killed.append(actor)

    def list_named_actors(self, *, all_namespaces: bool) -> list[Any]:
        assert all_namespaces
        return []

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(current_actor=None)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    fake = Ray()
    for module in (branches, root, supervising, supervisor):
        monkeypatch.setattr(module, "ray_module", lambda: fake)
    return fake


@pytest.fixture
def running() -> Iterator[Callable[[Supervising], Any]]:
    """Ends the threads of the supervisors of a test."""
    known: list[Supervising] = []

    def run(made: Supervising) -> Any:
        known.append(made)
        return made

    yield run
    for made in known:
        made._over.set()
        made._mail.put(())  # nothing to do, but to see that it is over
    for thread in threading.enumerate():
        if thread.name == "ensue-supervisor":
            thread.join(SECONDS)


def charter(*steps: str) -> Charter:
    charters = [StepCharter(step, 1, QUICK, b"", Resources()) for step in steps]
    return Charter("flow", QUICK, charters, 1, {}, mark_of(os.getpid()), "here", Patience())


def reported(made: Any, enough: Callable[[list[Any]], bool]) -> list[Any]:
    """All that a supervisor reports, until it is enough."""
    items: list[Any] = []
    upto = 0
    while not enough(items):
        reports = made.reports(upto, SECONDS)
        assert reports.items or reports.standing is not None, items
        upto, items = reports.upto, [*items, *reports.items]
    return items


# -- the supervisor of a pipeline --------------------------------------------------------------------------------------


def test_a_worker_that_ray_refuses_to_start_is_a_start_that_failed_and_the_steps_after_it_have_theirs(
    ray: Ray, running: Callable[[Supervising], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: queue.SimpleQueue[str] = queue.SimpleQueue()

    def refuses(_: Resources) -> Any:
        def remote(_worker: int, code: bytes, _me: Any) -> Any:
            if code == b"refused":
                raise ValueError("Use the 'num_gpus' keyword")
            started.put(code.decode())
            return Actor()

        return SimpleNamespace(remote=remote)

    monkeypatch.setattr(supervisor, "worker_actor", refuses)
    told = charter("first", "second")
    told.steps[:] = [step._replace(code=code) for step, code in zip(told.steps, (b"refused", b"ok"), strict=True)]
    made = running(PipelineSupervisor(told))
    items = reported(made, lambda items: any(isinstance(item, Broken) for item in items))
    assert started.get(timeout=SECONDS) == "ok"
    gone = [item for item in items if isinstance(item, WorkerGone)]
    assert {(g.step, g.message, g.blamed, g.was_up) for g in gone} == {
        ("first", "Use the 'num_gpus' keyword", False, False)
    }
    assert {item.restarts for item in items if isinstance(item, Restarted)} == {0}
    assert ray.killed == []


# -- the root ----------------------------------------------------------------------------------------------------------


def a_root(patience: Patience) -> RootSupervisor:
    return RootSupervisor("store", mark_of(os.getpid()), patience, 1)


def test_a_supervisor_that_does_not_come_up_in_time_is_killed_and_another_is_started_uncounted(
    ray: Ray, running: Callable[[Supervising], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hung, second = Actor(), Actor()
    monkeypatch.setattr(root, "start_actor", Mock(return_value=second))
    made = running(a_root(Patience(start_seconds=0.05, ping_seconds=0.01)))
    made.tell("adopt", charter("step"), hung, None)
    items = reported(made, lambda items: any(isinstance(item, SupervisorUp) for item in items))
    gone, up = items[0], items[1]
    assert isinstance(gone, SupervisorGone)
    assert (gone.reason, gone.restarts) == ("its supervisor did not come up within 0.05 s", 0)
    assert up == SupervisorUp("flow", 2, second)
    assert ray.killed[0] is hung


def test_a_supervisor_whose_start_ray_refuses_is_started_again(
    ray: Ray, running: Callable[[Supervising], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "start_actor", Mock(side_effect=[ValueError("no such node"), Actor()]))
    first = Actor()
    made = running(a_root(Patience()))
    made.tell("adopt", charter("step"), first, None)
    made.tell("gone", ("flow", 1), RuntimeError("boom"), None)
    items = reported(made, lambda items: any(isinstance(item, SupervisorUp) for item in items))
    reasons = [item.reason for item in items if isinstance(item, SupervisorGone)]
    assert reasons == ["its supervisor ended: boom", "its supervisor did not start: no such node"]
    assert items[-1].incarnation == 3
    assert ray.killed == [first]


# -- the engine's end --------------------------------------------------------------------------------------------------


class Engine:
    """Branches of two pipelines in a time that the test turns."""

    def __init__(self, ray: Ray, monkeypatch: pytest.MonkeyPatch, *refused: str) -> None:
        self.now = 1000.0
        self.ray = ray
        self.refused = set(refused)
        self.actors: dict[str, Actor] = {}
        monkeypatch.setattr(branches, "start_actor", self._start_actor)
        monkeypatch.setattr(branches, "alive", Mock(return_value=True))
        monkeypatch.setattr(branches, "time", SimpleNamespace(monotonic=lambda: self.now))
        pipelines = [Pipeline("one"), Pipeline("two")]
        self.branches = Branches(pipelines, {}, ("store", 1), {}, Patience(start_seconds=60.0))
        monkeypatch.setattr(self.branches, "_clock", SimpleNamespace(now_us=lambda: int(self.now * 1e6)))
        self.branches.start(SimpleNamespace(node_id="here"), self._tell)  # type: ignore[arg-type]

    def _start_actor(self, _kind: Any, name: str, _node: str, *_: Any) -> Actor:
        title = name.split("-")[3]
        if title in self.refused:
            self.refused.discard(title)
            raise ValueError("no such node")
        return self.actors.setdefault(title, Actor())

    def _tell(self, what: str, key: Any, error: BaseException | None, value: Any) -> None:
        if what == "root":
            self.branches.heard_root(key, error, value)
        elif what == "branch" and error is None:
            self.branches.met_process(key, value)

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.branches.tend()

    def answer(self, *titles: str) -> None:
        """These go on, as ever."""
        for title in titles:
            self.actors[title].answers["reports"].set_result(Reports(0, [], None))
            branch = self.branches.branches.get(title)
            if branch is not None:
                self.branches.heard((title, branch.charter.incarnation), Reports(0, [], None))


def test_a_supervisor_that_never_says_its_process_is_killed_when_its_start_takes_too_long(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    for _ in range(6):
        engine.passes(10.0)
        engine.answer("two", "root")
    assert ray.killed == []
    engine.passes(16.0)
    assert ray.killed == [engine.actors["one"]]


def test_a_root_that_never_says_its_process_is_killed_when_its_start_takes_too_long_and_another_is_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    hung = engine.actors.pop("root")
    for _ in range(7):
        engine.passes(10.0)
        engine.answer("one", "two")
    assert ray.killed == []
    engine.passes(1.0)
    assert ray.killed == [hung]
    engine.passes(1.0)
    assert engine.actors["root"] is not hung
    assert engine.branches.root_node()["restarts"] == 1


def test_a_root_that_answers_no_more_is_killed_and_another_is_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    engine = Engine(ray, monkeypatch)
    engine.passes(3.0)
    engine.actors["root"].answers["pid"].set_result(process.pid)
    assert engine.branches.root_node()["status"] == "up"
    hung = engine.actors.pop("root")
    engine.passes(16.0)
    assert process.wait(SECONDS) == -signal.SIGKILL
    assert hung in ray.killed
    engine.passes(1.0)
    assert engine.actors["root"] is not hung


def test_a_pipeline_whose_supervisor_ray_refuses_to_start_keeps_nobody_else_from_theirs(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch, "one")
    engine.passes(3.0)
    assert engine.branches.branches["one"].missing == "its supervisor did not start: no such node"
    adopted = [message[2:4] for message in engine.actors["root"].told if message[:2] == ("tell", "adopt")]
    assert [(charter.pipeline, actor) for charter, actor in adopted] == [("one", None), ("two", engine.actors["two"])]


def test_a_root_that_ray_refuses_to_start_is_started_again(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch, "root")
    engine.passes(3.0)
    assert "root" not in engine.actors
    assert engine.branches.root_node()["reason"] == "no such node"
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
    crew = Crew(Mock(), supervisors, [Pipeline("flow")], post)
    crew._take_all(("flow", 1), reports)
    assert posted == ["good"]
    assert "Broken(step='first', message='bad')" in caplog.text
    assert crew.roster.given_up == {("flow", "second")}
