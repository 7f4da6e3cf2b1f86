"""Bug 1: an acknowledgement before the fsync. What was accepted is there after a power cut.

Seen: Jepsen on NATS 2.12.1, whose JetStream acknowledged messages that only the page cache had.

Mutant: `_SYNCHRONOUS = {"full": "OFF", ...}` in cluster/log/sqlite/log.py; tried 2026-11-21: red.
Mutant: `_SYNCHRONOUS = {"full": "NORMAL", ...}` in cluster/log/sqlite/log.py; tried 2026-11-21: red.
Mutant: `_carry_out` in actors/partition/loop.py settles the answers before it commits; tried 2026-11-21: red.
"""

from contextlib import closing, suppress
from pathlib import Path

import pytest

from ensue import Event, Pipeline
from ensue.actors.local import LocalEngine, ManualClock
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.cluster.log.open import open_log
from ensue.events.decide.commands import Answer, RunEnded
from ensue.events.decide.inputs import Accepted, Emit
from ensue.events.errors import EnsueError
from ensue.events.ids import uuid7
from ensue.events.model.codec import pack
from ensue.events.pipelines.plan import compile_plan

from ..conformance.desk import Desk
from ..faults.power import disk_on

pytestmark = pytest.mark.timeout(120)
CUTS = 25
_MOST_CALLS = 200


class Order(Event):
    n: int


class Item(Event):
    n: int


flow = Pipeline("acknowledged")


@flow.step
def work(event: Order) -> Item:
    return Item(n=event.n)


def engine_in(folder: Path) -> LocalEngine:
    return LocalEngine(flow, store=f"sqlite:///{folder / 'ensue.db'}")


async def send(engine: LocalEngine, n: int) -> Accepted:
    return await engine.accept("acknowledged", Order(n=n), source="shop", sender_id=str(n), digest=b"%d" % n)


async def accept_until_the_power_is_cut(before: Path, after: Path, seed: int) -> list[Accepted]:
    """What an engine acknowledged in its only life; what its disk still holds is in `after`."""
    disk, unplug = disk_on(f"acknowledged-{seed}", seed)
    acknowledged: list[Accepted] = []
    engine = engine_in(before)
    try:
        await engine.start()
        left = disk.random.randrange(1, _MOST_CALLS)

        def cut_in_time(_call: str, _name: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                disk.cut()

        disk.before = cut_in_time
        while not disk.is_off:
            with suppress(EnsueError):
                acknowledged.append(await send(engine, len(acknowledged)))
    finally:
        with suppress(EnsueError, OSError):
            engine.crash()
        unplug()
    disk.left_in(after)
    return acknowledged


def test_no_caller_is_answered_before_its_event_was_synced(tmp_path: Path) -> None:
    happened: list[str] = []

    class Told(Desk):
        """Notes when it is told what became of an event."""

        def settle(self, answers: list[Answer], ended: list[RunEnded]) -> None:
            happened.append("answered")

    def noted(call: str, name: str) -> None:
        if call == "sync" and name.endswith("-wal"):
            happened.append("synced")

    disk, unplug = disk_on("in-order", 0)
    desk = Told()
    try:
        with closing(open_log(f"sqlite:///{tmp_path / 'ensue.db'}")) as log:
            epoch = log.acquire("test")
            decider = recover(log, epoch, {flow.name: compile_plan(flow.declaration, "1")}).decider
            partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=ManualClock())
            disk.before = noted
            for n in range(1, 4):
                ids = uuid7(n, bytes(10)), uuid7(n, b"1" * 10)
                partition.post(Emit(flow.name, *ids, "Order", 1, pack({"n": n}), reply="caller"))
                partition.turn()
            disk.before = lambda _call, _name: None
    finally:
        unplug()
    assert happened == ["synced", "answered"] * 3


async def test_every_event_that_was_accepted_is_there_after_a_power_cut_and_its_run_ends(tmp_path: Path) -> None:
    total = 0
    for seed in range(CUTS):
        before, after = tmp_path / f"before-{seed}", tmp_path / f"after-{seed}"
        before.mkdir()
        after.mkdir()
        acknowledged = await accept_until_the_power_is_cut(before, after, seed)
        total += len(acknowledged)
        async with engine_in(after) as engine:
            again = [await send(engine, n) for n in range(len(acknowledged))]
            assert again == [accepted._replace(duplicate=True) for accepted in acknowledged], f"cut {seed}"
            for n, accepted in enumerate(acknowledged):
                outcome = await (await engine.run(accepted.run_id)).result(30)
                assert outcome.events == [Item(n=n)]
    assert total > 4 * CUTS, "a disk that is cut before anything is acknowledged proves nothing"
