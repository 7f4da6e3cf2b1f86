"""The judge: reads the log with ensue's own reader, beside what was acknowledged and what was done outside.

Rules: the log is the only evidence from the engine. Every acknowledged id is one run, which is completed; each of its
deliveries is done once; its results are stored once; offsets have no gap; events of a key were booked in the order of
the log; the side effect outside was made for every run, and repeated only under the same idempotency key.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensue.cluster.log.open import open_reader
from ensue.cluster.log.protocol import Entry, Reader
from ensue.events.ids import format_id, idempotency_key
from ensue.events.model.codec import unpack
from ensue.events.state.records import (
    AttemptRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    Record,
    RunRecord,
    unpack_records,
)
from ensue.events.state.run_status import Status

from .client import SOURCE

__all__ = ["Findings", "judge"]

_PAGE = 20_000
_EMITTED = {"Order": 1, "Part": 2, "Weighed": 2, "Entry": 1, "Booked": 1, "Closed": 1}
"""The events of one completed run."""
_MAX_BYTES = 1 << 20
_SHOWN = 20


@dataclass(slots=True)
class Findings:
    """What the judge found. faults: what breaks a promise, in words, at most a few of each; `counts` has them all."""

    runs: int = 0
    completed: int = 0
    records: int = 0
    attempts: int = 0
    crashed: int = 0
    outside: int = 0
    outside_repeated: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    faults: list[str] = field(default_factory=list[str])

    def fault(self, kind: str, text: str) -> None:
        """A promise that was broken."""
        self.counts[kind] += 1
        if self.counts[kind] <= _SHOWN:
            self.faults.append(f"{kind}: {text}")

    @property
    def lost(self) -> int:
        """Acknowledged and not there, not completed, or not done outside."""
        return self.counts["lost"]

    @property
    def doubled(self) -> int:
        """Applied twice."""
        return self.counts["twice"]


@dataclass(slots=True)
class _Run:
    """A run while its records are read."""

    run_id: bytes
    sender_id: str
    n: int = 0
    account: str = ""
    entered: int = 0
    events: Counter[str] = field(default_factory=Counter[str])
    event_ids: set[bytes] = field(default_factory=set[bytes])
    steps: dict[int, str] = field(default_factory=dict[int, str])
    done: Counter[int] = field(default_factory=Counter[int])


def judge(store: str, ledger: Path, acknowledged: dict[str, str]) -> Findings:
    """Judge a store that has no writer any more; `acknowledged`: the run of each sender's id."""
    findings = Findings()
    trial = _Trial(findings, acknowledged, _read_ledger(ledger, findings))
    reader = open_reader(store)
    try:
        for entry in _entries(reader, findings):
            trial.hear(entry)
        trial.close(reader)
    finally:
        reader.close()
    return findings


