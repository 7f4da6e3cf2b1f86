"""The engine's end of the keeper, in a time that the test turns: failed starts, silence, and its successor."""

import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Pipeline
from ensue.actors.pool import keeper_client, liveness_clock
from ensue.actors.pool.keeper_client import KeeperClient
from ensue.actors.pool.restart_histories import RestartHistories
from ensue.actors.supervision.orders import (
    PARTITION_HISTORY,
    ROOT,
    ROOT_HISTORY,
    Adopt,
    Report,
    Reports,
    RestartPipeline,
    SupervisionTimeouts,
    SupervisorRestarts,
    WorkerOpened,
)
from ensue.events.model.codec import pack, unpack
from ensue.events.supervision.restart_history import ChildHistory, RestartHistory

from ...child_process import kill, spawn
from .stand_in_ray import SECONDS, Actor, Ray, a_worker, ray

__all__ = ["ray"]


NO_SUCH_PID = 2**22 + 1
"""Linux gives out none above 2**22, so nothing is killed."""


class Engine:
    """A keeper's client. `refused`: so many starts are refused by Ray."""

    def __init__(self, ray: Ray, monkeypatch: pytest.MonkeyPatch, refused: int = 0) -> None:
        self.now = 1000.0
        self.ray = ray
        self.refused = refused
        self.actors: list[Actor] = []
        self.names: list[str] = []
        self.workers = [a_worker("one/work", 0, 7, Actor(), is_up=True)]
        self.lost = 0
        self.reports: list[Report] = []
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(keeper_client, "start_keeper", self._start_keeper)
        monkeypatch.setattr(keeper_client, "alive", Mock(return_value=True))
        monkeypatch.setattr(keeper_client, "time", clock)
        monkeypatch.setattr(keeper_client, "is_gone", Mock(return_value=False))
        monkeypatch.setattr(liveness_clock, "time", clock)
        self.histories = RestartHistories()
        pipelines = [Pipeline("one"), Pipeline("two")]
        self.client = KeeperClient(pipelines, "ensue-0-2", self.histories, SupervisionTimeouts(start_seconds=60.0))
        monkeypatch.setattr(self.client, "_now_us", lambda: int(self.now * 1e6))
        session: Any = SimpleNamespace(node_id="here")
        self.client.start(session, self._soon, lambda: self.workers, self.reports.extend, self._lose)

    def _soon(self, work: Callable[..., None], *arguments: Any) -> None:
        work(*arguments)

    def _lose(self) -> None:
        self.lost += 1

    def _start_keeper(self, spec: Any, incarnation: int) -> Actor:
        if self.refused:
            self.refused -= 1
            raise ValueError("no such node")
        self.names.append(f"{spec.actor_prefix}.keeper.{incarnation}")
        self.actors.append(Actor())
        return self.actors[-1]

    @property
    def keeper(self) -> Actor:
        """The keeper that was started last."""
        return self.actors[-1]

    def passes(self, seconds: float, *, others_heard: bool = True) -> None:
        """So much time passes, in which workers are heard or nothing is."""
        for _ in range(round(seconds / 2)):
            self.now += 2.0
            if others_heard:
                self.client.clock.heard()
            self.client.check(settled=True)

    def comes_up(self, pid: int | None = None) -> Actor:
        """Start a keeper, which says its process."""
        self.client.check(settled=True)
        self.keeper.answers["pid"].set_result(pid or NO_SUCH_PID)
        return self.keeper

    def orders(self, actor: Actor) -> list[tuple[str, Any]]:
        """What a keeper was told: path and message."""
        return [call[1:] for call in actor.told if call[0] == "tell"]


@pytest.fixture
def sleeper() -> Any:
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    kill(process)


