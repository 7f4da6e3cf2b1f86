"""What really happened in the demo: the log on disk after the kill, beside the journal that the steps wrote themselves.

Rules: nothing is taken from the engine's word. A delivery is known by its idempotency key, which the log implies and the
step was given; it *finished* where its result is in the log, and was *cut off* where only its attempt is.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...cluster.log.open import open_reader
from ...cluster.log.protocol import Reader
from ...events.ids import idempotency_key
from ...events.state.records import RecordKind, unpack_records
from ...events.state.run_status import Status

__all__ = ["Evidence", "Journal", "read_journal", "read_store"]

_MOST_RUNS = 500


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a store holds: runs that are over and that are not, deliveries that are finished and that are cut off."""

    over: int
    unfinished: int
    finished: frozenset[str]
    cut_off: frozenset[str]


@dataclass(frozen=True, slots=True)
class Journal:
    """How many attempts of each delivery began before a moment, and after it."""

    before: Counter[str]
    after: Counter[str]


def read_store(url: str) -> Evidence:
    """Read the store of an engine that is no more."""
    reader = open_reader(url)
    try:
        rows = reader.runs(limit=_MOST_RUNS)
        deliveries = [_deliveries(reader, row.run, row.run_id) for row in rows]
    finally:
        reader.close()
    live = sum(Status(row.status).live for row in rows)
    begun = {key for keys, _ in deliveries for key in keys}
    finished = {key for _, keys in deliveries for key in keys}
    return Evidence(len(rows) - live, live, frozenset(finished), frozenset(begun - finished))


def read_journal(path: Path, moment: float) -> Journal:
    """The attempts that the steps noted; `moment` in seconds since the epoch."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Journal(
        Counter(line["key"] for line in lines if line["time"] <= moment),
        Counter(line["key"] for line in lines if line["time"] > moment),
    )


def _deliveries(reader: Reader, run: int, run_id: bytes) -> tuple[set[str], set[str]]:
    """The keys of all deliveries of a run that began, and of those that finished."""
    keys: dict[int, str] = {}
    finished: set[str] = set()
    for entry in reader.entries(run):
        for record in unpack_records(entry.body):
            if record[0] == RecordKind.ATTEMPT:
                keys[record[1]] = idempotency_key(run_id, record[2], record[1].to_bytes(8, "big"))
            elif record[0] == RecordKind.DONE:
                finished.add(keys[record[1]])
    return set(keys.values()), finished
