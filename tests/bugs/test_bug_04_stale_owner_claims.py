"""Bug 4: an owner that drains, or that another has replaced, claims work again.

Seen: DBOS 804, 742: an executor that was told to stop went on taking from its queues, and one that had been given up
for dead came back and took what its successor was working on.

Mutant: `if self.draining: return` dropped from `Decider._dispatch` (events/decide/core.py); tried 2026-11-21: red.
Mutant: `_check_epoch` compares nothing (cluster/log/sqlite/log.py); tried 2026-11-21: red.
Mutant: `_carry_out` (actors/partition/loop.py) sends its deliveries before it commits; tried 2026-11-21: red.
Mutant: `WHERE epoch = ?` of `SqliteLog.release` is `WHERE epoch <> ?`; tried 2026-11-21: red.
"""

from contextlib import closing
from pathlib import Path

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.cluster.log.protocol import Log, Snapshot
from ensue.events.decide.inputs import Completed, CompletionKind, Emit, WorkerUp
from ensue.events.errors import Overloaded, StaleEpoch
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.pipelines.plan import compile_plan

from ..conformance.desk import Desk
from ..conformance.logs import Store, observed

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int = 0


flow = Pipeline("owned")


@flow.step
def work(event: Order) -> Item:
    return Item(n=event.n)


@flow.step
def ship(event: Item) -> None:
    return None


def order(number: int) -> Emit:
    return Emit("owned", uuid7(number, bytes(10)), uuid7(number, b"1" * 10), "Order", 1, pack({"n": number}))


def owner(log: Log, desk: Desk, name: str = "owner") -> Partition:
    """The engine that takes over the log, with one worker for each step."""
    epoch = log.acquire(name)
    decider = recover(log, epoch, {"owned": compile_plan(flow.declaration, "1")}).decider
    partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=ManualClock())
    partition.resume()
    partition.post_all([WorkerUp(0, "owned", "work", 9), WorkerUp(1, "owned", "ship", 9)])
    partition.turn()
    return partition


def done(token: int) -> Completed:
    return Completed(0, [[CompletionKind.DONE, token, 1, [["Item", 1, pack({"n": 0}), None]], False]])


def test_an_owner_that_drains_leases_nothing_more_and_leaves_it_to_the_next(store: Store) -> None:
    desk = Desk()
    with closing(store.open()) as log:
        old = owner(log, desk)
        old.post_all([order(1), order(2)])
        old.turn()
        finished, returned = (item[0] for item in desk.sent[0])
        old.drain()
        emitted = order(3)
        emitted.reply = "caller"
        old.post_all(
            [
                done(finished),
                Completed(0, [[CompletionKind.RELEASE, returned]]),
                emitted,
                WorkerUp(2, "owned", "ship", 9),
            ]
        )
        old.turn()
        assert {worker: len(items) for worker, items in desk.sent.items()} == {0: 2}
        assert old._decider.backlog == 2
        assert [type(answer.value) for answer in desk.answers] == [Overloaded]
        log.release(old.epoch)
        after = Desk()
        owner(log, after)
        assert {worker: len(items) for worker, items in after.sent.items()} == {0: 1, 1: 1}


def claims(desk: Desk) -> dict[str, Emit | Completed | WorkerUp]:
    """What may wake an owner up that does not know yet that it was replaced."""
    token = desk.sent[0][0][0]
    return {
        "a new event": order(9),
        "a result": done(token),
        "a delivery handed back": Completed(0, [[CompletionKind.RELEASE, token]]),
        "a worker": WorkerUp(5, "owned", "work", 9),
    }


@pytest.mark.parametrize("claim", ["a new event", "a result", "a delivery handed back", "a worker"])
def test_an_owner_that_was_replaced_commits_nothing_and_sends_nothing_whatever_it_hears(
    store: Store, claim: str
) -> None:
    old_desk, new_desk = Desk(), Desk()
    with closing(store.open()) as old_log, closing(store.open()) as new_log:
        old = owner(old_log, old_desk, "old")
        old.post_all([order(1)])
        old.turn()
        old._decider.workers[0][0].window = 0  # the others wait until another worker comes
        old.post_all([order(2)])
        old.turn()
        heard = claims(old_desk)[claim]
        new = owner(new_log, new_desk, "new")
        before, sent = observed(new_log), str(old_desk.sent)
        answered = len(old_desk.answers)
        old.post(heard)
        with pytest.raises(StaleEpoch, match="it must stop"):
            old.turn()
        assert (observed(new_log), str(old_desk.sent), len(old_desk.answers)) == (before, sent, answered)
        assert len(new_desk.sent[0]) == 2
        new.post(done(new_desk.sent[0][0][0]))
        new.turn()
        assert len(new_desk.sent[1]) == 1


def test_an_owner_that_was_replaced_can_neither_leave_for_its_successor_nor_keep_a_snapshot(
    store: Store, tmp_path: Path
) -> None:
    with closing(store.open()) as old, closing(store.open()) as new:
        stale = old.acquire("old")
        epoch = new.acquire("new")
        old.release(stale)
        assert new.owner() == (epoch, "new")
        with pytest.raises(StaleEpoch):
            old.save_snapshot(Snapshot(1, b"old"))
        assert list(new.snapshots()) == []