def test_the_keeper_is_started_once_the_workers_are_there_or_after_five_seconds(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    assert not engine.client.is_due(settled=False)
    engine.client.check(settled=False)
    assert engine.actors == []
    assert engine.client.is_due(settled=True)
    engine.now += 5.0
    assert engine.client.is_due(settled=False)
    engine.client.check(settled=False)
    assert engine.names == ["ensue-0-2.keeper.1"]


def test_a_keeper_is_told_of_everything_once_it_is_there_and_until_then_it_gets_no_orders(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.client.check(settled=True)
    assert not engine.client.order("one/work", WorkerOpened(7))
    engine.client.restart("one")
    assert engine.orders(engine.keeper) == []
    engine.comes_up()
    (path, adopt), restart = engine.orders(engine.keeper)
    assert (path, [spec.name for spec in adopt.pipelines], adopt.workers) == (
        ROOT,
        ["one", "two"],
        tuple(engine.workers),
    )
    assert restart == (ROOT, RestartPipeline("one"))
    assert engine.client.order("one/work", WorkerOpened(7))


def test_a_restart_that_a_keeper_did_not_confirm_is_told_to_the_next_one(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.comes_up()
    engine.client.restart("one")
    engine.client.restart("two")
    engine.client.confirm_restart("two")
    engine.keeper.answers["reports"].set_exception(RuntimeError("boom"))
    engine.passes(2.0)
    assert engine.orders(engine.comes_up())[1:] == [(ROOT, RestartPipeline("one"))]


def test_a_sweep_that_fails_at_the_start_does_not_keep_the_keeper_from_being_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Mock(side_effect=[RuntimeError("the control store does not answer"), []])
    monkeypatch.setattr(ray, "list_named_actors", answers)
    engine = Engine(ray, monkeypatch)
    engine.client.check(settled=True)
    assert engine.names == ["ensue-0-2.keeper.1"]


def test_a_keeper_that_is_on_its_way_is_told_too_that_the_engine_stops(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.client.check(settled=True)
    engine.client.stop_replacing()
    assert engine.keeper.told[-1] == ("stop_replacing",)


def test_a_keeper_that_never_says_its_process_is_killed_when_its_start_takes_too_long_and_another_is_started(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.client.check(settled=True)
    hung = engine.keeper
    engine.passes(70.0)
    assert ray.killed == []
    engine.passes(2.0)
    assert ray.killed == [hung]
    engine.passes(2.0)
    assert engine.names == ["ensue-0-2.keeper.1", "ensue-0-2.keeper.3"]
    assert engine.client.root_node()["restarts"] == 1


def test_a_keeper_that_answers_no_more_is_killed_and_the_next_one_gets_histories_and_workers(
    ray: Ray, monkeypatch: pytest.MonkeyPatch, sleeper: Any
) -> None:
    engine = Engine(ray, monkeypatch)
    hung = engine.comes_up(sleeper.pid)
    history = RestartHistory((1,), (ChildHistory("0", 1, 1),))
    engine.histories.change("one/work", history)
    engine.histories.change_root("two", history)
    assert engine.client.root_node()["status"] == "up"
    engine.passes(14.0)
    assert ray.killed == []
    engine.passes(2.0)
    assert sleeper.wait(SECONDS) == -signal.SIGKILL
    assert ray.killed == [hung]
    assert (engine.lost, engine.client.root_node()["status"]) == (1, "restarting")
    engine.passes(2.0)
    ((path, adopt),) = engine.orders(engine.comes_up())
    assert path == ROOT
    assert adopt == Adopt(adopt.pipelines, {"one/work": history}, {"two": history}, tuple(engine.workers))
    assert engine.client.root_node()["restarts"] == 1


def test_a_keeper_that_dies_is_replaced_without_limit(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch)
    for died in range(8):
        engine.comes_up()
        engine.keeper.answers["reports"].set_exception(RuntimeError("boom"))
        assert engine.lost == died + 1
        engine.passes(40.0)
    assert len(engine.actors) == 9


def test_what_a_keeper_said_that_was_replaced_is_not_heard(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch)
    dead = engine.comes_up()
    monkeypatch.setattr(keeper_client, "is_gone", Mock(return_value=True))
    engine.passes(4.0)
    monkeypatch.setattr(keeper_client, "is_gone", Mock(return_value=False))
    assert dead is not engine.keeper
    engine.comes_up()
    dead.answers["reports"].set_result(Reports(1, [SupervisorRestarts("one", "boom", 1.0)]))
    assert engine.reports == []
    engine.keeper.answers["reports"].set_result(Reports(1, [SupervisorRestarts("one", "boom", 1.0)]))
    assert engine.reports == [SupervisorRestarts("one", "boom", 1.0)]
    assert engine.keeper.told[-1] == ("reports", 1, 5.0)


def test_a_keeper_is_not_killed_for_a_silence_of_all_and_afterwards_it_has_its_time_again(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.comes_up()
    engine.passes(40.0, others_heard=False)
    assert ray.killed == [], "the machine was busy, or this process stood still"
    engine.passes(10.0)
    assert ray.killed == [], "answers that came in meanwhile are read one by one"
    engine.passes(2.0)
    assert ray.killed == [engine.keeper], "the others are heard and it is not"


def test_a_keeper_that_has_stopped_is_killed_although_nothing_else_is_heard(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ray, monkeypatch)
    engine.comes_up()
    engine.passes(80.0, others_heard=False)
    assert ray.killed == [engine.actors[0]]


def test_a_keeper_that_ray_refuses_to_start_is_started_again(ray: Ray, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(ray, monkeypatch, refused=1)
    engine.client.check(settled=True)
    assert engine.actors == []
    assert engine.client.root_node()["reason"] == "no such node"
    engine.passes(2.0)
    assert ("pid",) in engine.keeper.told


def test_a_start_ends_the_keepers_of_earlier_epochs_and_leaves_those_of_other_stores_alone(
    ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier, old, later, other, workers = (Actor() for _ in range(5))
    ray.named = {
        "ensue-0-1.keeper.1": earlier,
        "ensue-0-1.step.flow/work.1": old,
        "ensue-0-3.keeper.1": later,
        "ensue-1-1.keeper.1": other,
        "ensue-0-2.keeper.0": workers,
    }
    Engine(ray, monkeypatch)
    assert earlier.told == [("leave",)], "it ends the workers first"
    assert ray.killed == [old, workers]
    assert (later.told, other.told) == ([], [])


# -- histories ---------------------------------------------------------------------------------------------------------


def test_histories_are_stored_as_the_versions_before_stored_them() -> None:
    stored: dict[str, Any] = {
        "flow": [[5], [["work", 1, 2]], ""],
        "flow/work": [[1, 2], [["0", 2, 7]], "more than 5 restarts"],
        ROOT_HISTORY: {"flow": [[3], [["flow", 1, 1]], ""]},
        PARTITION_HISTORY: [[4], [["partition", 1, 1]], "more than 3 restarts"],
    }
    histories = RestartHistories(stored)
    assert histories.of("flow/work") == RestartHistory((1, 2), (ChildHistory("0", 2, 7),), "more than 5 restarts")
    assert {path: unpack(pack(history)) for path, history in histories.by_path.items()} == {
        path: stored[path] for path in ("flow", "flow/work")
    }
    assert unpack(pack(histories.root)) == stored[ROOT_HISTORY]
    assert unpack(pack(histories.partition)) == stored[PARTITION_HISTORY]
    histories.forgive()
    assert (histories.of("flow/work").gave_up, histories.of("flow/work").times_us) == ("", (1, 2))
