"""The SQLite file of a store: how it is created, recognised, migrated and opened.

Rules:

1. A file is ours when its `application_id` is APPLICATION_ID; another program's file is never written to.
2. `user_version` is the number of the newest migration in it. Creating is migrating from nothing.
3. A migration is one transaction. A file of a newer ensue is refused.
4. A new file is readable by its owner only; SQLite gives its -wal and -shm the same mode.
5. A SQLite with the WAL-reset bug (3.7.0 to 3.51.2), which can damage a store, opens none.
"""

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

import apsw

from ....events.errors import LogForeign, LogNewer, LogUnavailable
from .errors import transaction, translating
from .rows import STATEMENTS, fetch

__all__ = ["APPLICATION_ID", "connect_reader", "connect_writer", "migrations"]

APPLICATION_ID = 0x656E7375  # "ensu"
_BUSY_MILLISECONDS = 5_000
_SOUND = (3, 51, 3)
"""The first SQLite without the WAL-reset bug."""

# Measured on two cores, FULL, 16 and 256 runs a commit: throughput is the same within noise for pages of 4, 8 and
# 16 KiB, caches of 2, 16 and 64 MiB and with mmap, so those keep SQLite's defaults; only the cache is larger, to hold a
# large commit. The commit that checkpoints does differ: at 1,000 pages (4 MiB) it takes 4 to 13 ms, at 4,000 pages 12
# to 35 ms, at 16,000 pages 40 to 100 ms. So 1,000.
_WAL_PAGES = 1_000
_CACHE_SIZE = -8_192  # KiB, because it is negative
_WAL_KEPT_BYTES = 64 * 2**20  # a write-ahead file that a long reader has let grow is cut to this


@cache
def migrations() -> tuple[tuple[int, str], ...]:
    """The numbered scripts of `migrations/`, in order: (number, text)."""
    folder = files(__package__ or "") / "migrations"
    scripts = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return tuple((int(item.name.partition("_")[0]), item.read_text("utf-8")) for item in scripts)


def connect_writer(path: str, *, synchronous: str) -> apsw.Connection:
    """Open the store for its one writer, making or migrating it first.

    Raises LogUnavailable, LogForeign, LogNewer or LogCorrupt.
    """
    _make(Path(path))
    with translating(path):
        connection = apsw.Connection(path, apsw.SQLITE_OPEN_READWRITE, statementcachesize=STATEMENTS)
        try:
            _prepare_writer(connection, path, synchronous)
        except BaseException:
            connection.close()
            raise
    return connection


def connect_reader(path: str) -> apsw.Connection:
    """Open a store for reading only; it must be there, and it is neither made nor migrated nor checkpointed.

    Raises LogUnavailable, LogForeign, LogNewer or LogCorrupt.
    """
    _refuse_folder(Path(path))
    if not Path(path).exists():
        raise LogUnavailable(f"There is no store at {path}. Start the engine on it first, or correct the path.")
    with translating(path):
        connection = apsw.Connection(path, apsw.SQLITE_OPEN_READONLY)
        try:
            _guard(connection)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            _refuse_unready(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _make(path: Path) -> None:
    """See to it that there is a file: a new one is empty and 0600."""
    _refuse_folder(path)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError as failure:
        raise LogUnavailable(
            f"The folder of the store {path} does not exist. Make it, or choose another path."
        ) from failure
    except OSError as failure:
        raise LogUnavailable(
            f"The store {path} cannot be made ({failure.strerror}). Make its folder writable, or choose another path."
        ) from failure


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise LogUnavailable(f"The store {path} is a folder. Name a file in it, such as {path / 'ensue.db'}.")


def _prepare_writer(connection: apsw.Connection, path: str, synchronous: str) -> None:
    _guard(connection)
    if connection.readonly("main"):
        raise LogUnavailable(f"The store {path} is read-only. Make the file writable, or choose another path.")
    _refuse_foreign(connection, path)
    if connection.pragma("journal_mode", "wal") != "wal":
        raise LogUnavailable(f"The store {path} cannot have a write-ahead log there. Put it on a local disk.")
    connection.pragma("synchronous", synchronous)
    connection.pragma("fullfsync", 1)  # macOS: an fsync that reaches the disk
    connection.pragma("checkpoint_fullfsync", 1)
    connection.pragma("cache_size", _CACHE_SIZE)
    connection.pragma("journal_size_limit", _WAL_KEPT_BYTES)
    connection.wal_autocheckpoint(_WAL_PAGES)
    _migrate(connection, path)


def _guard(connection: apsw.Connection) -> None:
    """What every connection has: it waits for a lock, and trusts neither the schema nor the pages of the file."""
    _refuse_damaging()
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.pragma("cell_size_check", 1)


def _refuse_damaging() -> None:
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")[:3]) < _SOUND:
        raise LogUnavailable(
            f"The SQLite {version} that apsw brings can damage a store (its WAL-reset bug): install apsw 3.53 or newer."
        )


def _migrate(connection: apsw.Connection, path: str) -> None:
    for number, script in migrations():
        if _version(connection) >= number:
            continue
        with transaction(connection, path):
            if _version(connection) < number:  # another process may have been first
                connection.execute(script)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", number)


def _refuse_unready(connection: apsw.Connection, path: str) -> None:
    """A reader cannot migrate: the file must be ours and be up to date."""
    _refuse_foreign(connection, path)
    if _version(connection) < migrations()[-1][0]:
        raise LogUnavailable(
            f"The store {path} is empty or from an older ensue. Open it once with the engine, which migrates it."
        )


def _refuse_foreign(connection: apsw.Connection, path: str) -> None:
    connection.execute("BEGIN")  # one view of all three: another process may be migrating
    try:
        application, version = connection.pragma("application_id"), _version(connection)
        empty = not fetch(connection, "SELECT 1 FROM sqlite_schema LIMIT 1")
    finally:
        connection.execute("COMMIT")
    if application != APPLICATION_ID and (application or not empty):
        raise LogForeign(f"The store {path} is another program's database, so it is not touched. Choose another path.")
    if version > (known := migrations()[-1][0]):
        raise LogNewer(f"The store {path} has schema {version}, this ensue knows {known}. Upgrade ensue to open it.")


def _version(connection: apsw.Connection) -> int:
    version: int = connection.pragma("user_version")
    return version
