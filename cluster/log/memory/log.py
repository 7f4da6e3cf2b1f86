"""MemoryLog: the log in memory, for users' tests, for simulation and for runs that may be lost.

Rules: it keeps the rules of `Log` (epoch, offsets without gaps, all or nothing, dedup, snapshots), except durability. A
store outlives its logs, so a test can crash an engine and start another one on the same store.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from operator import attrgetter
from threading import Lock

from ....events.errors import LogCorrupt, LogUnavailable, StaleEpoch
from ....events.state.run_status import LIVE, Status
from ..protocol import (
    AuditRow,
    Batch,
    DeadFilter,
    DeadLetter,
    Definition,
    Durability,
    Entry,
    Fact,
    RunChange,
    RunRow,
    RunStart,
    Seen,
    Snapshot,
    end_after,
    snapshot_digest,
)
from .operations import MemoryOperations

__all__ = ["MemoryLog", "MemoryReader", "MemoryStore"]

_offset = attrgetter("offset")


@dataclass(slots=True)
class MemoryStore:
    """What a file is to the SQLite log. Everything in it is read and changed under `lock`."""

    lock: Lock = field(default_factory=Lock)
    epoch: int = 0
    owner: str = ""
    next_offset: int = 1
    entries: list[Entry] = field(default_factory=list[Entry])
    by_run: dict[int, list[Entry]] = field(default_factory=dict[int, list[Entry]])
    runs: dict[int, RunRow] = field(default_factory=dict[int, RunRow])
    run_ids: dict[bytes, int] = field(default_factory=dict[bytes, int])
    live: set[int] = field(default_factory=set[int])
    seen: dict[tuple[str, str], Seen] = field(default_factory=dict[tuple[str, str], Seen])
    snapshots: dict[int, tuple[bytes, bytes]] = field(default_factory=dict[int, tuple[bytes, bytes]])
    definitions: dict[tuple[str, str], Definition] = field(default_factory=dict[tuple[str, str], Definition])
    operations: MemoryOperations = field(default_factory=MemoryOperations)


class MemoryReader:
    """The Reader of a memory store."""

    def __init__(self, store: MemoryStore) -> None:
        self._store: MemoryStore | None = store

    def run(self, run_id: bytes) -> RunRow | None:
        store = self._open()
        with store.lock:
            run = store.run_ids.get(run_id)
            return None if run is None else store.runs[run]

    def runs(
        self,
        *,
        pipeline: str | None = None,
        statuses: Sequence[int] | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        store = self._open()
        with store.lock:
            rows = sorted(store.runs.values(), reverse=True)
        wanted = [
            row
            for row in rows
            if (pipeline is None or row.pipeline == pipeline)
            and (statuses is None or row.status in statuses)
            and (before is None or row.run < before)
        ]
        return wanted[: max(limit, 0)]

    def entries(self, run: int, after: int = 0) -> list[Entry]:
        store = self._open()
        with store.lock:
            return [entry for entry in store.by_run.get(run, ()) if entry.offset >= after]

    def scan(self, after: int, limit: int) -> list[Entry]:
        store = self._open()
        with store.lock:
            first = bisect_left(store.entries, after, key=_offset)
            return store.entries[first : first + max(limit, 0)]

    def definitions(self, pipeline: str | None = None) -> list[Definition]:
        store = self._open()
        with store.lock:
            rows = list(store.definitions.values())
        return [row for row in rows if pipeline in (None, row.pipeline)]

    def counts(self) -> dict[tuple[str, int], int]:
        store = self._open()
        with store.lock:
            return dict(Counter((row.pipeline, row.status) for row in store.runs.values()))

    def next_offset(self) -> int:
        return self._open().next_offset

    def facts(self, kind: str) -> list[Fact]:
        store = self._open()
        with store.lock:
            return store.operations.facts_of(kind)

    def dead(self, wanted: DeadFilter, *, after: bytes | None = None, limit: int = 50) -> list[DeadLetter]:
        store = self._open()
        with store.lock:
            return store.operations.page(wanted, after, limit)

    def dead_letter(self, letter_id: bytes) -> DeadLetter | None:
        store = self._open()
        with store.lock:
            return store.operations.dead.get(letter_id)

    def dead_depth(self) -> dict[tuple[str, str], tuple[int, int]]:
        store = self._open()
        with store.lock:
            return store.operations.depth()

    def audit(self, *, subject: str | None = None, limit: int = 100) -> list[AuditRow]:
        store = self._open()
        with store.lock:
            return store.operations.newest_audit(subject, limit)

    def owner(self) -> tuple[int, str]:
        store = self._open()
        with store.lock:
            return store.epoch, store.owner

    def close(self) -> None:
        self._store = None

    def _open(self) -> MemoryStore:
        if self._store is None:
            raise LogUnavailable("This reader of the memory store is closed.")
        return self._store


class MemoryLog:
    """The Log of a memory store: of a new one when none is given."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store if store is not None else MemoryStore()
        self._epoch = 0
        self._damaged = 0
        self._closed = False

    @property
    def durability(self) -> Durability:
        return "memory"

    @property
    def damaged_snapshots(self) -> int:
        return self._damaged

    def acquire(self, owner: str) -> int:
        store = self._open()
        with store.lock:
            store.epoch += 1
            store.owner = owner
            self._epoch = store.epoch
        return self._epoch

    def release(self, epoch: int) -> None:
        store = self._open()
        with store.lock:
            if store.epoch == epoch:
                store.owner = ""

    def owner(self) -> tuple[int, str]:
        store = self._open()
        with store.lock:
            return store.epoch, store.owner

    def facts(self, kind: str) -> list[Fact]:
        store = self._open()
        with store.lock:
            return store.operations.facts_of(kind)

    def commit(self, batch: Batch) -> None:
        store = self._open()
        with store.lock:
            _check_epoch(store, batch.epoch)
            end = end_after(batch.entries, store.next_offset)
            _check_runs(store, batch)
            _check_seen(store, batch.seen)
            store.operations.check(batch)
            _append(store, batch.entries, end)
            _start(store, batch.started)
            _change(store, batch.changed)
            store.seen.update(((row.source, row.sender_id), row) for row in batch.seen)
            store.operations.write(batch)

    def next_offset(self) -> int:
        return self._open().next_offset

    def lookup(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Seen]:
        seen = self._open().seen
        return {key: seen[key] for key in keys if key in seen}

    def forget(self, before_us: int, most: int) -> int:
        store = self._open()
        with store.lock:
            old = nsmallest(most, ((row.time_us, key) for key, row in store.seen.items() if row.time_us < before_us))
            for _, key in old:
                del store.seen[key]
        return len(old)

    def live(self, after: int = 0) -> Iterator[Entry]:
        store = self._open()
        with store.lock:
            found = [entry for run in store.live for entry in store.by_run.get(run, ()) if entry.offset >= after]
        return iter(sorted(found))

    def live_runs(self) -> Iterator[RunRow]:
        store = self._open()
        with store.lock:
            return iter([store.runs[run] for run in sorted(store.live)])

    def save_snapshot(self, snapshot: Snapshot) -> None:
        store = self._open()
        with store.lock:
            _check_epoch(store, self._epoch)
            if snapshot.offset > store.next_offset:
                raise LogCorrupt(
                    f"A snapshot as of offset {snapshot.offset} was refused: the log ends at {store.next_offset}."
                )
            store.snapshots[snapshot.offset] = (snapshot_digest(snapshot), snapshot.body)
            for offset in sorted(store.snapshots)[:-2]:
                del store.snapshots[offset]

    def snapshots(self) -> Iterator[Snapshot]:
        store = self._open()
        with store.lock:
            rows = sorted(store.snapshots.items(), reverse=True)
        self._damaged = 0
        return self._good_snapshots(rows)

    def define(self, pipeline: str, version: str, definition: bytes, time_us: int) -> None:
        store = self._open()
        with store.lock:
            store.definitions.setdefault((pipeline, version), Definition(pipeline, version, definition, time_us))

    def checkpoint(self) -> None:
        self._open()

    def reader(self) -> MemoryReader:
        return MemoryReader(self._open())

    def close(self) -> None:
        self._closed = True

    def _open(self) -> MemoryStore:
        if self._closed:
            raise LogUnavailable("This log on the memory store is closed.")
        return self.store

    def _good_snapshots(self, rows: Iterable[tuple[int, tuple[bytes, bytes]]]) -> Iterator[Snapshot]:
        for offset, (digest, body) in rows:
            snapshot = Snapshot(offset, body)
            if digest == snapshot_digest(snapshot):
                yield snapshot
            else:
                self._damaged += 1


