"""A partition saves no snapshot of a state that the log does not lead to, however a turn ended."""

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition import loop as partition_module
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.cluster.log.memory.log import MemoryLog, MemoryStore
from ensue.cluster.log.protocol import Batch, Log, Snapshot
from ensue.events.decide.inputs import Emit, WorkerUp
from ensue.events.errors import LogUnavailable
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.pipelines.plan import compile_plan

from ..desk import Desk

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class FullLog(MemoryLog):
    """A log whose commits fail once its disk is full."""

    is_full = False

    def commit(self, batch: Batch) -> None:
        if self.is_full:
            raise LogUnavailable("the disk is full")
        super().commit(batch)


flow = Pipeline("sound")


@flow.step
def work(event: Order) -> None:
    return None


def emit(number: int) -> Emit:
    return Emit("sound", uuid7(number, bytes(10)), uuid7(number, bytes([1] * 10)), "Order", 1, pack({"n": number}))


def own(log: Log, desk: Desk) -> Partition:
    epoch = log.acquire("test")
    decider = recover(log, epoch, {"sound": compile_plan(flow.declaration, "1")}).decider
    partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=ManualClock())
    partition.resume()
    return partition


@pytest.mark.parametrize("why", ["its commit failed", "its decision failed"])
def test_after_a_turn_that_failed_no_snapshot_is_kept_and_the_next_owner_has_what_is_in_the_log(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, desk = MemoryStore(), Desk()
    log = FullLog(store)
    partition = own(log, desk)
    partition.post_all([WorkerUp(1, "sound", "work", 9), emit(1)])
    partition.turn()
    log.is_full = why == "its commit failed"
    if not log.is_full:
        monkeypatch.setattr(partition._decider, "_dispatch", [].pop)  # raises IndexError after the inputs were taken
    partition.post(emit(2))
    with pytest.raises((LogUnavailable, IndexError)):
        partition.turn()
    partition.save_snapshot()
    assert list(log.snapshots()) == []
    second = own(MemoryLog(store), desk)
    assert list(second._decider.state.runs) == [uuid7(1, bytes(10))]


def test_a_snapshot_that_fails_fails_no_turn(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    log, desk = MemoryLog(MemoryStore()), Desk()
    partition = own(log, desk)

    def fail(snapshot: Snapshot) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(log, "save_snapshot", fail)
    monkeypatch.setattr(partition_module, "_SNAPSHOT_RECORDS", 0)
    partition.post(emit(1))
    assert partition.turn()
    assert "too deep" in caplog.text


def test_after_a_turn_that_was_committed_a_snapshot_is_kept() -> None:
    log, desk = MemoryLog(MemoryStore()), Desk()
    partition = own(log, desk)
    partition.post(emit(1))
    partition.turn()
    partition.save_snapshot()
    assert [snapshot.offset for snapshot in log.snapshots()] == [log.next_offset()]