class _Trial:
    """The log, folded run by run."""

    def __init__(self, findings: Findings, acknowledged: dict[str, str], booked: dict[int, tuple[str, int]]) -> None:
        self._findings = findings
        self._acknowledged = acknowledged
        self._booked = booked
        self._live: dict[int, _Run] = {}
        self._ended: set[str] = set()
        self._keys: dict[str, tuple[int, int]] = {}

    def hear(self, entry: Entry) -> None:
        """One entry, in the order of the log."""
        for place, record in enumerate(unpack_records(entry.body)):
            self._findings.records += 1
            self._fold(entry, record, entry.offset + place)

    def close(self, reader: Reader) -> None:
        """What is left when the log is read."""
        for run in self._live.values():
            self._findings.fault("lost", f"{run.sender_id} is not at its end")
        for sender_id in self._acknowledged.keys() - self._ended:
            if not any(run.sender_id == sender_id for run in self._live.values()):
                self._findings.fault("lost", f"{sender_id} was acknowledged and is not in the log")
        counted = {Status(status): count for (_, status), count in reader.counts().items()}
        if counted.get(Status.COMPLETED, 0) != self._findings.completed or len(counted) > 1:
            self._findings.fault("index", f"the log has {self._findings.completed} completed runs, the index {counted}")

    def _fold(self, entry: Entry, record: Record, offset: int) -> None:
        if isinstance(record, RunRecord):
            self._live[entry.run] = self._begun(record)
            return
        run = self._live.get(entry.run)
        if run is None:
            self._findings.fault("stray", f"a record of kind {record.kind} at {entry.offset} belongs to no living run")
        elif isinstance(record, EventRecord):
            self._event(run, record, offset)
        elif isinstance(record, AttemptRecord):
            run.steps[record.delivery] = record.step
            self._findings.attempts += 1
        elif isinstance(record, DoneRecord):
            run.done[record.delivery] += 1
            if run.steps[record.delivery] == "book":
                self._in_order(run)
        elif isinstance(record, CrashedRecord):
            self._findings.crashed += 1
        elif isinstance(record, EndedRecord):
            self._over(self._live.pop(entry.run), record)

    def _begun(self, record: RunRecord) -> _Run:
        self._findings.runs += 1
        if record.source != f"events/{record.pipeline}/{SOURCE}":
            self._findings.fault("stray", f"a run of {record.source}, which was never acknowledged")
        return _Run(record.run_id, record.sender_id or "")

    def _event(self, run: _Run, record: EventRecord, offset: int) -> None:
        name = record.type
        run.events[name] += 1
        if record.event_id in run.event_ids:
            self._findings.fault("twice", f"{run.sender_id} has an event {name} twice")
        run.event_ids.add(record.event_id)
        if name == "Order":
            order: Any = unpack(record.data, _MAX_BYTES)
            run.n, run.account = order["n"], order["account"]
        elif name == "Entry":
            run.entered = offset

    def _in_order(self, run: _Run) -> None:
        """The entries of an account are booked in the order of the log, and marked outside in that order too."""
        booked, marked = self._keys.get(run.account, (0, -1))
        mark = self._booked.get(run.n, ("", -1))[1]
        if run.entered <= booked or mark <= marked:
            text = f"at {run.entered}, line {mark}, was done after the one at {booked}, line {marked}"
            self._findings.fault("order", f"{run.sender_id} of {run.account}, {text}")
        self._keys[run.account] = (run.entered, mark)

    def _over(self, run: _Run, record: EndedRecord) -> None:
        findings = self._findings
        if run.sender_id in self._ended:
            findings.fault("twice", f"{run.sender_id} has two runs")
        self._ended.add(run.sender_id)
        findings.completed += record.status == Status.COMPLETED
        if record.status != Status.COMPLETED:
            findings.fault("lost", f"{run.sender_id} ended {Status(record.status).wire}")
        elif run.events != _EMITTED:
            findings.fault(
                "twice" if run.events > Counter(_EMITTED) else "lost", f"{run.sender_id}: {dict(run.events)}"
            )
        if any(count != 1 for count in run.done.values()) or set(run.done) != set(run.steps):
            findings.fault("twice", f"{run.sender_id}: deliveries done {dict(run.done)}, begun {run.steps}")
        said = self._acknowledged.get(run.sender_id)
        if said not in (None, format_id(run.run_id)):
            findings.fault("twice", f"{run.sender_id} was acknowledged as {said} and is {format_id(run.run_id)}")
        self._outside(run)

    def _outside(self, run: _Run) -> None:
        booking = next((number for number, step in run.steps.items() if step == "book"), 0)
        key = idempotency_key(run.run_id, "book", booking.to_bytes(8, "big"))
        if self._booked.get(run.n, ("", 0))[0] != key:
            self._findings.fault("lost", f"{run.sender_id} was not booked outside under its key {key}")


def _entries(reader: Reader, findings: Findings) -> Iterator[Entry]:
    """All entries of the log; a gap is a fault."""
    after = 1
    while page := reader.scan(after, _PAGE):
        for entry in page:
            if entry.offset != after:
                findings.fault("gap", f"offset {after} is missing, the next one is {entry.offset}")
            after = entry.offset + entry.count
            yield entry


def _read_ledger(ledger: Path, findings: Findings) -> dict[int, tuple[str, int]]:
    """What was done outside: by event number, its key and the place of its first mark."""
    booked: dict[int, tuple[str, int]] = {}
    lines = ledger.read_text(encoding="ascii").splitlines() if ledger.exists() else []
    for place, line in enumerate(lines):
        key, _, number = line.split()
        first = booked.setdefault(int(number), (key, place))
        findings.outside_repeated += first[1] != place
        if first[0] != key:
            findings.fault("twice", f"event {number} was booked outside under two keys, {first[0]} and {key}")
    findings.outside = len(lines)
    return booked
