"""Bug 6: two attempts of one delivery at once, since an actor that was taken for dead is alive.

Seen: Ray PRs 47659, 59872: a call was given to a new actor while the old one, declared dead, still ran it; late answers
of the old one counted.

Mutant: `SeenDeliveries.fresh` (actors/worker/seen_deliveries.py) returns the items as they are; tried 2026-11-21: red.
Mutant: `Decider._worker_down` (events/decide/core.py) keeps the worker (`self.workers.get` for `pop`);
tried 2026-11-21: red.
Mutant: `del leases[token]` of `Decider._completed` (events/decide/core.py) dropped; tried 2026-11-21: red.
Mutant: `SeenDeliveries.missing` (actors/worker/seen_deliveries.py) does not remember what it called missing;
tried 2026-11-21: red.
Mutant: `slot.leases.pop` of `Decider._missing` (events/decide/core.py) is `get`; tried 2026-11-21: red.
Mutant, of two lines, since each is enough: `kill(self.process)` dropped from `SupervisedWorker.kill`
(actors/supervision/supervised_worker.py), `if not worker.process.pid` from `StepSupervisor._ended`
(actors/supervision/step_supervisor.py); tried 2026-11-28: red.
"""

import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ensue import Context, Event, Pipeline, Retry
from ensue.actors.local import ManualClock
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.actors.pool import worker_pool, worker_processes
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.actors.worker.worker import make_worker_core
from ensue.cluster.log.protocol import Log
from ensue.events.decide.inputs import Completed, CompletionKind, Emit, Missing, WorkerDown, WorkerUp
from ensue.events.ids import derived_id, uuid7
from ensue.events.model.codec import encode, pack
from ensue.events.pipelines.plan import compile_plan
from ensue.events.state.run_status import Status

from ..conformance.desk import Desk
from ..conformance.engines import ON_RAY, Rig, Trace, until
from ..conformance.logs import Store, observed
from ..integration.processes import alive

pytestmark = pytest.mark.timeout(120)
SECONDS = 20.0


class Order(Event):
    n: int = 0


class Item(Event):
    n: int


# The worker's side: what comes twice or late


def delivery(token: int) -> list[Any]:
    run = derived_id(bytes(16), "run", token)
    return [token, run, 1, 1, 0, 0, [[derived_id(run, "event", 0), "Order", 1, encode(Order(n=token))]]]


def deliver(*tokens: int) -> bytes:
    return pack([int(Tag.DELIVER), [delivery(token) for token in tokens]])


def test_a_delivery_that_comes_twice_or_after_it_was_called_missing_runs_at_most_once() -> None:
    flow, began, begun, go = Pipeline("twice"), list[int](), threading.Semaphore(0), threading.Event()

    @flow.step(concurrency=9)
    def work(event: Order) -> None:
        began.append(event.n)
        begun.release()
        go.wait(SECONDS)

    core = make_worker_core(flow.steps["work"], list(flow.registry), lambda: None)
    core.handle(deliver(1, 1))
    core.handle(deliver(1, 2))
    core.handle(pack([int(Tag.INQUIRE), [1, 2, 3]]))
    core.handle(deliver(3, 2))
    core.executor.nudge()
    assert begun.acquire(timeout=SECONDS)
    assert begun.acquire(timeout=SECONDS)
    go.set()
    core.executor.close(SECONDS)
    core.handle(deliver(1, 2, 3))
    core.executor.close(SECONDS)
    said = [unpack_message(message) for message in core.outbox.take()]
    assert sorted(began) == [1, 2]
    assert [body for tag, body in said if tag == Tag.MISSING] == [[3]]
    assert sorted(item[1] for tag, body in said if tag == Tag.COMPLETIONS for item in body) == [1, 2]


# The partition's side: who is gone says nothing that counts

flow = Pipeline("late")


@flow.step(retry=Retry(wait=0.0))
def work(event: Order) -> Item:
    return Item(n=event.n)


def partition_on(log: Log, desk: Desk) -> Partition:
    epoch = log.acquire("test")
    decider = recover(log, epoch, {"late": compile_plan(flow.declaration, "1")}).decider
    partition = Partition(decider, log, epoch, links=desk, watcher=desk, clock=ManualClock())
    partition.post_all(
        [
            WorkerUp(0, "late", "work", 1),
            Emit("late", uuid7(1, bytes(10)), uuid7(2, bytes(10)), "Order", 1, pack({"n": 1})),
        ]
    )
    partition.turn()
    return partition


