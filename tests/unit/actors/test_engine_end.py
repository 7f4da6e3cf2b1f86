"""An engine that ends its partition leaves the log in order, and closes nothing that a running thread still uses."""

import asyncio
import threading

import pytest

from ensue import Engine, Event, Pipeline
from ensue.actors.partition import loop as partition_module
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.runner import PartitionRunner
from ensue.events.decide.inputs import Emit
from ensue.events.errors import EnsueError
from ensue.events.ids import uuid7

from ...conformance.desk import Desk

SECONDS = 10.0


class Order(Event):
    n: int = 0


class HungThread:
    """Stands in for the thread of a partition that does not end."""

    def stop(self, timeout_seconds: float, wake: object) -> bool:
        return False


class BusyPool:
    """Stands in for a pool whose workers do not end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def end_all(self, reason: str) -> None:
        self.told.append(reason)

    def wait_ended(self, timeout_seconds: float) -> bool:
        return False


def opened(monkeypatch: pytest.MonkeyPatch, *, ends: bool = True) -> tuple[Engine, PartitionRunner]:
    """An engine that owns its log and has a partition with a live run, but neither Ray nor workers."""
    flow = Pipeline("ends")

    @flow.step
    def work(event: Order) -> None:
        return None

    engine = Engine(flow, store="memory://")
    monkeypatch.setattr(engine, "_links", Desk(), raising=False)
    engine._open()
    engine._log.take_over("test", lambda log: engine._served.define_in(log, 0))
    runner = engine._runner = engine._make_runner()
    if not ends:
        monkeypatch.setattr(runner, "_thread", HungThread())
    runner.partition.post(Emit("ends", uuid7(1, bytes(10)), uuid7(1, bytes([1] * 10)), "Order", 1, b"\x80"))
    runner.partition.turn()
    return engine, runner


def test_a_partition_that_ends_in_order_leaves_a_snapshot_and_gives_the_log_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, _ = opened(monkeypatch)
    engine._end_partition()
    assert len(list(engine._log.log.snapshots())) == 1
    assert engine._log.log.owner() == (1, "")


@pytest.mark.parametrize("error", [RecursionError("too deep"), EnsueError("no")])
def test_a_snapshot_that_fails_does_not_keep_the_log_from_being_given_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    engine, _ = opened(monkeypatch)

    def fail(state: object) -> bytes:
        raise error

    monkeypatch.setattr(partition_module, "dump", fail)
    engine._end_partition()
    assert engine._log.log.owner() == (1, "")
    assert str(error) in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_the_log_is_closed_unless_the_thread_of_the_partition_still_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, ends: bool
) -> None:
    engine, _ = opened(monkeypatch, ends=ends)
    log = engine._log.log
    engine._exits.callback(engine._end_partition)
    engine._shut(0.0)
    if ends:
        with pytest.raises(EnsueError, match="closed"):
            log.next_offset()
    else:
        assert log.owner() == (1, "test")
        assert "did not end" in caplog.text


def test_no_partition_restarts_beside_workers_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, runner = opened(monkeypatch)
    pool = BusyPool()
    monkeypatch.setattr(engine, "_pool", pool, raising=False)
    before: Partition = runner.partition
    with pytest.raises(EnsueError, match="have not ended"):
        runner.restart(engine._void_workers)
    assert pool.told == ["the partition restarts from the log"]
    assert runner.partition is before


async def test_a_start_that_is_cancelled_closes_also_what_its_thread_opens_after_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flow = Pipeline("ends")

    @flow.step
    def work(event: Order) -> None:
        return None

    engine = Engine(flow, store="memory://")
    begun, held = threading.Event(), threading.Event()
    closed: list[str] = []

    def connect() -> None:
        begun.set()
        held.wait(SECONDS)
        engine._exits.callback(closed.append, "Ray")

    monkeypatch.setattr(engine, "_connect", connect)
    starting = asyncio.ensure_future(engine.start())
    assert await asyncio.to_thread(begun.wait, SECONDS)
    starting.cancel()
    done, _ = await asyncio.wait({starting}, timeout=0.2)
    held.set()
    assert not done
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert closed == ["Ray"]
    assert engine.state() == "stopped"
