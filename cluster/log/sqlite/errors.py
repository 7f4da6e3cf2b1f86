"""SQLite's errors as ensue's: each names the file and says what to do.

Rules: a transaction either commits or leaves nothing: whatever ends its block early, a signal too, rolls it back.
"""

from collections.abc import Generator
from contextlib import contextmanager

import apsw

from ....events.errors import LogCorrupt, LogForeign, LogUnavailable

__all__ = ["transaction", "translated", "translating"]

# First match wins. The path goes before, SQLite's own words behind.
_MEANINGS: tuple[tuple[type[apsw.Error], type[LogUnavailable], str], ...] = (
    (apsw.FullError, LogUnavailable, "has no room left: nothing of this was written, free some disk space and go on"),
    (apsw.NotADBError, LogForeign, "is not a SQLite file, so it is not touched: choose another path for the store"),
    (apsw.CorruptError, LogCorrupt, "is damaged: stop, keep a copy, and restore the newest backup"),
    (apsw.ConstraintError, LogCorrupt, "refused a batch that contradicts what it holds: nothing of it was written"),
    (apsw.BusyError, LogUnavailable, "is being written by another process: stop that one or try again"),
    (apsw.ReadOnlyError, LogUnavailable, "is read-only: make the file and its folder writable, or choose another path"),
    (apsw.CantOpenError, LogUnavailable, "cannot be opened: make the file and its folder readable and writable"),
    (apsw.PermissionsError, LogUnavailable, "may not be read or written by this user: mend its permissions"),
    (apsw.IOError, LogUnavailable, "cannot be read or written: look at the disk under it, then try again"),
)
_OTHERWISE = "cannot be used now"


def translated(failure: apsw.Error, path: str) -> LogUnavailable:
    """The error of ensue that says the same."""
    for kind, error, meaning in _MEANINGS:
        if isinstance(failure, kind):
            return error(f"The store {path} {meaning} ({failure}).")
    return LogUnavailable(f"The store {path} {_OTHERWISE} ({failure}).")


@contextmanager
def translating(path: str) -> Generator[None]:
    """A block in which SQLite's errors are raised as ensue's."""
    try:
        yield
    except apsw.Error as failure:
        raise translated(failure, path) from failure


@contextmanager
def transaction(connection: apsw.Connection, path: str) -> Generator[None]:
    """A block that is one write transaction; raises LogUnavailable or LogCorrupt when SQLite refuses any of it."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException as failure:
        with translating(path):
            _roll_back(connection)
        if isinstance(failure, apsw.Error):
            raise translated(failure, path) from failure
        raise


def _roll_back(connection: apsw.Connection) -> None:
    """End the transaction if it is still open: after some failures SQLite has already rolled back by itself."""
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")
