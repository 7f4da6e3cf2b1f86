"""Every log there is, as stores that tests open and damage, and the rows that tests write into them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

from ensue.cluster.log.memory.log import MemoryLog, MemoryStore
from ensue.cluster.log.protocol import (
    Batch,
    DeadFilter,
    DeadLetter,
    Entry,
    Log,
    Reader,
    RunChange,
    RunStart,
    Seen,
)
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.state.run_status import LIVE, Status

__all__ = [
    "KINDS",
    "NOW_US",
    "Store",
    "commit_run",
    "entry",
    "letter",
    "letter_id",
    "log",
    "make_store",
    "observed",
    "reader",
    "run_id",
    "seen",
    "start",
    "store",
]

KINDS = ("memory", "full", "relaxed")
NOW_US = 1_700_000_000_000_000


@dataclass
class Store:
    """A store that outlives its logs, as a file does: `open` it as often as engines start on it."""

    open: Callable[[], Log]
    damage_snapshot: Callable[[int], None]  # flips the stored body of the snapshot with this offset


def make_store(kind: str, folder: Path) -> Store:
    return memory_store() if kind == "memory" else sqlite_store(folder / "ensue.db", kind)


def memory_store() -> Store:
    store = MemoryStore()

    def damage(offset: int) -> None:
        digest, body = store.snapshots[offset]
        store.snapshots[offset] = (digest, body + b"!")

    return Store(lambda: MemoryLog(store), damage)


def sqlite_store(path: Path, durability: str) -> Store:
    def damage(offset: int) -> None:
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE snapshots SET body = zeroblob(length(body)) WHERE offset = ?", (offset,))
        connection.close()

    return Store(lambda: SqliteLog(str(path), "full" if durability == "full" else "relaxed"), damage)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return make_store(request.param, tmp_path)


@pytest.fixture
def log(store: Store) -> Iterator[Log]:
    log = store.open()
    yield log
    log.close()


@pytest.fixture
def reader(log: Log) -> Iterator[Reader]:
    reader = log.reader()
    yield reader
    reader.close()


def run_id(run: int) -> bytes:
    return run.to_bytes(16, "big")


def start(run: int, pipeline: str = "orders") -> RunStart:
    return RunStart(run, run_id(run), pipeline, "v1", "OrderPlaced", NOW_US + run)


def entry(offset: int, run: int | None = None, count: int = 1) -> Entry:
    return Entry(offset, offset if run is None else run, count, b"body of %d" % offset)


def seen(sender_id: str, time_us: int = NOW_US) -> Seen:
    return Seen("hooks/github", sender_id, b"digest", run_id(1), run_id(2), time_us)


def letter_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def letter(number: int, pipeline: str = "orders", step: str = "charge", time_us: int | None = None) -> DeadLetter:
    """The dead letter of delivery 3 of run 1; `number` is all that tells it from others, and its age."""
    return DeadLetter(
        letter_id(number),
        1,
        run_id(1),
        3,
        pipeline,
        step,
        "OrderPlaced",
        run_id(2),
        "error",
        "ValueError",
        f"card {number}",
        4,
        NOW_US + number if time_us is None else time_us,
    )


def commit_run(log: Log, epoch: int, status: Status = Status.RUNNING, pipeline: str = "orders") -> int:
    """One run of one entry in one commit; returns its number."""
    run = log.next_offset()
    changed = [] if status is Status.RUNNING else [RunChange(run, status, None if status in LIVE else NOW_US)]
    log.commit(Batch(epoch, [entry(run)], [start(run, pipeline)], changed))
    return run


def observed(log: Log) -> tuple[object, ...]:
    """Everything that can be seen of a log."""
    reader = log.reader()
    rows = (log.next_offset(), reader.scan(0, 1000), reader.runs(limit=1000), reader.counts(), list(log.live()))
    operations = (reader.facts("breaker"), reader.dead(DeadFilter(state=None)), reader.dead_depth(), reader.audit())
    owner = reader.owner()
    reader.close()
    return (*rows, *operations, owner, log.lookup([("hooks/github", "1"), ("hooks/github", "2")]))
