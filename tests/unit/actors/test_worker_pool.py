"""The worker pool: reports of the keeper, the loss of Ray, and the stop."""

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest

from ensue import Event, Pipeline
from ensue.actors.pool import worker_processes
from ensue.actors.pool.restart_histories import RestartHistories
from ensue.actors.pool.worker_pool import WorkerPool
from ensue.actors.pool.worker_table import WorkerEntry
from ensue.actors.supervision.orders import ROOT_HISTORY, PipelineReport, WorkerWanted
from ensue.cluster.processes import NO_PROCESS, handle_of
from ensue.events.model.codec import unpack
from ensue.events.supervision.restart_history import ChildHistory, RestartHistory
from ensue.events.supervision.tree import Broken

from ...child_process import kill, spawn
from .stand_in_ray import SECONDS, Actor


class Order(Event):
    pass


@pytest.fixture
def sleeper() -> Any:
    process = spawn([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    kill(process)


def a_pool(post: Callable[[Any], None], **keeper: Any) -> WorkerPool:
    client = Mock(histories=RestartHistories(), is_coming=False, **keeper)
    return WorkerPool(Mock(last_message_at={}), client, Mock(), [Pipeline("flow")], post)


def test_a_report_that_cannot_be_processed_loses_none_of_those_that_came_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    posted: list[Any] = []

    def post(entry: Any) -> None:
        if entry.message == "bad":
            raise RuntimeError("this one is always bad")
        posted.append(entry.message)

    pool = a_pool(post)
    pool._take_all(PipelineReport("flow", Broken(step, message)) for step, message in (("1st", "bad"), ("2nd", "good")))
    assert posted == ["good"]
    assert "Broken(step='1st', message='bad')" in caplog.text
    assert pool.table.given_up == {("flow", "2nd")}


def test_a_pool_that_was_fenced_off_starts_no_worker_that_its_keeper_still_wants() -> None:
    pool = a_pool(Mock())
    pool.abandon()
    pool._take_all([WorkerWanted("flow/work", 0, 1)])
    assert pool._processes._factory.make.call_count == 0  # type: ignore[attr-defined]


def test_a_pool_that_waits_for_a_lost_ray_has_another_thread_see_to_the_loss() -> None:
    held, begun = threading.Event(), threading.Event()

    def hangs(*_: Any) -> None:
        begun.set()
        held.wait(SECONDS)

    pool = a_pool(Mock(), **{"start.side_effect": hangs, "is_due.return_value": False})
    pool.start(Mock())
    stuck = pool._thread
    assert begun.wait(SECONDS)
    assert pool.lose(SECONDS)
    assert pool.keeper.forget.called  # type: ignore[attr-defined]
    held.set()
    assert stuck is not None
    stuck.join(SECONDS)
    assert not stuck.is_alive()
    pool.stop(0.0)


def test_a_partition_that_recovered_is_told_the_histories_again() -> None:
    posted: list[Any] = []
    pool = a_pool(posted.append)
    history = RestartHistory((1,), (ChildHistory("0", 1, 1),))
    pool.keeper.histories.change("flow/work", history)
    pool.keeper.histories.change_root("flow", history)
    pool.start(Mock())
    pool.introduce_all()
    pool.stop(0.0)
    assert [(each.name, unpack(each.body)) for each in posted] == [
        ("flow/work", [[1], [["0", 1, 1]], ""]),
        (ROOT_HISTORY, {"flow": [[1], [["0", 1, 1]], ""]}),
    ]


def test_all_workers_are_killed_at_the_stop_if_ray_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, sleeper: Any
) -> None:
    pool = a_pool(Mock(), **{"end.side_effect": RuntimeError("Ray is gone"), "is_due.return_value": False})
    pool._processes.begin(Mock())
    monkeypatch.setattr(worker_processes, "ray_module", Mock(side_effect=RuntimeError("Ray is gone")))
    for number, process in enumerate((NO_PROCESS, handle_of(sleeper.pid))):
        pool.table.add(WorkerEntry(number, "flow", "work", number, Actor(), process))
    pool._try(pool._kill_all)
    assert sleeper.wait(SECONDS) == -signal.SIGKILL


def test_a_pool_that_is_stopped_ends_the_wait_for_its_workers() -> None:
    flow = Pipeline("flow")

    @flow.step
    def work(order: Order) -> None:
        return None

    client = Mock(histories=RestartHistories(), is_coming=False, **{"is_due.return_value": False})
    pool = WorkerPool(Mock(last_message_at={}), client, Mock(), [flow], Mock())
    begun = threading.Event()

    def waits() -> None:
        begun.set()
        pool.wait_ready(60.0)

    waiting = threading.Thread(target=waits)
    waiting.start()
    assert begun.wait(SECONDS)
    pool.stop(0.0)
    waiting.join(SECONDS)
    assert not waiting.is_alive()
