"""A partition by itself: the order of keys, messages of workers, and old ids of senders."""

from typing import Any

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.actors.transport.messages import Tag
from ensue.cluster.log.memory.log import MemoryLog, MemoryStore
from ensue.cluster.log.protocol import Batch, Log, Seen
from ensue.events.decide.inputs import Completed, CompletionKind, Emit, WorkerUp
from ensue.events.errors import LogUnavailable
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.pipelines.plan import compile_plan

from ..desk import Desk

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

    plans = {"places": compile_plan(flow.declaration, "1")}
    store, desk, clock = MemoryStore(), Desk(), ManualClock()

    def own() -> Partition:
        log = MemoryLog(store)
        epoch = log.acquire("test")
        decider = recover(log, epoch, plans).decider
        partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=clock)
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
            Completed(0, [[CompletionKind.DONE, a_left[0], 1, [["Item", 1, pack({"n": 0}), None]], False]]),
            Completed(1, [[CompletionKind.DONE, token[0], 1, move, False] for token in (b_right, a_right)]),
        ]
    )
    first.turn()
    assert [item[1] for item in desk.sent[2]] == [ids[1]]
    second = own()
    second.post(WorkerUp(7, "places", "apply", 9))
    second.turn()
    assert len(desk.sent[7]) == 1
    second.post(Completed(7, [[CompletionKind.DONE, desk.sent[7][0][0], 1, [], False]]))
    second.turn()
    assert len(desk.sent[7]) == 2


class FailingDesk(Desk):
    """A desk with messages of workers, which fails at every message."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_by_workers: list[tuple[int, bytes]] = []
        self.messages = 0

    def receive(self) -> list[tuple[int, bytes]]:
        messages, self.sent_by_workers = self.sent_by_workers, []
        return messages

    def on_message(self, worker: int, tag: int, body: Any) -> None:
        self.messages += 1
        raise ValueError("no such record")


def owned(log: Log, desk: Desk, clock: ManualClock, *pipelines: Pipeline) -> Partition:
    plans = {pipeline.name: compile_plan(pipeline.declaration, "1") for pipeline in pipelines}
    epoch = log.acquire("test")
    return Partition(recover(log, epoch, plans).decider, log, epoch, links=desk, watcher=desk, clock=clock)


def test_a_message_of_a_worker_that_cannot_be_handled_fails_no_turn(caplog: pytest.LogCaptureFixture) -> None:
    flow = Pipeline("messages")

    @flow.step
    def work(event: Order) -> None:
        return None

    log, desk = MemoryLog(), FailingDesk()
    partition = owned(log, desk, ManualClock(), flow)
    desk.sent_by_workers = [(1, pack([int(Tag.ASK), "no question"])), (1, pack([int(Tag.LOG), None]))]
    partition.post(Emit("messages", uuid7(1, bytes(10)), uuid7(2, bytes(10)), "Order", 1, pack({"n": 1})))
    assert partition.turn()
    assert (desk.messages, len(partition._decider.state.runs)) == (2, 1)
    assert "no such record" in caplog.text


def sender(number: int, time_us: int) -> Seen:
    return Seen("hook", f"d-{number}", b"digest", bytes(16), bytes(16), time_us)


def remembered(log: Log, count: int) -> int:
    """How many of the ids of the first so many senders are remembered."""
    return len(log.lookup([("hook", f"d-{number}") for number in range(count)]))


WEEK_SECONDS = 7 * 86_400


def test_a_partition_forgets_each_hour_the_senders_ids_that_are_older_than_a_week() -> None:
    log, clock = MemoryLog(), ManualClock()
    partition = owned(log, Desk(), clock)
    start_us = clock.now_us()
    log.commit(Batch(partition.epoch, seen=[sender(n, start_us + n * 3_000_000_000) for n in range(3)]))
    clock.advance(WEEK_SECONDS + 1)
    partition.turn()
    assert remembered(log, 3) == 2
    clock.advance(3_590)
    partition.turn()
    assert remembered(log, 3) == 2
    clock.advance(10)
    partition.turn()
    assert remembered(log, 3) == 1


def test_many_ids_are_forgotten_a_few_at_a_time_and_nobody_waits_an_hour_for_the_next() -> None:
    log, clock, desk = MemoryLog(), ManualClock(), Waiting()
    partition = owned(log, desk, clock)
    log.commit(Batch(partition.epoch, seen=[sender(n, 0) for n in range(1_200)]))
    left: list[int] = []
    for _ in range(4):
        partition.sleep()
        clock.advance(desk.seconds)
        partition.turn()
        left.append(remembered(log, 1_200))
    assert left == [700, 200, 0, 0]
    assert desk.waits == pytest.approx([0.0, 0.1, 0.1, 3_600.0])
    assert partition.due_us is None


class Waiting(Desk):
    """A desk that notes how long the partition would sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    @property
    def seconds(self) -> float:
        return self.waits[-1]

    def wait(self, timeout_seconds: float | None) -> None:
        assert timeout_seconds is not None
        self.waits.append(timeout_seconds)


class Stubborn(MemoryLog):
    """A log that forgets nothing."""

    def forget(self, before_us: int, most: int) -> int:
        raise LogUnavailable("the disk is full")


def test_a_log_that_cannot_forget_now_fails_no_turn_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    clock, desk = ManualClock(), Waiting()
    partition = owned(Stubborn(), desk, clock)
    partition.turn()
    assert "the disk is full" in caplog.text
    partition.sleep()
    assert desk.seconds == 3_600.0
