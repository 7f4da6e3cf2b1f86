"""How an engine ends its partition: it leaves the log in order, and takes nothing away from a thread that still runs."""

import pytest

from ensue import Engine, Event, Pipeline
from ensue.actors.partition import loop as partition_module
from ensue.actors.partition.loop import Partition
from ensue.events.decide.inputs import Emit
from ensue.events.errors import EnsueError
from ensue.events.ids import uuid7

from ...conformance.desk import Desk


class Order(Event):
    n: int = 0


class Turning:
    """Stands in for the thread of a partition."""

    def __init__(self, *, ends: bool) -> None:
        self._ends = ends

    def end(self, timeout_seconds: float, wake: object) -> bool:
        return self._ends


class Crew:
    """Stands in for a crew whose workers do not end."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def end_all(self, reason: str) -> None:
        self.told.append(reason)

    def wait_ended(self, timeout_seconds: float) -> bool:
        return False


def opened(monkeypatch: pytest.MonkeyPatch, *, ends: bool = True) -> Engine:
    """An engine that owns its log and has a partition with a live run, but neither Ray nor workers."""
    flow = Pipeline("ends")

    @flow.step
    def work(event: Order) -> None:
        return None

    engine = Engine(flow, store="memory://")
    monkeypatch.setattr(engine, "_links", Desk(), raising=False)
    monkeypatch.setattr(engine, "_turning", Turning(ends=ends), raising=False)
    engine._open()
    engine._epoch = engine._take_over(engine._log, "test")
    engine._partition, _ = engine._recover()
    engine._partition.post(Emit("ends", uuid7(1, bytes(10)), uuid7(1, bytes([1] * 10)), "Order", 1, b"\x80"))
    engine._partition.turn()
    return engine


def test_a_partition_that_ends_in_order_leaves_a_snapshot_and_gives_the_log_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = opened(monkeypatch)
    engine._end_partition()
    assert len(list(engine._log.snapshots())) == 1
    assert engine._log.owner() == (1, "")


@pytest.mark.parametrize("error", [RecursionError("too deep"), EnsueError("no")])
def test_a_snapshot_that_fails_does_not_keep_the_log_from_being_given_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    engine = opened(monkeypatch)

    def fail(state: object) -> bytes:
        raise error

    monkeypatch.setattr(partition_module, "dump", fail)
    engine._end_partition()
    assert engine._log.owner() == (1, "")
    assert str(error) in caplog.text


@pytest.mark.parametrize("ends", [True, False])
def test_the_log_is_closed_unless_the_partition_s_thread_is_still_at_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, ends: bool
) -> None:
    engine = opened(monkeypatch, ends=ends)
    log = engine._log
    engine._exits.callback(engine._end_partition)
    engine._shut(0.0)
    if ends:
        with pytest.raises(EnsueError, match="closed"):
            log.next_offset()
    else:
        assert log.owner() == (1, "test")
        assert "did not end" in caplog.text


def test_no_partition_begins_again_beside_workers_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, crew = opened(monkeypatch), Crew()
    monkeypatch.setattr(engine, "_crew", crew, raising=False)
    before: Partition = engine._partition
    with pytest.raises(EnsueError, match="have not ended"):
        engine._begin_again()
    assert crew.told == ["the partition begins again from the log"]
    assert engine._partition is before
