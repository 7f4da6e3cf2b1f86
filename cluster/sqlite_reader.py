"""Queries on a SQLite store: one read-only connection behind a lock, each query a short transaction of its own.

A reader never writes, never checkpoints, and never leaves a statement open: the writer's file can always be reset.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import apsw

from ..events.errors import LogUnavailable
from ..events.status import Status
from .log import Definition, Entry, RunRow
from .sqlite_errors import translating
from .sqlite_file import connect_reader

__all__ = ["SqliteReader"]

_RUN = "SELECT run, run_id, pipeline, version, trigger_type, status, started_us, finished_us FROM runs"
_ENTRY = "SELECT offset, run, count, body FROM log"
_END = "SELECT offset + count FROM log ORDER BY offset DESC LIMIT 1"
_COUNTS = "SELECT pipeline, status, count(*) FROM runs INDEXED BY runs_open WHERE status <> 3 GROUP BY status, pipeline"


class SqliteReader:
    """The Reader of a SQLite store."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = Lock()
        self._connection: apsw.Connection | None = connect_reader(path)

    def run(self, run_id: bytes) -> RunRow | None:
        rows = self._rows(f"{_RUN} WHERE run_id = ?", run_id)
        return RunRow(*rows[0]) if rows else None

    def runs(
        self,
        *,
        pipeline: str | None = None,
        statuses: Sequence[int] | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        where, bindings = _filter(pipeline, statuses, before)
        rows = self._rows(f"{_RUN} {where} ORDER BY run DESC LIMIT ?", *bindings, max(limit, 0))
        return [RunRow(*row) for row in rows]

    def entries(self, run: int, after: int = 0) -> list[Entry]:
        rows = self._rows(f"{_ENTRY} WHERE run = ? AND offset >= ? ORDER BY offset", run, after)
        return [Entry(*row) for row in rows]

    def scan(self, after: int, limit: int) -> list[Entry]:
        rows = self._rows(f"{_ENTRY} WHERE offset >= ? ORDER BY offset LIMIT ?", after, max(limit, 0))
        return [Entry(*row) for row in rows]

    def definitions(self, pipeline: str | None = None) -> list[Definition]:
        rows = self._rows(
            "SELECT pipeline, version, definition, time_us FROM definitions"
            " WHERE ?1 IS NULL OR pipeline = ?1 ORDER BY rowid",
            pipeline,
        )
        return [Definition(*row) for row in rows]

    def counts(self) -> dict[tuple[str, int], int]:
        with self._lock, translating(self._path):
            connection = self._open()
            connection.execute("BEGIN")
            try:
                started: list[Any] = connection.execute("SELECT pipeline, started FROM tally").fetchall()
                others: list[Any] = connection.execute(_COUNTS).fetchall()
            finally:
                connection.execute("COMMIT")
        return _with_completed(dict(started), others)

    def end(self) -> int:
        rows = self._rows(_END)
        return int(rows[0][0]) if rows else 1

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _rows(self, statement: str, *bindings: Any) -> list[Any]:
        with self._lock, translating(self._path):
            return self._open().execute(statement, bindings).fetchall()

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise LogUnavailable(f"This reader of the store {self._path} is closed.")
        return self._connection


def _filter(pipeline: str | None, statuses: Sequence[int] | None, before: int | None) -> tuple[str, list[Any]]:
    """The WHERE of `runs`: `status <> 3` is said in words where it holds, so that the partial index may be used."""
    terms: list[str] = []
    bindings: list[Any] = []
    if pipeline is not None:
        terms.append("pipeline = ?")
        bindings.append(pipeline)
    if statuses is not None:
        terms.append(f"status IN ({', '.join('?' * len(statuses))})")
        bindings.extend(int(status) for status in statuses)
        if Status.COMPLETED not in statuses:
            terms.append("status <> 3")
    if before is not None:
        terms.append("run < ?")
        bindings.append(before)
    return (f"WHERE {' AND '.join(terms)}" if terms else ""), bindings


def _with_completed(started: dict[str, int], others: list[Any]) -> dict[tuple[str, int], int]:
    """All counts: the completed runs of a pipeline are those that are in no other status."""
    counts = {(str(pipeline), int(status)): int(count) for pipeline, status, count in others}
    completed = dict(started)
    for (pipeline, _), count in counts.items():
        completed[pipeline] -= count
    counts.update({(pipeline, int(Status.COMPLETED)): count for pipeline, count in completed.items() if count})
    return counts
