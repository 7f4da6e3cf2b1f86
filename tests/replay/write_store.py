"""Writes a store with every kind of record, and beside it what the log says of each run.

    python -m tests.replay.write_store tests/replay/stores/v2

Run it with the code of a version whose format changed, before the next one is written, and commit both files.
Rules: time and ids are counted, not read, so the same code writes the same records. Workers are played: they answer as
they are told, through the same messages as real ones.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ensue import Event
from ensue.actors.client.run_queries import redrive_input, revive_input
from ensue.actors.partition.loop import Partition
from ensue.actors.partition.recovery import recover
from ensue.actors.transport.messages import Tag, unpack_message
from ensue.cluster.log.open import open_log
from ensue.cluster.log.protocol import DeadFilter, DeadLetter
from ensue.events.decide.inputs import Cancel, CompletionKind, Emit, Force, Redrive, WorkerDown, WorkerUp
from ensue.events.ids import uuid7
from ensue.events.model.codec import encode, pack
from ensue.events.pipelines.plan import compile_plan
from ensue.events.pipelines.version import version_of

from . import flows
from .describe import describe

EXPECTED = "expected.json"
STORE = "store.db"
_GIVE_UP = ["permanent", "ValueError", "it is broken", "a trace", None, False]
_AGAIN = ["transient", "ConnectionError", "try later", "a trace", 3600.0, True]
_PLANS = {
    flow.name: compile_plan(flow.declaration, version_of(flow.declaration)) for flow in (flows.orders, flows.trips)
}


class _Desk:
    """A partition on a real store, its clock, and the workers that it believes to have."""

    def __init__(self, path: Path) -> None:
        self.log = open_log(f"sqlite:///{path}")
        self.reader = self.log.reader()
        epoch = self.log.acquire("write_store")
        self._us = 1_767_225_600_000_000
        self._ids = 0
        self._said: list[tuple[int, bytes]] = []
        self._workers = 0
        self.held: dict[int, tuple[str, list[list[Any]]]] = {}
        decider = recover(self.log, epoch, _PLANS).decider
        self.partition = Partition(decider, self.log, epoch, links=self, watcher=self, clock=self)
        for plan in _PLANS.values():
            for step in plan.steps:
                self.add_worker(plan.pipeline, step.name)

    # -- what a partition needs: a clock, links to workers, a watcher --------------------------------------------------

    def now_us(self) -> int:
        return self._us

    def send(self, worker: int, message: bytes) -> None:
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self.held[worker][1].extend(body)
        elif tag == Tag.RECALL:
            step, items = self.held[worker]
            self._said += [(worker, pack([Tag.COMPLETIONS, [[CompletionKind.RELEASE, token] for token in body]]))]
            self.held[worker] = (step, [item for item in items if item[0] not in body])

    def receive(self) -> list[tuple[int, bytes]]:
        said, self._said = self._said, []
        return said

    def kill(self, worker: int, reason: str) -> None:
        raise AssertionError(f"worker {worker} is killed: {reason}")

    def wait(self, timeout_seconds: float | None) -> None: ...

    def wake(self) -> None: ...

    def settle(self, answers: list[Any], ended: list[Any]) -> None:
        for answer in answers:
            if isinstance(answer.value, Exception):
                raise answer.value

    def on_progress(self, run_id: bytes, step: str, done: float, total: float) -> None: ...

    def on_message(self, worker: int, tag: int, body: Any) -> None: ...

    # -- what happens --------------------------------------------------------------------------------------------------

    def tell(self, entry: Any) -> None:
        self.partition.post(entry)
        self.turn()

    def turn(self, seconds: float = 0.001) -> None:
        self._us += int(seconds * 1e6)
        self.partition.turn()
        while self._said:
            self.partition.turn()

    def new_id(self) -> bytes:
        self._ids += 1
        return uuid7(self._us // 1000, self._ids.to_bytes(10, "big"))

    def add_worker(self, pipeline: str, step: str) -> None:
        self._workers += 1
        self.held[self._workers] = (step, [])
        self.tell(WorkerUp(self._workers, pipeline, step, 4))

    def emit(self, pipeline: str, event: Event, sender_id: str | None = None) -> bytes:
        run_id, model = self.new_id(), type(event)
        key = None if model.__event_key__ is None else getattr(event, model.__event_key__)
        self.tell(
            Emit(
                pipeline,
                run_id,
                self.new_id(),
                model.__event_type__,
                1,
                encode(event),
                key,
                source="test",
                sender_id=sender_id,
                digest=bytes(16),
                reply=object(),
            )
        )
        return run_id

    def items(self, step: str, run_id: bytes) -> Iterator[tuple[int, list[Any]]]:
        for worker, (name, items) in self.held.items():
            if name == step:
                yield from ((worker, item) for item in items if item[1] == run_id)

    def answer(self, step: str, run_id: bytes, op: int, *what: Any) -> None:
        worker, item = next(self.items(step, run_id))
        if op != CompletionKind.STREAM:
            self.held[worker][1].remove(item)
        self._said.append((worker, pack([Tag.COMPLETIONS, [[op, item[0], *what]]])))
        self.turn()

    def done(self, step: str, run_id: bytes, *events: Event) -> None:
        self.answer(step, run_id, CompletionKind.DONE, 250, _packed(events), False)

    def stream(self, step: str, run_id: bytes, first: int, *events: Event) -> None:
        self.answer(step, run_id, CompletionKind.STREAM, first, _packed(events))

    def end_stream(self, step: str, run_id: bytes, count: int) -> None:
        self.answer(step, run_id, CompletionKind.DONE, 900, [], True, count)

    def fail(self, step: str, run_id: bytes) -> None:
        self.answer(step, run_id, CompletionKind.FAIL, *_GIVE_UP)

    def retry_later(self, step: str, run_id: bytes) -> None:
        self.answer(step, run_id, CompletionKind.FAIL, *_AGAIN)

    def lose_worker(self, pipeline: str, step: str, *, expected: bool) -> None:
        worker = next(worker for worker, (name, _) in self.held.items() if name == step)
        del self.held[worker]
        self.tell(WorkerDown(worker, "the worker's process was killed by SIGKILL", expected))
        self.add_worker(pipeline, step)

    def letter(self, run_id: bytes, step: str) -> DeadLetter:
        return next(one for one in self.reader.dead(DeadFilter(run_id=run_id, step=step)))

    def decide(self, run_id: bytes, step: str, **changes: Any) -> None:
        entry: Redrive = redrive_input(self.reader, self.letter(run_id, step))
        entry.who, entry.reply = "ann", object()
        for name, value in changes.items():
            setattr(entry, name, value)
        self.tell(entry)

    def retry_run(self, run_id: bytes) -> None:
        entry = revive_input(self.reader, run_id)
        entry.who, entry.reply = "ann", object()
        self.tell(entry)

    def close(self) -> None:
        self.reader.close()
        self.log.close()


def _packed(events: tuple[Event, ...]) -> list[list[Any]]:
    return [[type(event).__event_type__, 1, encode(event), None] for event in events]


def write(folder: Path) -> None:
    """Write the store of this version, and what it says."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STORE
    path.unlink(missing_ok=True)
    desk = _Desk(path)
    _orders(desk)
    _trips(desk)
    desk.partition.save_snapshot()
    _unfinished(desk)
    _breakers(desk)
    desk.log.checkpoint()
    desk.close()
    expected = json.dumps(describe(path), indent=1, sort_keys=True, ensure_ascii=False)
    (folder / EXPECTED).write_text(expected + "\n", encoding="utf-8")
    for behind in (path.with_name(STORE + "-wal"), path.with_name(STORE + "-shm"), path.with_name(STORE + ".lock")):
        behind.unlink(missing_ok=True)


