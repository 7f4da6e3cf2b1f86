"""Log: the append-only, durable record of every run. Everything else can be rebuilt from it.

Rules:

1. One writer for one epoch (fencing token). `acquire` increments the epoch durably; a commit with another epoch is
   refused.
2. Offsets begin at 1 and have no gap: an entry begins where the previous one ended.
3. A commit is one transaction. If it returns, all of it is durable (as far as `durability` says); if it raises, none
   of it is visible to any reader.
4. A row of the dedup table is written in the same commit as what it guards, and once only.
5. Bodies are opaque: the log stores bytes and never looks inside.
6. Readers see committed data only, and never block the writer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple, Protocol

from ...events.errors import LogCorrupt
from ...events.state.records import Entry
from ...events.state.rows import AuditRow, DeadLetter, Fact, LetterSettled

__all__ = [
    "AuditRow",
    "Batch",
    "DeadFilter",
    "DeadLetter",
    "Definition",
    "Durability",
    "Entry",
    "Fact",
    "LetterSettled",
    "Log",
    "Reader",
    "RunChange",
    "RunRow",
    "RunStart",
    "Seen",
    "Snapshot",
    "end_after",
    "snapshot_digest",
]

Durability = Literal["full", "relaxed", "memory"]


class RunStart(NamedTuple):
    """The index row of a new run; its status is RUNNING. `run_id` is a UUIDv7, 16 bytes."""

    run: int
    run_id: bytes
    pipeline: str
    version: str
    trigger_type: str
    started_us: int


class RunChange(NamedTuple):
    """The new status of a run; `finished_us` is None while it is live."""

    run: int
    status: int
    finished_us: int | None


class Seen(NamedTuple):
    """A dedup row: a sender's id was accepted, with this digest of its body, as this event of this run."""

    source: str
    sender_id: str
    digest: bytes
    run_id: bytes
    event_id: bytes
    time_us: int


class RunRow(NamedTuple):
    """A run as the index knows it; times are microseconds since the epoch of Unix."""

    run: int
    run_id: bytes
    pipeline: str
    version: str
    trigger_type: str
    status: int
    started_us: int
    finished_us: int | None


class Definition(NamedTuple):
    """One version of a pipeline. definition: the JSON of its graph."""

    pipeline: str
    version: str
    definition: bytes
    time_us: int


