"""SqliteReader: queries on a SQLite store. One read-only connection behind a lock; each query is a short transaction.

Rules: a reader never writes, never checkpoints and never leaves a statement open, so the writer's file can always be
reset.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import apsw

from ....events.errors import LogUnavailable
from ....events.state.run_status import Status
from ..protocol import AuditRow, DeadFilter, DeadLetter, Definition, Entry, Fact, RunRow
from .errors import translating
from .file import connect_reader
from .operations import (
    AUDIT,
    AUDIT_OF_SUBJECT,
    DEAD_DEPTH,
    DEAD_LETTER,
    OWNER,
    dead_letter,
    dead_query,
    read_facts,
)
from .rows import Row, fetch

__all__ = ["SqliteReader"]

_END = "SELECT offset + count FROM log ORDER BY offset DESC LIMIT 1"
_LAST = 2**63 - 1
_NEWEST = "ORDER BY run DESC LIMIT :limit"
_ALL = "SELECT * FROM runs WHERE run < :before"
# A partial index is used only where its own condition is said: `status <> 3`.
_OPEN = "SELECT * FROM runs INDEXED BY runs_open WHERE status <> 3 AND run < :before"
# What started, as if all were completed, and what is in any other status: 1,000,000 completed runs are one row.
_COUNTS = """
SELECT pipeline, 3, started FROM tally UNION ALL
SELECT pipeline, status, count(*) FROM runs INDEXED BY runs_open WHERE status <> 3 GROUP BY status, pipeline
"""


class SqliteReader:
    """The Reader of a SQLite store."""

    def __init__(self, path: str) -> None:
        self._path = str(Path(path).absolute())
        self._lock = Lock()
        self._connection: apsw.Connection | None = connect_reader(self._path)

    def run(self, run_id: bytes) -> RunRow | None:
        rows = self._rows("SELECT * FROM runs WHERE run_id = ?", (run_id,))
        return RunRow(*rows[0]) if rows else None

    def runs(
        self,
        *,
        pipeline: str | None = None,
        statuses: Sequence[int] | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        if statuses is not None and not statuses:
            return []
        bindings = {"pipeline": pipeline, "before": _LAST if before is None else before, "limit": max(limit, 0)}
        return [RunRow(*row) for row in self._rows(_runs_statement(pipeline, statuses), bindings)]

    def entries(self, run: int, after: int = 0) -> list[Entry]:
        rows = self._rows("SELECT * FROM log WHERE run = ? AND offset >= ? ORDER BY offset", (run, after))
        return [Entry(*row) for row in rows]

    def scan(self, after: int, limit: int) -> list[Entry]:
        rows = self._rows("SELECT * FROM log WHERE offset >= ? ORDER BY offset LIMIT ?", (after, max(limit, 0)))
        return [Entry(*row) for row in rows]

    def definitions(self, pipeline: str | None = None) -> list[Definition]:
        rows = self._rows(
            "SELECT pipeline, version, definition, time_us FROM definitions"
            " WHERE ?1 IS NULL OR pipeline = ?1 ORDER BY rowid",
            (pipeline,),
        )
        return [Definition(*row) for row in rows]

    def counts(self) -> dict[tuple[str, int], int]:
        return _with_completed(self._rows(_COUNTS))

    def next_offset(self) -> int:
        rows = self._rows(_END)
        return int(rows[0][0]) if rows else 1

    def facts(self, kind: str) -> list[Fact]:
        with self._lock, translating(self._path):
            return read_facts(self._open(), kind)

    def dead(self, wanted: DeadFilter, *, after: bytes | None = None, limit: int = 50) -> list[DeadLetter]:
        return [dead_letter(row) for row in self._rows(*dead_query(wanted, after, limit))]

    def dead_letter(self, letter_id: bytes) -> DeadLetter | None:
        rows = self._rows(DEAD_LETTER, (letter_id,))
        return dead_letter(rows[0]) if rows else None

    def dead_depth(self) -> dict[tuple[str, str], tuple[int, int]]:
        return {(pipeline, step): (count, oldest_us) for pipeline, step, count, oldest_us in self._rows(DEAD_DEPTH)}

    def audit(self, *, subject: str | None = None, limit: int = 100) -> list[AuditRow]:
        statement = AUDIT if subject is None else AUDIT_OF_SUBJECT
        return [AuditRow(*row) for row in self._rows(statement, {"subject": subject, "limit": max(limit, 0)})]

    def owner(self) -> tuple[int, str]:
        epoch, name = self._rows(OWNER)[0]
        return epoch, name

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _rows(self, statement: str, bindings: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
        with self._lock, translating(self._path):
            return fetch(self._open(), statement, bindings)

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise LogUnavailable(f"This reader of the store {self._path} is closed.")
        return self._connection


def _runs_statement(pipeline: str | None, statuses: Sequence[int] | None) -> str:
    """Completed runs are many: they are read newest first from the table. All others are found by the partial index."""
    of_pipeline = "AND pipeline = :pipeline" if pipeline is not None else ""
    if statuses is None or Status.COMPLETED in statuses:
        wanted = "" if statuses is None else f"AND status IN ({', '.join(str(int(status)) for status in statuses)})"
        return f"{_ALL} {of_pipeline} {wanted} {_NEWEST}"
    pages = (f"{_OPEN} AND status = {int(status)} {of_pipeline} {_NEWEST}" for status in dict.fromkeys(statuses))
    union = " UNION ALL ".join(f"SELECT * FROM ({page})" for page in pages)  # noqa: S608 numbers and our own words only
    return f"{union} {_NEWEST}"


def _with_completed(rows: list[Row]) -> dict[tuple[str, int], int]:
    """All counts: the completed runs of a pipeline are those that started and are in no other status."""
    counts: dict[tuple[str, int], int] = {}
    completed: Counter[str] = Counter()
    for pipeline, status, count in rows:
        completed[pipeline] += count if status == Status.COMPLETED else -count
        counts[pipeline, status] = count
    counts.update({(pipeline, int(Status.COMPLETED)): count for pipeline, count in completed.items()})
    return {key: count for key, count in counts.items() if count}
