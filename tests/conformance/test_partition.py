"""A partition by itself, with nobody but a desk to talk to, recovers the order of keys and leases nothing while it drains."""

from typing import Any

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition import Partition
from ensue.actors.recovery import recover
from ensue.actors.wire import Tag, unpack_message
from ensue.cluster.memory_log import MemoryLog, MemoryStore
from ensue.events.codec import pack
from ensue.events.commands import Answer, RunEnded
from ensue.events.ids import uuid7
from ensue.events.inputs import Completed, Emit, Op, WorkerUp
from ensue.events.plan import compile_plan

pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Move(Event, key="account"):
    account: str
    n: int


class Desk:
    """Stands in for workers and callers of a partition: keeps what is sent, and says what it is told to."""

    def __init__(self) -> None:
        self.sent: dict[int, list[list[Any]]] = {}

    def send(self, worker: int, message: bytes) -> None:
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self.sent.setdefault(worker, []).extend(body)

    def receive(self) -> list[tuple[int, bytes]]:
        return []

    def end(self, worker: int, reason: str) -> None:
        raise AssertionError

    def wait(self, timeout_seconds: float | None) -> None:
        raise AssertionError

    def wake(self) -> None:
        """Nobody sleeps here."""

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        """Nobody waits here."""

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """Nobody asks here."""


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


def test_a_draining_engine_leases_nothing_more() -> None:
    flow = Pipeline("drains")

    @flow.step
    def work(event: Order) -> None:
        return None

    plans = {"drains": compile_plan(flow, "1")}
    log, desk = MemoryLog(MemoryStore()), Desk()
    core = recover(log, log.acquire("test"), plans).core
    partition = Partition(core, log, 1, links=desk, watcher=desk, clock=ManualClock())
    partition.post_all(
        [
            WorkerUp(0, "drains", "work", 9),
            Emit("drains", uuid7(1, bytes(10)), uuid7(2, bytes(10)), "Order", 1, pack({"n": 0})),
        ]
    )
    partition.turn()
    core.draining = True
    partition.post(Completed(0, [[Op.RELEASE, desk.sent[0][0][0]]]))
    partition.turn()
    assert (len(desk.sent[0]), core.backlog) == (1, 1)
