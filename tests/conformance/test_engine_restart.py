"""What survives the end of an engine: by a crash at any moment, by a stop, by a new version of the code.

Here the engines are local ones on a SQLite store, so that the crash falls where the test wants it; `kill -9` of whole
processes is in `tests/integration`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.face import EngineFace
from ensue.actors.local import LocalEngine, ManualClock
from ensue.actors.partition import Partition
from ensue.actors.recovery import recover
from ensue.actors.wire import Tag, unpack_message
from ensue.cluster.memory_log import MemoryLog, MemoryStore
from ensue.cluster.stores import open_log
from ensue.events.codec import pack
from ensue.events.commands import Answer, RunEnded
from ensue.events.errors import DeliveryConflict, EnsueError
from ensue.events.ids import derived_id, format_id, uuid7
from ensue.events.inputs import Completed, Emit, Op, WorkerUp
from ensue.events.plan import compile_plan
from ensue.events.records import Kind, unpack_records
from ensue.events.status import Status

from .engines import Rig, Trace, trace, until

__all__ = ["trace"]
pytestmark = pytest.mark.timeout(60)


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


class Move(Event, key="account"):
    account: str
    n: int


class Big(Event):
    n: int


class Small(Event):
    n: int


class Total(Event):
    numbers: list[int]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig("local-sqlite", tmp_path)
    yield made
    await made.stop()


def event_ids(engine: EngineFace, run_id: bytes) -> list[tuple[str, bytes]]:
    """(type, id) of all events in the log of a run."""
    row = engine.reader().run(run_id)
    assert row is not None
    records = [r for entry in engine.reader().entries(row.run) for r in unpack_records(entry.body)]
    return [(record[2], record[1]) for record in records if record[0] == Kind.EVENT]


async def test_after_a_crash_the_run_goes_on_and_finished_steps_do_not_run_again(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("resume")

    @flow.step
    def first(event: Order) -> Item:
        trace.note("first")
        return Item(n=event.n)

    @flow.step
    async def second(event: Item, ctx: Context) -> Total:
        trace.note(f"second {ctx.attempt}")
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return Total(numbers=[event.n, ctx.attempt])

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order(n=5))).id
    await until(lambda: len(trace.lines) == 2)
    await rig.crash()
    engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert (outcome.events, trace.lines) == ([Total(numbers=[5, 2])], ["first", "second 1", "second 2"])


async def test_a_generator_that_crashed_half_way_emits_nothing_twice(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("half-way")

    @flow.step
    async def count(event: Order, ctx: Context) -> AsyncIterator[Item]:
        for n in range(20):
            if n == 10 and ctx.attempt == 1:
                trace.note("half")
                await asyncio.sleep(60)
            yield Item(n=n)

    @flow.step
    async def work(event: Item) -> Big:
        trace.note(f"work {event.n}")
        return Big(n=event.n)

    @flow.step
    def gather(bigs: list[Big]) -> Total:
        return Total(numbers=sorted(big.n for big in bigs))

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    run_id = run.raw_id
    await until(lambda: "half" in trace.lines and sum("work" in line for line in trace.lines) == 10)
    await rig.crash()
    engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert outcome.events == [Total(numbers=list(range(20)))]
    ids = event_ids(engine, run_id)
    assert len({event_id for _, event_id in ids}) == len(ids) == 1 + 20 + 20 + 1


async def test_a_step_that_ran_twice_emits_the_same_ids(rig: Rig, trace: Trace, tmp_path: Path) -> None:
    flow = Pipeline("same-ids")

    @flow.step
    async def count(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(5)]

    engine = await rig.start(flow)
    first = await engine.accept("same-ids", Order())
    await (await engine.run(first.run_id)).result(20)
    expected = [("Item", derived_id(first.event_id, "count", index)) for index in range(5)]
    assert event_ids(engine, first.run_id) == [("Order", first.event_id), *expected]


@pytest.mark.parametrize("ending", ["crash", "stop"])
async def test_a_join_and_a_gathering_keep_what_has_come_so_far(rig: Rig, trace: Trace, ending: str) -> None:
    flow = Pipeline("keeps")

    @flow.step
    def spread(event: Order) -> list[Item]:
        return [Item(n=n) for n in range(4)]

    @flow.step
    def left(event: Item) -> Big:
        return Big(n=event.n)

    @flow.step(retry=Retry(wait=1.0))
    async def right(event: Item, ctx: Context) -> Small:
        if ctx.attempt == 1 and event.n % 2:
            trace.note("fails")
            raise ConnectionError("later")
        return Small(n=event.n)

    @flow.step
    def pair(big: Big, small: Small) -> Move:
        return Move(account="x", n=big.n * 10 + small.n)

    @flow.step
    def gather(moves: list[Move]) -> Total:
        return Total(numbers=sorted(move.n for move in moves))

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order())).id
    await until(lambda: len(trace.lines) == 2)
    assert isinstance(engine, LocalEngine)
    await engine.idle()
    await (rig.crash() if ending == "crash" else rig.stop())
    engine = await rig.start(flow)
    assert (await (await engine.run(run_id)).result(20)).events == [Total(numbers=[0, 11, 22, 33])]


async def test_what_ended_after_the_last_snapshot_stays_over(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("snapshots")

    @flow.step
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"work {event.n}")
        if event.n and "go on" not in trace.lines:
            await asyncio.sleep(60)
        return Item(n=event.n)

    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    stays, ends = await engine.emit_many([Order(n=1), Order(n=2)])
    await until(lambda: len(trace.lines) == 2)
    engine._partition.save_snapshot()
    await ends.cancel()
    ends_id, stays_id = ends.id, stays.id
    await rig.crash()
    trace.note("go on")
    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    assert (await (await engine.run(stays_id)).result(20)).events == [Item(n=1)]
    assert (await (await engine.run(ends_id)).result(20)).status == "cancelled"
    await engine.idle()
    assert trace.lines == ["work 1", "work 2", "go on", "work 1"]


async def test_a_run_that_waits_for_its_retry_still_waits_after_a_restart(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("still-waits")

    @flow.step(retry=Retry(wait=3600.0))
    def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        if ctx.attempt == 1:
            raise ConnectionError("no")
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    run = await engine.emit(Order())
    run_id, reader = run.raw_id, engine.reader()
    await until(lambda: (row := reader.run(run_id)) is not None and row.status == Status.WAITING)
    await rig.crash()
    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    await engine.idle()
    assert trace.lines == ["1"]
    assert (await (await engine.run(run_id)).result(20)).events == [Item(n=2)]


async def test_a_run_that_waits_no_more_is_shown_as_running_though_no_worker_is_free(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("shown")

    @flow.step(retry=Retry(wait=60.0), concurrency=1)
    async def work(event: Order) -> Item:
        if event.n == 1:
            raise ConnectionError("no")
        trace.note("busy")
        await asyncio.sleep(60)
        return Item(n=event.n)

    engine = await rig.start(flow)
    assert isinstance(engine, LocalEngine)
    run = await engine.emit(Order(n=1))
    reader = engine.reader()

    def status() -> Status:
        row = reader.run(run.raw_id)
        assert row is not None
        return Status(row.status)

    await until(lambda: status() == Status.WAITING)
    await engine.emit(Order(n=2))
    await until(lambda: trace.lines == ["busy"])
    engine.advance(61)
    await until(lambda: status() == Status.RUNNING)
    await rig.crash()


async def test_a_delivery_that_five_engines_died_with_is_given_up(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("killer")

    @flow.step
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(ctx.attempt)
        await asyncio.sleep(60)
        return Item(n=1)

    engine = await rig.start(flow)
    run_id = (await engine.emit(Order())).id
    for death in range(1, 6):
        await until(lambda: len(trace.lines) == death)  # noqa: B023 - awaited at once
        await rig.crash()
        engine = await rig.start(flow)
    outcome = await (await engine.run(run_id)).result(20)
    assert (outcome.status, [(e.error, e.kind) for e in outcome.errors]) == ("failed", [("EngineDied", "unknown")])
    assert trace.lines == ["1", "2", "3", "4", "5"]


async def test_after_a_crash_events_of_one_key_still_go_one_at_a_time(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("keys-crash")

    @flow.step
    async def apply(event: Move) -> None:
        trace.note(f"begin {event.n}")
        if "go on" not in trace.lines:
            await asyncio.sleep(60)
        await asyncio.sleep(0.001)
        trace.note(f"end {event.n}")

    engine = await rig.start(flow)
    runs = await engine.emit_many([Move(account="a", n=n) for n in range(4)])
    ids = [run.id for run in runs]
    await until(lambda: trace.lines == ["begin 0"])
    await rig.crash()
    trace.note("go on")
    engine = await rig.start(flow)
    for run_id in ids:
        await (await engine.run(run_id)).result(20)
    assert trace.lines[2:] == [f"{what} {n}" for n in range(4) for what in ("begin", "end")]


async def test_a_stop_hands_back_what_did_not_begin_and_counts_no_attempt(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("hand-back")

    @flow.step(concurrency=1)
    async def work(event: Order, ctx: Context) -> Item:
        trace.note(f"{event.n} {ctx.attempt}")
        if event.n == 0:
            await asyncio.sleep(0.05)
        return Item(n=ctx.attempt)

    engine = await rig.start(flow)
    runs = await engine.emit_many([Order(n=n) for n in range(5)])
    ids = [run.id for run in runs]
    await until(lambda: trace.lines == ["0 1"])
    await rig.stop()
    assert trace.lines == ["0 1"]
    engine = await rig.start(flow)
    assert [(await (await engine.run(run_id)).result(20)).events for run_id in ids] == [[Item(n=1)]] * 5


async def test_a_sender_s_id_is_remembered_over_a_restart(rig: Rig) -> None:
    flow = Pipeline("remembers")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=1)

    engine = await rig.start(flow)
    first = await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"x")
    await rig.crash()
    engine = await rig.start(flow)
    again = await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"x")
    assert again == (first.event_id, first.run_id, True)
    with pytest.raises(DeliveryConflict):
        await engine.accept("remembers", Order(), source="hook", sender_id="d-1", digest=b"y")


async def test_an_event_of_an_older_version_in_the_log_is_lifted_by_its_upcaster(rig: Rig, trace: Trace) -> None:
    class Paid(Event, type="paid", version=2):
        cents: int

    @Paid.upcaster(from_version=1)
    def lift(data: dict[str, int]) -> dict[str, int]:
        return {"cents": data["amount"] * 100}

    flow = Pipeline("versions")

    @flow.step
    async def work(event: Paid, ctx: Context) -> Total:
        trace.note("began")
        if ctx.attempt == 1:
            await asyncio.sleep(60)
        return Total(numbers=[event.cents, ctx.events(Paid)[0].cents])

    engine = await rig.start(flow)
    raw = uuid7(1, bytes(10))
    engine._post_all([Emit("versions", raw, uuid7(2, bytes(10)), "paid", 1, pack({"amount": 3}))])
    await until(lambda: trace.lines == ["began"])
    await rig.crash()
    engine = await rig.start(flow)
    assert (await (await engine.run(raw)).result(20)).events == [Total(numbers=[300, 300])]


async def test_an_event_of_an_unknown_version_fails_its_run_and_nothing_else(rig: Rig) -> None:
    flow = Pipeline("unknown-version")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    engine = await rig.start(flow)
    raw = uuid7(1, bytes(10))
    engine._post_all([Emit("unknown-version", raw, uuid7(2, bytes(10)), "Order", 9, pack({"n": 3}))])
    outcome = await (await engine.run(raw)).result(20) if await known(engine, raw) else None
    assert outcome is not None
    assert (outcome.status, outcome.errors[0].kind) == ("failed", "permanent")
    assert "Order version 9 is newer than this code's version 1" in outcome.errors[0].message
    assert (await (await engine.emit(Order(n=1))).result(20)).events == [Item(n=1)]


async def known(engine: EngineFace, raw: bytes) -> bool:
    reader = engine.reader()
    await until(lambda: reader.run(raw) is not None)
    return True


async def test_a_run_of_a_version_that_is_not_loaded_waits_for_its_code(rig: Rig, trace: Trace) -> None:
    def make(*, new: bool) -> Pipeline:
        flow = Pipeline("code")

        @flow.step(name="work")
        async def work(event: Order, ctx: Context) -> Item:
            trace.note(f"work {ctx.attempt}")
            if ctx.attempt == 1:
                await asyncio.sleep(60)
            return Item(n=event.n)

        if new:

            @flow.step
            def more(event: Item) -> Big:
                return Big(n=event.n)

        return flow

    engine = await rig.start(make(new=False))
    run = await engine.emit(Order(n=4))
    raw = run.raw_id
    await until(lambda: trace.lines == ["work 1"])
    await rig.crash()
    engine = await rig.start(make(new=True))
    row = engine.reader().run(raw)
    assert row is not None
    assert Status(row.status) is Status.NEEDS_MIGRATION
    fresh = await engine.emit(Order(n=5))
    await until(lambda: len(trace.lines) == 2)
    await rig.crash()
    assert trace.lines == ["work 1", "work 1"]
    assert fresh.raw_id != raw
    engine = await rig.start(make(new=False))
    assert (await (await engine.run(raw)).result(20)).events == [Item(n=4)]


async def test_a_second_engine_fences_the_first_which_commits_nothing_more(rig: Rig, tmp_path: Path) -> None:
    flow = Pipeline("fenced")

    @flow.step
    def work(event: Order) -> Item:
        return Item(n=event.n)

    first = await rig.start(flow)
    await (await first.emit(Order(n=1))).result(20)
    second = await rig.start(flow)
    with pytest.raises(EnsueError, match="is at epoch 2, this owner at 1: it must stop"):
        await first.emit(Order(n=2))
    assert first.state().startswith("failed")
    assert (await (await second.emit(Order(n=3))).result(20)).events == [Item(n=3)]
    log = open_log(rig.store)
    try:
        assert len(log.reader().runs()) == 2
    finally:
        log.close()


async def test_whoever_waits_for_a_result_of_an_engine_that_failed_hears_of_it(rig: Rig, trace: Trace) -> None:
    flow = Pipeline("fenced-waiting")

    @flow.step
    async def work(event: Order) -> Item:
        await until(lambda: "go on" in trace.lines)
        return Item(n=event.n)

    first = await rig.start(flow)
    run = await first.emit(Order(n=1))
    waiting = asyncio.create_task(run.result(20))
    await asyncio.sleep(0)
    second = await rig.start(flow)
    trace.note("go on")
    with pytest.raises(EnsueError, match="epoch"):
        await waiting
    assert (await (await second.run(run.raw_id)).result(20)).events == [Item(n=1)]


async def test_a_crash_at_every_commit_leads_to_the_same_result(rig: Rig, tmp_path: Path) -> None:
    flow = Pipeline("everywhere")

    @flow.step
    def spread(event: Order) -> Iterator[Item]:
        for n in range(3):
            yield Item(n=n)

    @flow.step(retry=Retry(attempts=3, wait=0.5))
    def work(event: Item, ctx: Context) -> Big:
        if event.n == 1 and ctx.attempt == 1:
            raise ConnectionError("once")
        return Big(n=event.n)

    @flow.step
    def other(event: Order) -> Small:
        return Small(n=7)

    @flow.step
    def gather(bigs: list[Big], small: Small) -> Total:
        return Total(numbers=[small.n, *sorted(big.n for big in bigs)])

    for survived in range(1, 40):
        folder = tmp_path / str(survived)
        folder.mkdir()
        mine = Rig("local-sqlite", folder)
        engine = await mine.start(flow)
        assert isinstance(engine, LocalEngine)
        run = await engine.emit(Order())
        raw, over = run.raw_id, False
        waiting = asyncio.ensure_future(run.result(20))
        for _ in range(survived):
            await asyncio.sleep(0)
        over = waiting.done()
        if not over:
            waiting.cancel()
        await mine.crash()
        engine = await mine.start(flow)
        outcome = await (await engine.run(raw)).result(20)
        assert outcome.events == [Total(numbers=[7, 0, 1, 2])], survived
        ids = event_ids(engine, raw)
        assert len({event_id for _, event_id in ids}) == len(ids), format_id(raw)
        await mine.stop()
        if over:
            return
    pytest.fail("the run never came to its end by itself")


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