def _orders(desk: _Desk) -> None:
    """A fan-out that completes, one with a handled error and a crash, one that an operator ends."""
    run = desk.emit("orders", flows.Order(customer="ann", items=2), sender_id="order-1")
    desk.stream("split", run, 0, flows.Item(n=0))
    desk.done("price", run, flows.Priced(n=0, amount=1.5))
    desk.stream("split", run, 1, flows.Item(n=1))
    desk.end_stream("split", run, 2)
    desk.done("look_up", run, flows.Customer(name="Ann"))
    desk.done("price", run, flows.Priced(n=1, amount=2.0))
    desk.done("total", run, flows.Total(amount=3.5))
    desk.done("bill", run, flows.Bill(name="Ann", amount=3.5))

    run = desk.emit("orders", flows.Order(customer="bob", items=1))
    desk.stream("split", run, 0, flows.Item(n=0))
    desk.end_stream("split", run, 1)
    desk.lose_worker("orders", "look_up", expected=False)  # a crash: another attempt after a second
    desk.turn(seconds=2.0)
    desk.done("look_up", run, flows.Customer(name="Bob"))
    desk.fail("price", run)
    desk.done("excuse", run, flows.Excused(why="it is broken"))
    desk.done("total", run, flows.Total(amount=0.0))
    desk.done("bill", run, flows.Bill(name="Bob", amount=0.0))

    run = desk.emit("orders", flows.Order(customer="cid", items=1))
    desk.tell(Cancel(run, object(), "ann"))
    desk.answer("split", run, CompletionKind.RELEASE)
    desk.answer("look_up", run, CompletionKind.RELEASE)


