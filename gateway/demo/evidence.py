"""The evidence of the demo: the log on disk after the kill, and the journal that the steps wrote themselves.

Rules: nothing is read through the API of the engine. A delivery is identified by its idempotency key, which follows
from the log and is passed to the step. It is *finished* if its result is in the log, *interrupted* if only its attempt
is.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ...cluster.log.open import open_reader
from ...cluster.log.protocol import Reader
from ...events.ids import idempotency_key
from ...events.state.records import AttemptRecord, DoneRecord, unpack_records
from ...events.state.run_status import Status

__all__ = ["Evidence", "Journal", "read_journal", "read_store"]

_MOST_RUNS = 500


@dataclass(frozen=True, slots=True)
class Evidence:
    """The contents of a store: ended and unfinished runs, finished and interrupted deliveries."""

    ended: int
    unfinished: int
    finished: frozenset[str]
    interrupted: frozenset[str]


@dataclass(frozen=True, slots=True)
class Journal:
    """The number of attempts of each delivery that began before a moment, and after it."""

    before: Counter[str]
    after: Counter[str]


def read_store(url: str) -> Evidence:
    """Read the store of an engine that was killed."""
    reader = open_reader(url)
    try:
        rows = reader.runs(limit=_MOST_RUNS)
        deliveries = [_deliveries(reader, row.run, row.run_id) for row in rows]
    finally:
        reader.close()
    live = sum(Status(row.status).live for row in rows)
    started = {key for keys, _ in deliveries for key in keys}
    finished = {key for _, keys in deliveries for key in keys}
    return Evidence(len(rows) - live, live, frozenset(finished), frozenset(started - finished))


def read_journal(path: Path, moment: float) -> Journal:
    """The attempts in the journal. `moment` is in seconds since the epoch."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return Journal(
        Counter(line["key"] for line in lines if line["time"] <= moment),
        Counter(line["key"] for line in lines if line["time"] > moment),
    )


def _deliveries(reader: Reader, run: int, run_id: bytes) -> tuple[set[str], set[str]]:
    """The keys of all started deliveries of a run, and of the finished ones."""
    keys: dict[int, str] = {}
    finished: set[str] = set()
    for entry in reader.entries(run):
        for record in unpack_records(entry.body):
            if isinstance(record, AttemptRecord):
                keys[record.delivery] = idempotency_key(run_id, record.step, record.delivery.to_bytes(8, "big"))
            elif isinstance(record, DoneRecord):
                finished.add(keys[record.delivery])
    return set(keys.values()), finished
