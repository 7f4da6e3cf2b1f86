"""Helpers of the dead letter tests: a store or an engine with three dead letters, and a served stand-in."""

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest

from ensue import Event, Pipeline
from ensue.cluster.log.open import open_log
from ensue.cluster.log.protocol import Batch, DeadLetter, Entry, RunStart
from ensue.events.ids import format_id, uuid7
from ensue.events.model.codec import encode
from ensue.events.state.records import (
    AttemptRecord,
    EventRecord,
    FailedRecord,
    Record,
    RecordKind,
    RunRecord,
    pack_records,
)
from ensue.gateway.api.server import Served, ServerPhase, serve_async
from ensue.gateway.cli.main import main

from ..stand_in import StandInEngine

__all__ = ["Ensue", "fill", "fill_store", "make_pipeline", "served", "typed"]

DEADLINE_SECONDS = 20
TRACE = 'Traceback (most recent call last):\n  File "shop.py", line 3, in charge\nCardExpired: in 2024\x1b[31m'
Ensue = Callable[..., tuple[int, str, str]]


class OrderPlaced(Event):
    order_id: str
    amount: float


def make_pipeline() -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def charge(event: OrderPlaced) -> None: ...

    @orders.step
    def pack(event: OrderPlaced) -> None: ...

    return orders


def _records(number: int, time_us: int) -> tuple[RunStart, list[Record], DeadLetter]:
    """A run whose step `charge` gave up after two attempts."""
    event_id, run_id = (uuid7(time_us // 1000, f"{name}{number:09}".encode()) for name in "er")
    event = OrderPlaced(order_id=f"o-{number}", amount=9.5)
    records: list[Record] = [
        RunRecord(RecordKind.RUN, run_id, "orders", "v1", "", None),
        EventRecord(RecordKind.EVENT, event_id, "OrderPlaced", 1, encode(event), None, b"", 0, 0, time_us - 3_000_000),
        AttemptRecord(RecordKind.ATTEMPT, 1, "charge", 1, time_us - 2_000_000, [event_id]),
        FailedRecord(
            RecordKind.FAILED,
            1,
            1,
            "transient",
            "ConnectionError",
            "refused",
            "",
            time_us - 1_900_000,
            time_us,
            "charge",
        ),
        AttemptRecord(RecordKind.ATTEMPT, 1, "charge", 2, time_us - 500, [event_id]),
        FailedRecord(
            RecordKind.FAILED, 1, 2, "permanent", "CardExpired", "in 2024\x1b[31m", TRACE, time_us, None, "charge"
        ),
    ]
    start = RunStart(0, run_id, "orders", "v1", "OrderPlaced", time_us - 3_000_000)
    letter_id = uuid7(time_us // 1000, b"%010d" % number)
    named = ("orders", "charge", "OrderPlaced", event_id, "permanent", "CardExpired", "in 2024\x1b[31m")
    return start, records, DeadLetter(letter_id, 0, run_id, 1, *named, 2, time_us)


def fill(commit: Callable[[Batch], None], epoch: int, end: int, **fields: Any) -> list[str]:
    """Three dead letters, a minute, an hour and a day old; their ids, the newest first."""
    ids: list[str] = []
    for number, age_seconds in enumerate((60, 3700, 90_000)):
        start, records, letter = _records(number, time.time_ns() // 1000 - age_seconds * 1_000_000)
        batch = Batch(epoch, [Entry(end, end, len(records), pack_records(records))], [start._replace(run=end)])
        batch.dead.append(letter._replace(run=end, **(fields if number == 0 else {})))
        commit(batch)
        end += len(records)
        ids.append(format_id(letter.letter_id))
    return ids


def fill_store(store: str, **fields: Any) -> list[str]:
    """A store with three dead letters, as an engine leaves it that has stopped in order; their ids."""
    log = open_log(store)
    epoch = log.acquire("an engine")
    ids = fill(log.commit, epoch, log.next_offset(), **fields)
    log.define("orders", "v1", make_pipeline().graph().to_json().encode(), 1)
    log.release(epoch)
    log.close()
    return ids


def typed(capsys: pytest.CaptureFixture[str]) -> Ensue:
    """Run a command; returns the exit code, stdout and stderr."""

    def type_(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert isinstance(ended.value.code, int)
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return type_


@contextmanager
def served(engine: StandInEngine) -> Generator[str]:
    """A stand-in, served in a thread; its address."""
    phases: list[Served] = []
    ready, ends = threading.Event(), threading.Event()

    def observe(now: Served) -> None:
        phases.append(now)
        if now.phase is ServerPhase.READY:
            ready.set()

    async def serve() -> None:
        stop = asyncio.Event()
        serving = asyncio.create_task(serve_async(lambda: engine, port=0, environment={}, observe=observe, stop=stop))
        await asyncio.to_thread(ends.wait)
        stop.set()
        await serving

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(DEADLINE_SECONDS)
        yield phases[0].url
    finally:
        ends.set()
        thread.join(DEADLINE_SECONDS)
