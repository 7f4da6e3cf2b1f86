"""A partition by itself, with nobody but a desk to talk to, recovers the order of keys."""

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition import Partition
from ensue.actors.recovery import recover
from ensue.cluster.memory_log import MemoryLog, MemoryStore
from ensue.events.codec import pack
from ensue.events.ids import uuid7
from ensue.events.inputs import Completed, Emit, Op, WorkerUp
from ensue.events.plan import compile_plan

from .desk import Desk

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Move(Event, key="account"):
    account: str
    n: int


def test_two_of_one_key_whose_records_changed_places_in_their_commit_still_go_one_at_a_time() -> None:
    flow = Pipeline("places")

    @flow.step
    def left(event: Order) -> Item:
        return Item(n=event.n)

    @flow.step
    def right(event: Order) -> Move:
        return Move(account="a", n=event.n)

    @flow.step
    def apply(event: Move) -> None:
        return None

    plans = {"places": compile_plan(flow, "1")}
    store, desk, clock = MemoryStore(), Desk(), ManualClock()

    def own() -> Partition:
        log = MemoryLog(store)
        epoch = log.acquire("test")
        core = recover(log, epoch, plans).core
        partition = Partition(core, log, epoch, links=desk, watcher=desk, clock=clock)
        partition.resume()
        return partition

    first = own()
    first.post_all([WorkerUp(n, "places", step, 9) for n, step in enumerate(("left", "right", "apply"))])
    ids = [uuid7(n, bytes(10)) for n in range(4)]
    first.post_all([Emit("places", ids[n], ids[n + 2], "Order", 1, pack({"n": n})) for n in range(2)])
    first.turn()
    (a_left, _), (a_right, b_right) = desk.sent[0], desk.sent[1]
    move = [["Move", 1, pack({"account": "a", "n": 0}), "a"]]
    first.post_all(
        [
            Completed(0, [[Op.DONE, a_left[0], 1, [["Item", 1, pack({"n": 0}), None]], False]]),
            Completed(1, [[Op.DONE, token[0], 1, move, False] for token in (b_right, a_right)]),
        ]
    )
    first.turn()
    assert [item[1] for item in desk.sent[2]] == [ids[1]]
    second = own()
    second.post(WorkerUp(7, "places", "apply", 9))
    second.turn()
    assert len(desk.sent[7]) == 1
    second.post(Completed(7, [[Op.DONE, desk.sent[7][0][0], 1, [], False]]))
    second.turn()
    assert len(desk.sent[7]) == 2
