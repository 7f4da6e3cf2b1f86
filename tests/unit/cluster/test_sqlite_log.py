"""What only a file can be: missing, a folder, foreign, newer, read-only or damaged; and how it is searched."""

import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import apsw
import pytest

from ensue.cluster.log.memory.log import MemoryLog
from ensue.cluster.log.open import open_log, open_reader
from ensue.cluster.log.protocol import AuditRow, Batch, DeadFilter, Entry, Fact, RunChange, RunStart, Seen, Snapshot
from ensue.cluster.log.sqlite.file import APPLICATION_ID, migrations
from ensue.cluster.log.sqlite.log import _LIVE, _LIVE_RUNS, SqliteLog
from ensue.cluster.log.sqlite.operations import AUDIT_OF_SUBJECT, DEAD_DEPTH, dead_query
from ensue.cluster.log.sqlite.reader import _COUNTS, _runs_statement
from ensue.cluster.log.sqlite.rows import Row, fetch
from ensue.events.errors import LogCorrupt, LogForeign, LogNewer, LogUnavailable
from ensue.events.state.run_status import Status

NOBODY = 65_534


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ensue.db"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user can reach: what pytest makes belongs to this user alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextmanager
def unprivileged() -> Generator[None]:
    """A block in which permissions hold, also for a test that runs as root."""
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


def one_run(epoch: int, run: int, body: bytes = b"body") -> Batch:
    return Batch(epoch, [Entry(run, run, 1, body)], [RunStart(run, run.to_bytes(16, "big"), "p", "v", "T", run)])


def make(path: Path, runs: int = 1) -> None:
    with closing(SqliteLog(str(path))) as log:
        epoch = log.acquire("a")
        for run in range(1, runs + 1):
            log.commit(one_run(epoch, run))


def schema(path: Path) -> list[Row]:
    with closing(apsw.Connection(str(path))) as connection:
        return fetch(connection, "SELECT name, sql FROM sqlite_schema ORDER BY 1")


