"""Bug 8: the WAL-reset corruption of SQLite: two checkpoints at once can lose a commit or damage the file.

Seen: SQLite 3.7.0 to 3.51.2. Two remedies: ensue opens no store with such a SQLite, and only the writer's connection
checkpoints.

Mutant: `_refuse_damaging()` dropped from `_guard` (cluster/log/sqlite/file.py); tried 2026-11-21: red.
Mutant: `_SOUND = (3, 51, 2)` in cluster/log/sqlite/file.py; tried 2026-11-21: red.
Mutant: `NO_CKPT_ON_CLOSE` dropped from `connect_reader` (cluster/log/sqlite/file.py); tried 2026-11-21: red,
by its setting alone, since a read-only connection does not checkpoint either.
Mutant: `connect_reader` opens with SQLITE_OPEN_READWRITE; tried 2026-11-21: red. Both together: red by the
bytes of the files.
"""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from ensue.cluster.log.open import open_reader
from ensue.cluster.log.protocol import DeadFilter
from ensue.cluster.log.sqlite.log import SqliteLog
from ensue.events.errors import LogUnavailable

from ..child_process import read_line, run_program, spawned
from ..conformance.logs import commit_run

pytestmark = pytest.mark.timeout(60)
RUNS = 20
READER = """
import sys
from ensue.cluster.log.protocol import DeadFilter
from ensue.cluster.log.open import open_reader

reader = open_reader(sys.argv[1])
print(reader.next_offset(), len(reader.runs()), len(reader.scan(1, 1000)), len(reader.dead(DeadFilter())))
reader.close()
"""
WRITER = """
import sys
from ensue.cluster.log.protocol import Batch, Entry, RunStart
from ensue.cluster.log.sqlite.log import SqliteLog

log = SqliteLog(sys.argv[1])
epoch = log.acquire("child")
for run in range(1, int(sys.argv[2]) + 1):
    start = RunStart(run, run.to_bytes(16, "big"), "p", "v", "T", run)
    log.commit(Batch(epoch, [Entry(run, run, 1, b"body")], [start]))
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ensue.db"


def files(path: Path) -> tuple[bytes, bytes]:
    """What the store and its write-ahead file hold."""
    return path.read_bytes(), Path(f"{path}-wal").read_bytes()


def test_the_sqlite_in_use_is_one_without_the_bug() -> None:
    assert tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3]) >= (3, 51, 3)


@pytest.mark.parametrize("version", ["3.7.0", "3.46.1", "3.51.2"])
def test_a_sqlite_with_the_bug_opens_no_store_and_says_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    SqliteLog(str(path)).close()
    before = path.read_bytes()
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    with pytest.raises(LogUnavailable, match=rf"SQLite {version} .*can damage.*apsw"):
        SqliteLog(str(path))
    with pytest.raises(LogUnavailable, match=rf"SQLite {version}"):
        open_reader(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", ["3.51.3", "3.52.0", "3.54.1", "4.0.0"])
def test_a_sqlite_without_the_bug_opens_a_store(path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: version)
    SqliteLog(str(path)).close()


@pytest.fixture
def killed(path: Path) -> Path:
    """A store whose writer was killed: all it wrote is in the write-ahead file, and no other process has it open."""
    command = [sys.executable, "-c", WRITER, str(path), str(RUNS)]
    with spawned(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert read_line(writer) == "written\n"
        os.kill(writer.pid, signal.SIGKILL)
    return path


def test_the_connection_of_a_reader_is_kept_from_a_checkpoint_twice_over(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        assert reader._open().readonly("main")
        assert reader._open().config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1) == 1


def test_a_reader_that_is_the_last_to_close_moves_nothing_out_of_the_write_ahead_file(killed: Path) -> None:
    before = files(killed)
    assert before[1]
    done = run_program([sys.executable, "-c", READER, f"sqlite:///{killed}"], check=True)
    assert done.stdout.split() == [str(RUNS + 1), str(RUNS), str(RUNS), "0"]
    assert files(killed) == before
    with closing(SqliteLog(str(killed))) as log:
        assert log.next_offset() == RUNS + 1


def test_readers_that_come_and_go_beside_a_writer_leave_both_files_to_it(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log:
        log._open().wal_autocheckpoint(0)
        epoch = log.acquire("writer")
        for _ in range(RUNS):
            commit_run(log, epoch)
            before = files(path)
            with closing(log.reader()) as reader:
                assert reader.next_offset() == log.next_offset()
                assert reader.dead(DeadFilter()) == []
                assert len(list(log.live())) == len(reader.runs())  # a stream has a connection of its own
            assert files(path) == before
        unmoved = path.read_bytes()
        log.checkpoint()
        assert path.read_bytes() != unmoved


@pytest.mark.parametrize("mode", [apsw.SQLITE_CHECKPOINT_PASSIVE, apsw.SQLITE_CHECKPOINT_TRUNCATE])
def test_the_connection_of_a_reader_cannot_checkpoint_even_when_told_to(path: Path, mode: int) -> None:
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        commit_run(log, log.acquire("writer"))
        before = files(path)
        with pytest.raises(apsw.Error):
            reader._open().wal_checkpoint(mode=mode)
        assert files(path) == before
