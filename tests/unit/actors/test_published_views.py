"""Only the thread that turns the loop touches the decider: what others see of a partition is published to them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ensue import Event, Pipeline
from ensue.actors.local import ManualClock
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.cluster.log.memory.log import MemoryLog
from ensue.events.decide.commands import Answer, RunEnded
from ensue.events.decide.inputs import Emit, Force
from ensue.events.errors import Overloaded
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.pipelines.plan import compile_plan

from ...conformance.desk import Desk

ACTORS = Path(__file__).resolve().parents[3] / "actors"
OWNERS = ("partition/loop.py", "partition/published_views.py", "partition/recovery.py")
"""The loop, what it publishes with, and what makes the decider before there is a loop."""


class Order(Event):
    n: int = 0


class WaitingDesk(Desk):
    """A desk that notes for how long the loop would sleep, and what was published when callers were answered."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self.partition: Partition | None = None
        self.seen: list[str] = []

    def wait(self, timeout_seconds: float | None) -> None:
        self.waits.append(timeout_seconds)

    def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
        super().settle(answers, ended)
        assert self.partition is not None
        self.seen += [view.status for view in self.partition.breakers(0)]


def partition_of(clock: ManualClock) -> tuple[Partition, WaitingDesk]:
    flow = Pipeline("views")

    @flow.step
    def work(event: Order) -> None:
        return None

    log, desk = MemoryLog(), WaitingDesk()
    epoch = log.acquire("test")
    decider = recover(log, epoch, {"views": compile_plan(flow.declaration, "1")}).decider
    desk.partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=clock)
    return desk.partition, desk


def order(number: int) -> Emit:
    return Emit("views", uuid7(number, bytes(10)), uuid7(number, bytes([1] * 10)), "Order", 1, pack({"n": number}))


def waiting(partition: Partition, clock: ManualClock) -> int:
    [view] = partition.breakers(clock.now_us())
    return view.waiting


def test_a_busy_loop_publishes_now_and_then_and_what_was_published_never_changes() -> None:
    clock = ManualClock()
    partition, _ = partition_of(clock)
    before = partition._views.breakers
    for number in range(3):
        partition.post(order(number))
        partition.turn()
    assert partition._views.breakers is before
    clock.advance(0.05)
    partition.post(order(3))
    partition.turn()
    assert waiting(partition, clock) == 3
    assert [snapshot.view(clock.now_us()).waiting for snapshot in before] == [0]


def test_a_loop_that_goes_to_sleep_wakes_once_more_to_publish_its_last_change() -> None:
    clock = ManualClock()
    partition, desk = partition_of(clock)
    partition.turn()
    partition.sleep()
    partition.post(order(1))
    partition.turn()
    partition.sleep()
    assert waiting(partition, clock) == 0
    clock.advance(0.05)
    assert not partition.turn()
    partition.sleep()
    assert waiting(partition, clock) == 1
    quiet, after_change, published = (seconds for seconds in desk.waits if seconds is not None)
    assert after_change <= 0.05 < min(quiet, published)


def test_a_breaker_that_an_operator_forces_is_published_before_the_operator_is_answered() -> None:
    clock = ManualClock()
    partition, desk = partition_of(clock)
    partition.post(Force("views/work", True, "ann", None, object()))
    partition.turn()
    assert desk.seen == ["open"]


def test_a_partition_that_was_told_to_drain_refuses_what_comes_from_its_next_turn_on() -> None:
    clock = ManualClock()
    partition, desk = partition_of(clock)
    late = order(1)
    late.reply = "caller"
    partition.drain()
    partition.post(late)
    partition.turn()
    assert [type(answer.value) for answer in desk.answers] == [Overloaded]
    assert partition.live_runs == 0


def test_no_file_but_those_of_the_loop_reaches_for_the_decider_of_a_partition() -> None:
    found = [where for path in sorted(ACTORS.rglob("*.py")) for where in _reaches(path)]
    assert found == []


def _reaches(path: Path) -> Iterator[str]:
    """Each attribute of a partition by which the state of its decider could be read or changed."""
    name = path.relative_to(ACTORS).as_posix()
    if name in OWNERS:
        return
    for node in ast.walk(ast.parse(path.read_text(), filename=str(path))):
        if isinstance(node, ast.Attribute) and node.attr in ("decider", "_decider") and not _is_recovery(node.value):
            yield f"{name}:{node.lineno}: {ast.unparse(node)}"


def _is_recovery(value: Any) -> bool:
    """Whether the decider is one that no loop turns yet."""
    return ast.unparse(value).split("(")[0] in ("recover", "recovered")
