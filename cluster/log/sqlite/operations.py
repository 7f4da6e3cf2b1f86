"""The rows of a SQLite store for operators: facts, dead letters and the audit.

Rules:

1. They are written in the transaction of the batch that they belong to, never in one of their own.
2. A value never becomes part of a statement's text: a filter chooses among our own words, its values are bound.
3. Letters come newest first by (time_us, letter_id). A page begins after a letter, whatever state that letter is in.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from ....events.errors import LogCorrupt
from ..protocol import Batch, DeadFilter, DeadLetter, Fact, LetterSettled
from .rows import Many, Row, fetch

__all__ = [
    "AUDIT",
    "AUDIT_OF_SUBJECT",
    "DEAD_DEPTH",
    "DEAD_LETTER",
    "OWNER",
    "Query",
    "dead_letter",
    "dead_query",
    "read_facts",
    "write_operations",
]

OWNER = "SELECT epoch, name FROM owner"
AUDIT = "SELECT time_us, who, action, subject, detail FROM audit ORDER BY number DESC LIMIT :limit"
AUDIT_OF_SUBJECT = (
    "SELECT time_us, who, action, subject, detail FROM audit WHERE subject = :subject ORDER BY number DESC LIMIT :limit"
)
DEAD_LETTER = "SELECT * FROM dead WHERE letter_id = ?"
DEAD_DEPTH = """
SELECT pipeline, step, count(*), min(time_us) FROM dead INDEXED BY dead_step
WHERE state = 'open' GROUP BY pipeline, step
"""

_STORE_FACTS = Many("INSERT OR REPLACE INTO facts VALUES", "(?,?,?,?)")
_FORGET = Many("DELETE FROM facts WHERE (kind, name) IN (VALUES", "(?,?)", ")")
_ADD_LETTERS = Many("INSERT OR REPLACE INTO dead VALUES", "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")
_SETTLE = Many(
    "WITH new(letter_id, state) AS (VALUES",
    "(?,?)",
    ") UPDATE dead SET state = new.state FROM new WHERE dead.letter_id = new.letter_id",
)
_RECORD = Many("INSERT INTO audit (time_us, who, action, subject, detail) VALUES", "(?,?,?,?,?)")

_CONDITIONS = {
    "pipeline": "pipeline = :pipeline",
    "step": "step = :step",
    "kind": "kind = :kind",
    "error": "error = :error",
    "event_type": "event_type = :event_type",
    "run_id": "run_id = :run_id",
    "state": "state = :state",
    "before_us": "time_us < :before_us",
    "after_us": "time_us >= :after_us",
}
_IS_OPEN = "state = 'open'"  # a partial index is used only where its own condition is said
_BEHIND = "(time_us, letter_id) < (SELECT time_us, letter_id FROM dead WHERE letter_id = :after)"


class Query(NamedTuple):
    """A statement and what is bound to its names."""

    statement: str
    bindings: dict[str, Any]


def dead_query(wanted: DeadFilter, after: bytes | None, limit: int) -> Query:
    """One page of the dead letters that a filter wants."""
    asked: dict[str, Any] = {name: getattr(wanted, name) for name in _CONDITIONS}
    bindings = {name: value for name, value in asked.items() if value is not None}
    conditions = [_CONDITIONS[name] for name in bindings]
    if wanted.state == "open":
        conditions.append(_IS_OPEN)
    if after is not None:
        conditions.append(_BEHIND)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    statement = f"SELECT * FROM dead {where} ORDER BY time_us DESC, letter_id DESC LIMIT :limit"  # noqa: S608 our own words only
    return Query(statement, {**bindings, "after": after, "limit": max(limit, 0)})


def dead_letter(row: Row) -> DeadLetter:
    """The letter of a row: SQLite has no truth values, only numbers."""
    letter = DeadLetter(*row)
    return letter._replace(blocked=bool(letter.blocked))


def read_facts(connection: apsw.Connection, kind: str) -> list[Fact]:
    """All facts of a kind, by name."""
    return [Fact(*row) for row in fetch(connection, "SELECT * FROM facts WHERE kind = ? ORDER BY name", (kind,))]


def write_operations(connection: apsw.Connection, batch: Batch, path: str) -> None:
    """Write these rows of the batch, inside its transaction."""
    _write_facts(connection, batch.facts)
    _ADD_LETTERS.run(connection, batch.dead)
    _settle(connection, batch.settled, path)
    _RECORD.run(connection, batch.audit)


def _write_facts(connection: apsw.Connection, facts: Sequence[Fact]) -> None:
    """Of two facts of one name in one batch the last one stands, also when it is the one to forget."""
    last = {(fact.kind, fact.name): fact for fact in facts}
    _FORGET.run(connection, [name for name, fact in last.items() if fact.body is None])
    _STORE_FACTS.run(connection, [fact for fact in last.values() if fact.body is not None])


def _settle(connection: apsw.Connection, settled: Sequence[LetterSettled], path: str) -> None:
    last = list({letter.letter_id: letter for letter in settled}.values())
    before = connection.total_changes()
    _SETTLE.run(connection, last)
    if connection.total_changes() - before != len(last):
        raise LogCorrupt(f"A batch for the store {path} was refused: it settles a dead letter that is not there.")
