"""What happens to a commit when the disk is full or fails, when another writes too, and when its process is killed."""

import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import apsw
import pytest

from ensue.cluster.log.protocol import AuditRow, Batch, DeadFilter, Entry, Fact, RunStart, Seen, Snapshot
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.errors import LogUnavailable

from ...child_process import read_line, spawned

WRITER = """
import sys
from ensue.cluster.log.protocol import AuditRow, Batch, DeadLetter, Entry, Fact, LetterSettled, RunStart, Snapshot
from ensue.cluster.log.sqlite.log import SqliteLog

def letter(run):
    name = run.to_bytes(16, "big")
    return DeadLetter(name, run, name, 0, "orders", "charge", "OrderPlaced", b"", "error", "E", "m", 1, run)

log = SqliteLog(sys.argv[1], sys.argv[2])
epoch = log.acquire("child")
while True:
    end = log.next_offset()
    runs = range(end, end + 5)
    started = [RunStart(run, run.to_bytes(16, "big"), "orders", "v1", "OrderPlaced", run) for run in runs]
    batch = Batch(epoch, [Entry(run, run, 1, bytes(2000)) for run in runs], started)
    batch.facts = [Fact("breaker", "last", b"%d" % runs[-1], end)]
    batch.dead = [letter(run) for run in runs]
    batch.settled = [LetterSettled(batch.dead[0].letter_id, "redriven")]
    batch.audit = [AuditRow(run, "ada", "did", "it", "") for run in runs]
    log.commit(batch)
    print(log.next_offset(), flush=True)
    if end % 100 == 1:
        log.save_snapshot(Snapshot(log.next_offset(), bytes(5000)))
        log.checkpoint()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ensue.db"


def one_run(epoch: int, run: int, body: bytes = b"body") -> Batch:
    return Batch(epoch, [Entry(run, run, 1, body)], [RunStart(run, run.to_bytes(16, "big"), "p", "v", "T", run)])


# Commits that cannot be written


def test_another_writer_in_the_middle_of_a_commit_is_waited_for_and_then_told(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log, closing(apsw.Connection(str(path))) as other:
        epoch = log.acquire("a")
        log._open().set_busy_timeout(1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailable, match="by another process"):
            log.commit(one_run(epoch, 1))
        other.execute("ROLLBACK")
        log.commit(one_run(epoch, 1))


def test_a_full_database_refuses_the_batch_whole_and_goes_on_when_there_is_room(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        epoch = log.acquire("a")
        log.commit(one_run(epoch, 1))
        pages = log._open().pragma("page_count")
        log._open().pragma("max_page_count", pages + 2)
        big = one_run(epoch, 2, bytes(100_000))
        big.seen.append(Seen("hook", "1", b"d", b"r", b"e", 1))
        big.facts.append(Fact("breaker", "card", bytes(100_000), 1))
        big.audit.append(AuditRow(1, "ada", "did", "it", ""))
        with pytest.raises(LogUnavailable, match=r"has no room left.*free some disk space"):
            log.commit(big)
        assert (log.next_offset(), reader.next_offset(), len(reader.runs()), log.lookup([("hook", "1")])) == (
            2,
            2,
            1,
            {},
        )
        assert (reader.facts("breaker"), reader.audit()) == ([], [])
        log._open().pragma("max_page_count", 1_000_000)
        log.commit(big)
        assert (log.next_offset(), reader.next_offset(), len(reader.runs())) == (3, 3, 2)


def test_a_disk_that_takes_no_more_bytes_refuses_the_batch_whole_and_goes_on_when_it_does(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        epoch = log.acquire("a")
        log.commit(one_run(epoch, 1))
        written = Path(f"{path}-wal").stat().st_size
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (written + 50_000, hard))
            with pytest.raises(LogUnavailable, match=r"has no room left|look at the disk"):
                log.commit(one_run(epoch, 2, bytes(500_000)))
            with pytest.raises(LogUnavailable):
                log.save_snapshot(Snapshot(2, bytes(500_000)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, before)
        assert (log.next_offset(), reader.next_offset(), list(log.snapshots())) == (2, 2, [])
        log.commit(one_run(epoch, 2, bytes(500_000)))
        assert (log.next_offset(), reader.next_offset()) == (3, 3)


def test_an_interrupt_in_the_middle_of_a_commit_leaves_nothing_of_it(path: Path) -> None:
    class Interrupting(list[Seen]):
        def __len__(self) -> int:
            raise KeyboardInterrupt

    with closing(SqliteLog(str(path))) as log:
        epoch = log.acquire("a")
        batch = one_run(epoch, 1)
        batch.seen = Interrupting()
        with pytest.raises(KeyboardInterrupt):
            log.commit(batch)
        assert log.next_offset() == 1
        log.commit(one_run(epoch, 1))


def test_owners_that_acquire_at_the_same_time_all_get_an_epoch_of_their_own(path: Path) -> None:
    def acquire(_: int) -> list[int]:
        with closing(SqliteLog(str(path))) as log:
            return [log.acquire("one of many") for _ in range(25)]

    with ThreadPoolExecutor(4) as pool:
        epochs = [epoch for found in pool.map(acquire, range(4)) for epoch in found]
    assert sorted(epochs) == list(range(1, 101))


# The disk itself, played by a file system of our own


@dataclass
class Disk:
    """Counts the syncs of each kind of file; a `fault` is raised instead of the call that it is for."""

    syncs: Counter[str] = field(default_factory=Counter[str])
    fault: dict[str, apsw.Error] = field(default_factory=dict[str, apsw.Error])

    def reached(self, call: str) -> None:
        if call in self.fault:
            raise self.fault[call]


class WatchedFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._kind = "wal" if flags[0] & apsw.SQLITE_OPEN_WAL else "store"

    def xSync(self, flags: int) -> None:  # noqa: N802 SQLite's name
        self._disk.reached("sync")
        self._disk.syncs[self._kind] += 1
        super().xSync(flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802 SQLite's name
        self._disk.reached("write")
        super().xWrite(data, offset)


class WatchedDisk(apsw.VFS):
    def __init__(self, disk: Disk) -> None:
        super().__init__("watched", "unix", makedefault=True)
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 SQLite's name
        return WatchedFile(self._disk, name, flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    system = WatchedDisk(disk)
    yield disk
    system.unregister()


@pytest.mark.parametrize(("durability", "syncs"), [("full", 1), ("relaxed", 0)])
def test_a_full_commit_has_reached_the_disk_when_it_returns(
    path: Path, disk: Disk, durability: Literal["full", "relaxed"], syncs: int
) -> None:
    with closing(SqliteLog(str(path), durability)) as log:
        epoch = log.acquire("a")
        for run in (1, 2, 3):
            disk.syncs.clear()
            log.commit(one_run(epoch, run))
            assert disk.syncs["wal"] == syncs


@pytest.mark.parametrize(
    ("call", "fault"),
    [("sync", apsw.IOError("EIO")), ("write", apsw.IOError("EIO")), ("write", apsw.FullError("ENOSPC"))],
)
def test_a_disk_that_fails_in_a_commit_leaves_nothing_of_it(
    path: Path, disk: Disk, call: str, fault: apsw.Error
) -> None:
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        epoch = log.acquire("a")
        log.commit(one_run(epoch, 1))
        disk.fault[call] = fault
        for _ in range(2):
            with pytest.raises(LogUnavailable, match=str(path)):
                log.commit(one_run(epoch, 2))
        with pytest.raises(LogUnavailable):
            log.acquire("b")
        assert (log.next_offset(), reader.next_offset(), len(reader.runs())) == (2, 2, 1)
        disk.fault.clear()
        log.commit(one_run(epoch, 2))
        assert (log.next_offset(), reader.next_offset(), len(reader.runs())) == (3, 3, 2)


# Kill -9


@pytest.mark.parametrize("durability", ["full", "relaxed"])
@pytest.mark.parametrize("acknowledged", [1, 40, 200])
def test_what_a_killed_writer_acknowledged_is_there_without_a_gap(
    path: Path, durability: str, acknowledged: int
) -> None:
    command = [sys.executable, "-c", WRITER, str(path), durability]
    with spawned(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        ends = [int(read_line(child)) for _ in range(acknowledged)]
        child.kill()
        ends += [int(line) for line in child.stdout if line.endswith("\n")]
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        assert log.acquire("next") == 2
        assert log.next_offset() >= ends[-1]
        assert (log.next_offset() - 1) % 5 == 0
        assert [entry.offset for entry in reader.scan(0, 10**6)] == list(range(1, log.next_offset()))
        assert len(reader.runs(limit=10**6)) == log.next_offset() - 1
        assert (
            len(reader.audit(limit=10**6))
            == len(reader.dead(DeadFilter(state=None), limit=10**6))
            == log.next_offset() - 1
        )
        assert reader.dead_depth()["orders", "charge"][0] == (log.next_offset() - 1) // 5 * 4
        assert [fact.body for fact in reader.facts("breaker")] == [b"%d" % (log.next_offset() - 1)]
        assert all(snapshot.offset <= log.next_offset() for snapshot in log.snapshots())
        assert log.damaged_snapshots == 0
        with closing(apsw.Connection(str(path))) as connection:
            assert connection.pragma("integrity_check") == "ok"