def done(worker: int, token: int, n: int) -> Completed:
    return Completed(worker, [[CompletionKind.DONE, token, 1, [["Item", 1, pack({"n": n}), None]], False]])


def test_the_late_answer_of_a_worker_that_was_declared_dead_changes_nothing(store: Store) -> None:
    desk = Desk()
    with closing(store.open()) as log:
        partition = partition_on(log, desk)
        old = desk.sent[0][0][0]
        partition.post_all([WorkerDown(0, "it was silent", expected=True), WorkerUp(1, "late", "work", 1)])
        partition.turn()
        (again,) = desk.sent[1]
        before = observed(log)
        for late in (
            done(0, old, 13),
            done(1, old, 13),
            Completed(0, [[CompletionKind.FAIL, old, "x", "", "", "", None, False]]),
        ):
            partition.post(late)
            partition.turn()
        assert observed(log) == before
        assert {worker: len(items) for worker, items in desk.sent.items()} == {0: 1, 1: 1}
        partition.post_all([done(1, again[0], 2), done(1, again[0], 13), done(0, old, 13)])
        partition.turn()
        bodies = b"".join(found.body for found in log.reader().scan(1, 100))
        assert (bodies.count(pack({"n": 2})), bodies.count(pack({"n": 13}))) == (1, 0)
        assert log.reader().runs()[0].status == Status.COMPLETED


def test_the_failure_of_an_attempt_that_comes_twice_does_not_end_the_next_attempt(store: Store) -> None:
    desk = Desk()
    with closing(store.open()) as log:
        partition = partition_on(log, desk)
        failure = Completed(0, [[CompletionKind.FAIL, desk.sent[0][0][0], "transient", "E", "m", "", 0.0, False]])
        partition.post(failure)
        partition.turn()
        partition.turn()
        assert [item[3] for item in desk.sent[0]] == [1, 2]
        before = observed(log)
        partition.post(failure)
        partition.turn()
        assert (observed(log), len(desk.sent[0])) == (before, 2)
        partition.post(done(0, desk.sent[0][1][0], 2))
        partition.turn()
        assert log.reader().runs()[0].status == Status.COMPLETED


def test_a_delivery_is_with_one_worker_at_a_time_however_often_it_is_called_missing(store: Store) -> None:
    desk = Desk()
    with closing(store.open()) as log:
        partition = partition_on(log, desk)
        partition.post(WorkerUp(1, "late", "work", 1))
        partition.turn()
        first = desk.sent[0][0][0]
        for missing in (Missing(1, [first]), Missing(0, [first]), Missing(0, [first])):
            partition.post(missing)
            partition.turn()
        given = [item[0] for items in desk.sent.values() for item in items]
        assert len(given) == len(set(given)) == 2
        leased = [token for slot, _ in partition._decider.workers.values() for token in slot.leases]
        assert leased == [token for token in given if token != first]


# The processes: one that stands still and wakes up late


@ON_RAY
async def test_a_worker_that_stands_still_is_seen_to_be_gone_before_its_delivery_runs_again(
    rig: Rig, trace: Trace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_processes, "_MAX_SILENCE_SECONDS", 3.0)
    monkeypatch.setattr(worker_pool, "_CHECK_SECONDS", 0.2)
    still = Pipeline("still")

    @still.step(retry=Retry(attempts=5, wait=0.05))
    async def work(event: Order, ctx: Context) -> Item:
        others = [int(line.split()[1]) for line in trace.lines]
        running = [pid for pid in others if "State:\tZ" not in status_of(pid)]
        trace.note(f"{ctx.attempt} {os.getpid()} beside {running}")
        if ctx.attempt == 1:
            await until(lambda: "go on" in trace.lines)
        return Item(n=ctx.attempt)

    def status_of(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return "State:\tZ"

    engine = await rig.start(still)
    run = await engine.emit(Order())
    await until(lambda: len(trace.lines) == 1)
    pid = int(trace.lines[0].split()[1])
    os.kill(pid, signal.SIGSTOP)
    outcome = await run.result(60)
    assert (outcome.status, outcome.events) == ("completed", [Item(n=2)])
    assert alive({pid}) == set()
    assert [line.split(" beside ")[1] for line in trace.lines] == ["[]", "[]"]