class Snapshot(NamedTuple):
    """The state after all records with an offset below `offset`."""

    offset: int
    body: bytes


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters: None of a field means any. before_us and after_us: `time_us` below, at or above."""

    pipeline: str | None = None
    step: str | None = None
    kind: str | None = None
    error: str | None = None
    event_type: str | None = None
    run_id: bytes | None = None
    state: str | None = "open"
    before_us: int | None = None
    after_us: int | None = None


@dataclass(slots=True)
class Batch:
    """What one commit writes, all or nothing, in the order of the fields.

    A batch that settles a letter or changes a run that does not exist is refused.
    """

    epoch: int
    entries: list[Entry] = field(default_factory=list[Entry])
    started: list[RunStart] = field(default_factory=list[RunStart])
    changed: list[RunChange] = field(default_factory=list[RunChange])
    seen: list[Seen] = field(default_factory=list[Seen])
    facts: list[Fact] = field(default_factory=list[Fact])
    dead: list[DeadLetter] = field(default_factory=list[DeadLetter])
    settled: list[LetterSettled] = field(default_factory=list[LetterSettled])
    audit: list[AuditRow] = field(default_factory=list[AuditRow])


class Reader(Protocol):
    """The reading side: its own connection, usable from any thread, committed data only.

    Every method raises LogUnavailable when the store cannot be read and LogCorrupt when it is damaged.
    """

    def run(self, run_id: bytes) -> RunRow | None:
        """The run of this id, or None."""
        ...

    def runs(
        self,
        *,
        pipeline: str | None = None,
        statuses: Sequence[int] | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[RunRow]:
        """At most `limit` runs, newest first; `before` is the `run` of the last row of the page before."""
        ...

    def entries(self, run: int, after: int = 0) -> list[Entry]:
        """The entries of one run whose offset is at least `after`, in offset order."""
        ...

    def scan(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` entries of all runs whose offset is at least `after`, in offset order."""
        ...

    def definitions(self, pipeline: str | None = None) -> list[Definition]:
        """The definitions of one pipeline or of all, oldest first."""
        ...

    def counts(self) -> dict[tuple[str, int], int]:
        """How many runs each (pipeline, status) has; pairs without runs are left out."""
        ...

    def next_offset(self) -> int:
        """The offset that the next record will have."""
        ...

    def facts(self, kind: str) -> list[Fact]:
        """All facts of a kind, by name."""
        ...

    def dead(self, wanted: DeadFilter, *, after: bytes | None = None, limit: int = 50) -> list[DeadLetter]:
        """At most `limit` dead letters, newest first; `after` is the id of the last one of the page before."""
        ...

    def dead_letter(self, letter_id: bytes) -> DeadLetter | None:
        """The dead letter of this id, whatever its state, or None."""
        ...

    def dead_depth(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By (pipeline, step): how many dead letters are open, and the time of the oldest (microseconds)."""
        ...

    def audit(self, *, subject: str | None = None, limit: int = 100) -> list[AuditRow]:
        """The newest audit rows first, of one subject or of all."""
        ...

    def owner(self) -> tuple[int, str]:
        """The epoch of the log, and the name of its owner; the name is empty if the last owner released the log."""
        ...

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        ...


class Log(Protocol):
    """The writing side, for one owner in one thread.

    Every method raises LogUnavailable when the store cannot be used now: nothing was changed, and the same log may
    be tried again. LogCorrupt means that the store, or the call, breaks the rules above.
    """

    @property
    def durability(self) -> Durability:
        """What a commit survives: `full` a power cut, `relaxed` a crash of the process, `memory` neither."""
        ...

    @property
    def damaged_snapshots(self) -> int:
        """How many damaged snapshots the last call of `snapshots` has skipped so far."""
        ...

    def acquire(self, owner: str) -> int:
        """Take the log over: increment the epoch durably and return it. Earlier owners can commit nothing more."""
        ...

    def release(self, epoch: int) -> None:
        """Release the log: clear the owner's name, unless a newer epoch has taken the log over."""
        ...

    def owner(self) -> tuple[int, str]:
        """As `Reader.owner`; before `acquire` it is the previous owner."""
        ...

    def facts(self, kind: str) -> list[Fact]:
        """As `Reader.facts`."""
        ...

    def commit(self, batch: Batch) -> None:
        """Write the batch in one transaction.

        Raises StaleEpoch when `batch.epoch` is not the epoch of the log, and LogCorrupt when the offsets leave a gap,
        a run is started twice, a run or a letter that does not exist is changed, or a dedup row is there already.
        """
        ...

    def next_offset(self) -> int:
        """The offset that the next record must have."""
        ...

    def lookup(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Seen]:
        """The dedup rows of those of these (source, sender id) that have one."""
        ...

    def forget(self, before_us: int, most: int) -> int:
        """Delete the dedup rows older than this, the oldest first and at most so many; returns how many."""
        ...

    def live(self, after: int = 0) -> Iterator[Entry]:
        """The entries of runs that are not finished, from offset `after` on, in offset order, as of the first step."""
        ...

    def live_runs(self) -> Iterator[RunRow]:
        """The runs that are not finished, oldest first."""
        ...

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store a snapshot with a checksum; the two newest are kept.

        Raises StaleEpoch when another owner has taken the log, LogCorrupt for a snapshot beyond the end of the log.
        """
        ...

    def snapshots(self) -> Iterator[Snapshot]:
        """The snapshots, newest first; damaged ones are skipped and counted in `damaged_snapshots`."""
        ...

    def define(self, pipeline: str, version: str, definition: bytes, time_us: int) -> None:
        """Store this version of a pipeline; the first definition of a version is kept."""
        ...

    def checkpoint(self) -> None:
        """Move the write-ahead file into the store as far as readers allow, without waiting for them."""
        ...

    def reader(self) -> Reader:
        """A new reader of the same store."""
        ...

    def close(self) -> None:
        """Release all resources; a second call does nothing."""
        ...


def end_after(entries: Sequence[Entry], end: int) -> int:
    """The next offset after these entries, the first of which has to begin at `end`.

    Raises:
        LogCorrupt: they leave a gap, overlap or are empty.
    """
    for offset, run, count, _ in entries:
        if offset != end or count < 1 or run > offset:
            raise LogCorrupt(
                f"The batch was refused: the next record must have offset {end}, but an entry of {count} records "
                f"of run {run} says {offset}."
            )
        end += count
    return end


def snapshot_digest(snapshot: Snapshot) -> bytes:
    """The checksum that is stored beside a snapshot: 16 bytes over its offset and its body."""
    digest = blake2b(snapshot.body, digest_size=16, key=snapshot.offset.to_bytes(8, "big"))
    return digest.digest()