def _booked(desk: _Desk, guest: str) -> bytes:
    run = desk.emit("trips", flows.Trip(guest=guest))
    desk.done("book_hotel", run, flows.Hotel(guest=guest))
    return run


def _paid(desk: _Desk, guest: str) -> bytes:
    run = _booked(desk, guest)
    desk.done("book_flight", run, flows.Flight(guest=guest))
    desk.done("pay", run, flows.Paid(guest=guest))
    return run


def _trips(desk: _Desk) -> None:
    """Every way that a run with compensations and a pivot ends, and every decision of an operator."""
    run = _paid(desk, "completed")
    desk.done("notify", run)
    desk.done("invoice", run)

    run = _booked(desk, "compensated")
    desk.fail("book_flight", run)
    desk.done("cancel_flight", run)
    desk.done("cancel_hotel", run)

    run = _booked(desk, "settled by hand")
    desk.fail("book_flight", run)
    desk.done("cancel_flight", run)
    desk.fail("cancel_hotel", run)
    desk.decide(run, "cancel_hotel", discard=True)

    run = _booked(desk, "cancelled")
    desk.tell(Cancel(run, object(), "ann"))
    desk.answer("book_flight", run, CompletionKind.RELEASE)
    desk.done("cancel_flight", run)
    desk.done("cancel_hotel", run)

    run = _paid(desk, "redriven with another event")
    desk.done("notify", run)
    desk.fail("invoice", run)
    paid = flows.Paid(guest="edited")
    desk.decide(run, "invoice", edited=[desk.new_id(), "Paid", 1, encode(paid), None])
    desk.done("invoice", run)

    run = _paid(desk, "redriven, the other one discarded")
    desk.fail("notify", run)
    desk.fail("invoice", run)
    desk.decide(run, "invoice")
    desk.decide(run, "notify", discard=True)
    desk.done("invoice", run)

    run = _paid(desk, "retried")
    desk.fail("notify", run)
    desk.fail("invoice", run)
    desk.retry_run(run)
    desk.done("notify", run)
    desk.done("invoice", run)

    run = _paid(desk, "failed, its letter discarded")
    desk.done("invoice", run)
    desk.fail("notify", run)
    desk.decide(run, "notify", discard=True)

    run = _paid(desk, "failed, its letter open")
    desk.done("invoice", run)
    desk.fail("notify", run)

    _booked(desk, "under way in the snapshot")
    run = _booked(desk, "compensation blocked in the snapshot")
    desk.fail("book_flight", run)
    desk.fail("cancel_flight", run)


def _unfinished(desk: _Desk) -> None:
    """Runs that the next owner goes on with."""
    run = _booked(desk, "handed back")
    desk.lose_worker("trips", "book_flight", expected=True)
    run = _booked(desk, "waiting for its retry")
    desk.retry_later("book_flight", run)
    run = _booked(desk, "being undone")
    desk.fail("book_flight", run)
    run = _paid(desk, "redriven")
    desk.done("invoice", run)
    desk.fail("notify", run)
    desk.decide(run, "notify")

    run = desk.emit("orders", flows.Order(customer="dan", items=3), sender_id="order-2")
    desk.done("look_up", run, flows.Customer(name="Dan"))
    desk.stream("split", run, 0, flows.Item(n=0), flows.Item(n=1))
    desk.done("price", run, flows.Priced(n=0, amount=1.5))
    desk.emit("orders", flows.Order(customer="dan", items=1))  # waits for its key


def _breakers(desk: _Desk) -> None:
    """One that an operator opened and closed, one that opened by itself and holds deliveries back."""
    desk.tell(Force("trips/pay", True, "ann", 60.0, object()))
    desk.tell(Force("trips/pay", False, "ann", None, object()))
    run = desk.emit("orders", flows.Order(customer="eve", items=2))
    desk.stream("split", run, 0, flows.Item(n=0), flows.Item(n=1))
    desk.end_stream("split", run, 2)
    for _ in range(2):
        desk.retry_later("price", run)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