def read_everything(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        log.acquire("a")
        list(log.live())
        reader.scan(0, 1000)
        reader.run(bytes(16))
        reader.counts()


# Making a store


def test_a_new_store_and_the_files_beside_it_belong_to_their_owner_alone(path: Path) -> None:
    with closing(SqliteLog(str(path))) as log:
        log.acquire("a")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes == dict.fromkeys(["ensue.db", "ensue.db-wal", "ensue.db-shm"], 0o600)


def test_a_new_store_is_marked_as_ours_and_writes_ahead(path: Path) -> None:
    make(path)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("application_id") == APPLICATION_ID == int.from_bytes(b"ensu", "big")
        assert connection.pragma("user_version") == migrations()[-1][0]
        assert connection.pragma("journal_mode") == "wal"


def test_migrations_are_numbered_without_a_gap_and_travel_with_the_package() -> None:
    names = sorted(item.name for item in (files("ensue.cluster.log.sqlite") / "migrations").iterdir())
    assert [number for number, _ in migrations()] == [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


def test_opening_a_store_again_changes_nothing_in_it(path: Path) -> None:
    make(path)
    before = schema(path)
    make(path, runs=0)
    assert schema(path) == before


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    make(path)
    with closing(open_reader(f"sqlite:///{path}")) as reader:
        assert reader.next_offset() == 2


def test_a_migration_that_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (*migrations(), (len(migrations()) + 1, "CREATE TABLE extra (x); CREATE TABLE extra (x);"))
    monkeypatch.setattr("ensue.cluster.log.sqlite.file.migrations", lambda: broken)
    with pytest.raises(LogUnavailable):
        SqliteLog(str(path))
    monkeypatch.undo()
    make(path)
    assert "extra" not in [name for name, _ in schema(path)]


def test_a_store_of_the_first_version_is_migrated_in_its_place_with_all_that_is_in_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = migrations()[:1]
    monkeypatch.setattr("ensue.cluster.log.sqlite.file.migrations", lambda: first)
    seen = Seen("hook", "1", b"digest", bytes(16), bytes(16), 1)
    with closing(SqliteLog(str(path))) as log:
        epoch = log.acquire("of the first version")
        for run in (1, 2, 3):
            log.commit(one_run(epoch, run))
        log.commit(Batch(epoch, changed=[RunChange(2, Status.COMPLETED, 9)], seen=[seen]))
        log.save_snapshot(Snapshot(4, b"state"))
        log.define("p", "v", b"{}", 1)
        with closing(log.reader()) as reader:
            before = (reader.scan(0, 9), reader.runs(), reader.counts(), reader.definitions())
    monkeypatch.undo()
    with pytest.raises(LogUnavailable, match="older ensue"):
        open_reader(f"sqlite:///{path}")
    with closing(SqliteLog(str(path))) as log, closing(log.reader()) as reader:
        assert (reader.scan(0, 9), reader.runs(), reader.counts(), reader.definitions()) == before
        assert (log.lookup([("hook", "1")]), list(log.snapshots())) == ({("hook", "1"): seen}, [Snapshot(4, b"state")])
        assert reader.owner() == (epoch, "of the first version")
        assert (reader.facts("breaker"), reader.dead(DeadFilter()), reader.audit()) == ([], [], [])
        fact, action = Fact("breaker", "card", b"open", 1), AuditRow(1, "ada", "breaker.open", "card", "")
        log.commit(Batch(log.acquire("b"), facts=[fact], audit=[action]))
        assert (reader.facts("breaker"), reader.audit()) == ([fact], [action])


def test_a_migrated_store_is_like_one_made_new(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = migrations()[:1]
    monkeypatch.setattr("ensue.cluster.log.sqlite.file.migrations", lambda: first)
    make(path)
    monkeypatch.undo()
    make(path, runs=0)
    make(path.with_name("new.db"))
    assert schema(path) == schema(path.with_name("new.db"))


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("relaxed", 1)])
def test_durability_is_what_sqlite_is_told(path: Path, durability: str, synchronous: int) -> None:
    with closing(open_log(f"sqlite:///{path}?durability={durability}")) as log:
        assert isinstance(log, SqliteLog)
        assert log.durability == durability
        assert log._open().pragma("synchronous") == synchronous


# URLs


def test_three_slashes_are_relative_and_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_log("sqlite:///relative.db").close()
    open_log(f"sqlite:///{tmp_path}/absolute.db").close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["absolute.db", "relative.db"]


def test_memory_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = open_log("memory://")
    assert isinstance(log, MemoryLog)
    assert log.durability == "memory"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://localhost/ensue", "Postgres log is not in this version"),
        ("redis://localhost", "no known kind"),
        ("ensue.db", "no known kind"),
        ("", "no known kind"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://ensue.db", "names no file"),
        ("sqlite:///x.db?durability=none", "use full or relaxed"),
        ("sqlite:///x.db?durability=", "use full or relaxed"),
        ("sqlite:///x.db?mode=ro", "unknown option 'mode'"),
    ],
)
def test_a_url_that_names_no_store_is_refused_in_words(
    url: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for opener in (open_log, open_reader):
        with pytest.raises(LogUnavailable, match=says):
            opener(url)
    assert list(tmp_path.iterdir()) == []


# Stores that cannot be opened


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(LogUnavailable, match=r"The folder of the store .*missing/ensue\.db does not exist"):
        SqliteLog(str(tmp_path / "missing" / "ensue.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_a_store(tmp_path: Path) -> None:
    for opener in (open_log, open_reader):
        with pytest.raises(LogUnavailable, match="is a folder"):
            opener(f"sqlite:///{tmp_path}")


def test_a_folder_that_may_not_be_written_is_refused(public: Path) -> None:
    public.chmod(0o555)
    with unprivileged(), pytest.raises(LogUnavailable, match=r"cannot be made \(Permission denied\)"):
        SqliteLog(str(public / "ensue.db"))


def test_a_file_that_may_not_be_written_is_refused(public: Path) -> None:
    make(public / "ensue.db")
    (public / "ensue.db").chmod(0o444)
    with unprivileged(), pytest.raises(LogUnavailable, match="is read-only"):
        SqliteLog(str(public / "ensue.db"))


def test_a_file_that_may_not_be_read_is_refused(public: Path) -> None:
    make(public / "ensue.db")
    (public / "ensue.db").chmod(0o000)
    for opener in (open_log, open_reader):
        with unprivileged(), pytest.raises(LogUnavailable, match="cannot be opened"):
            opener(f"sqlite:///{public}/ensue.db")


def test_a_file_in_a_folder_that_may_not_be_written_is_refused(public: Path) -> None:
    make(public / "ensue.db")
    (public / "ensue.db").chmod(0o666)
    public.chmod(0o555)
    with unprivileged(), pytest.raises(LogUnavailable, match="its folder"):
        SqliteLog(str(public / "ensue.db"))


def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_text("Dear diary, " * 500)
    before = path.read_bytes()
    for opener in (open_log, open_reader):
        with pytest.raises(LogForeign, match="is not a SQLite file"):
            opener(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (x)", "PRAGMA application_id = 7"])
def test_another_programs_database_is_left_as_it_is(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)
        connection.commit()
    before = path.read_bytes()
    for opener in (open_log, open_reader):
        with pytest.raises(LogForeign, match="another program's"):
            opener(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["ensue.db"]


def test_a_store_of_a_newer_ensue_is_refused(path: Path) -> None:
    make(path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("user_version", 999)
    for opener in (open_log, open_reader):
        with pytest.raises(LogNewer, match=r"has schema 999, this ensue knows \d+\. Upgrade ensue"):
            opener(f"sqlite:///{path}")


def test_a_reader_does_not_migrate_an_older_store(path: Path) -> None:
    make(path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.pragma("user_version", 0)
    with pytest.raises(LogUnavailable, match="older ensue"):
        open_reader(f"sqlite:///{path}")


def test_a_reader_of_nothing_makes_nothing(path: Path) -> None:
    with pytest.raises(LogUnavailable, match="There is no store at"):
        open_reader(f"sqlite:///{path}")
    assert not path.exists()


def test_a_reader_can_write_nothing(path: Path) -> None:
    make(path)
    with closing(open_reader(f"sqlite:///{path}")) as reader, pytest.raises(apsw.ReadOnlyError):
        reader._open().execute("DELETE FROM log")  # type: ignore[attr-defined]


def test_a_reader_goes_on_while_the_writer_closes_and_opens_again(path: Path) -> None:
    make(path)
    with closing(open_reader(f"sqlite:///{path}")) as reader:
        assert reader.next_offset() == 2
        with closing(SqliteLog(str(path))) as log:
            log.commit(one_run(log.acquire("b"), 2))
            assert reader.next_offset() == 3
        assert reader.next_offset() == 3


@pytest.mark.parametrize("page", [2, 3, 5])
def test_a_damaged_page_is_told_and_never_read_as_truth(path: Path, page: int) -> None:
    make(path, runs=200)
    with path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(LogCorrupt, match="is damaged"):
        read_everything(path)


def test_a_file_cut_short_is_told(path: Path) -> None:
    make(path, runs=500)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(LogCorrupt, match="is damaged"):
        read_everything(path)


# Queries that stay quick in a large store


def _dead(after: bytes | None = None, **wanted: Any) -> str:
    return dead_query(DeadFilter(**wanted), after, 5).statement


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (_runs_statement(None, [4, 5]), "USING INDEX runs_open (status=? AND run<?)"),
        (_runs_statement("p", [1]), "USING INDEX runs_open (status=? AND run<?)"),
        (_runs_statement("p", None), "USING INDEX runs_pipeline (pipeline=? AND run<?)"),
        (_runs_statement("p", [3]), "USING INDEX runs_pipeline (pipeline=? AND run<?)"),
        (_runs_statement(None, None), "USING INTEGER PRIMARY KEY (rowid<?)"),
        (_COUNTS, "USING COVERING INDEX runs_open"),
        (_LIVE, "USING COVERING INDEX log_run (run=? AND rowid>?)"),
        (_LIVE_RUNS, "USING COVERING INDEX runs_open (status=?)"),
        (_dead(), "USING INDEX dead_open"),
        (_dead(error="E", kind="k"), "USING INDEX dead_open"),
        (_dead(before_us=9, after_us=1), "USING INDEX dead_open (time_us>? AND time_us<?)"),
        (_dead(pipeline="p", step="s"), "USING INDEX dead_step (pipeline=? AND step=?)"),
        (_dead(pipeline="p", step="s", before_us=9), "USING INDEX dead_step (pipeline=? AND step=? AND time_us<?)"),
        (_dead(state=None), "USING INDEX dead_time"),
        (_dead(state="redriven", before_us=9), "USING INDEX dead_time (time_us<?)"),
        (_dead(run_id=bytes(16), state=None), "USING INDEX dead_run (run_id=?)"),
        (_dead(after=bytes(16)), "USING INDEX dead_open ((time_us,letter_id)<(?,?))"),
        (DEAD_DEPTH, "USING COVERING INDEX dead_step"),
        (AUDIT_OF_SUBJECT, "USING INDEX audit_subject (subject=?)"),
    ],
)
def test_a_query_goes_by_its_index(path: Path, statement: str, index: str) -> None:
    make(path)
    names = dict.fromkeys(re.findall(r":(\w+)", statement), 1)
    bindings = names or (1,) * statement.count("?")
    with closing(apsw.Connection(str(path))) as connection:
        plan = [row[3] for row in fetch(connection, f"EXPLAIN QUERY PLAN {statement}", bindings)]
    assert any(index in line for line in plan), plan
    assert not [line for line in plan if line in ("SCAN runs", "SCAN log", "SCAN dead")], plan