def _check_epoch(store: MemoryStore, epoch: int) -> None:
    if epoch != store.epoch or not store.epoch:
        raise StaleEpoch(f"The memory store is at epoch {store.epoch}, this owner at {epoch}: it must stop.")


def _check_runs(store: MemoryStore, batch: Batch) -> None:
    """No run starts twice, and what changes is there."""
    runs = {start.run for start in batch.started}
    run_ids = {start.run_id for start in batch.started}
    twice = len(runs) < len(batch.started) or len(run_ids) < len(batch.started)
    if twice or runs & store.runs.keys() or run_ids & store.run_ids.keys():
        raise LogCorrupt("The batch was refused: it starts a run that is there already.")
    if any(change.run not in store.runs and change.run not in runs for change in batch.changed):
        raise LogCorrupt("The batch was refused: it changes a run that is not there.")


def _check_seen(store: MemoryStore, seen: Sequence[Seen]) -> None:
    keys = {(row.source, row.sender_id) for row in seen}
    if len(keys) < len(seen) or keys & store.seen.keys():
        raise LogCorrupt("The batch was refused: it accepts a sender's id that was accepted before.")


def _append(store: MemoryStore, entries: Sequence[Entry], end: int) -> None:
    store.entries.extend(entries)
    for entry in entries:
        store.by_run.setdefault(entry.run, []).append(entry)
    store.next_offset = end


def _start(store: MemoryStore, started: Sequence[RunStart]) -> None:
    for run, run_id, pipeline, version, trigger_type, started_us in started:
        row = RunRow(run, run_id, pipeline, version, trigger_type, Status.RUNNING, started_us, None)
        store.runs[run] = row
        store.run_ids[run_id] = run
        store.live.add(run)


def _change(store: MemoryStore, changed: Sequence[RunChange]) -> None:
    for run, status, finished_us in changed:
        store.runs[run] = store.runs[run]._replace(status=status, finished_us=finished_us)
        (store.live.add if status in LIVE else store.live.discard)(run)
