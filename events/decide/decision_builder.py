"""DecisionBuilder: the records, status changes and timers that one batch of inputs leads to.

Rules: a record is applied as it is recorded, through the table that replay uses, so that the state in memory is the one
that the log leads to. Records are gathered run by run and numbered once, when the batch closes. All records of a run in
a batch form one entry. They form several if one entry could not be read back, and if an event with a key follows after
another run has recorded something, since deliveries of a key run in the order of the offsets. A run without open
deliveries ends in `settle` and nowhere else.
"""

from collections.abc import Iterable
from hashlib import blake2b
from heapq import heapify, heappop, heappush

from ..ids import uuid7
from ..model.notices import Notice
from ..pipelines.plan import Plan
from ..state import keys
from ..state.apply import APPLY, begin_run
from ..state.new_records import compensating_record, ended_record
from ..state.phases import RunPhase
from ..state.records import MAX_ENTRY_BYTES, Entry, NewRecord, pack_records
from ..state.rows import AuditRow
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import dead_letters
from .announcement import announcement
from .commands import Decision, RunEnded
from .inputs import Announce

__all__ = ["DecisionBuilder"]

_WAITING = DeliveryStatus.WAITING
_MOST_STALE = 64
_STILL = (_WAITING, DeliveryStatus.FAILED, DeliveryStatus.PARKED)


class DecisionBuilder:
    """Builds the decision of one batch after the other.

    state: the live runs. decision: what the current batch has led to so far. announced: notices that pipelines have
    still to hear in this batch.
    """

    __slots__ = (
        "_changes",
        "_ids",
        "_stale",
        "_timers",
        "_touched",
        "_unloaded",
        "announced",
        "decision",
        "next_offset",
        "now_us",
        "state",
    )

    def __init__(self, next_offset: int) -> None:
        self.state = State()
        self.next_offset = next_offset
        self.now_us = 0
        self.decision = Decision(0)
        self.announced: list[Announce] = []
        self._ids = 0
        self._timers: list[tuple[int, int, Delivery]] = []
        self._stale = 0
        self._touched: list[tuple[Run, list[NewRecord]]] = []
        self._unloaded: list[tuple[int, list[NewRecord]]] = []
        self._changes: list[tuple[Run, Status, int | None]] = []

    def open(self, now_us: int) -> None:
        """Begin a batch at this time (microseconds since the epoch)."""
        self.now_us = now_us
        self.decision = Decision(now_us)

    def close(self) -> Decision:
        """Number the records of the batch, run by run, and return the decision."""
        offset = self.next_offset
        decision = self.decision
        entries = decision.entries
        for run, records in self._touched:
            if not run.number:
                run.number = offset
            body = pack_records(records)
            if len(body) <= MAX_ENTRY_BYTES:
                entries.append(Entry(offset, run.number, len(records), body))
            else:
                entries += _cut(offset, run.number, records)
            offset += len(records)
            run.records = None
        if decision.dead:
            numbers = {run.run_id: run.number for run, _ in self._touched}
            decision.dead = [letter._replace(run=numbers[letter.run_id]) for letter in decision.dead]
        self._touched.clear()
        if self._unloaded:
            for number, records in self._unloaded:
                entries.append(Entry(offset, number, len(records), pack_records(records)))
                offset += len(records)
            self._unloaded.clear()
        self.next_offset = offset
        if self._changes:
            decision.changed += [(run.number, status, at) for run, status, at in self._changes]
            self._changes.clear()
        decision.due_us = self._timers[0][0] if self._timers else None
        return decision

    def begin(self, plan: Plan, record: NewRecord) -> Run:
        """Begin a run with its RUN record; its trigger follows."""
        run = begin_run(self.state, plan, record)
        run.records = [record]
        self._touched.append((run, run.records))
        self.decision.started.append(run)
        return run

    def record(self, run: Run, record: NewRecord) -> None:
        """Add a record of a run, and apply it."""
        records = run.records
        if records is None:
            run.records = [record]
            self._touched.append((run, run.records))
        else:
            records.append(record)
        APPLY[record[0]](self.state, run, record)

    def record_keyed(self, run: Run, record: NewRecord) -> None:
        """As `record`, for an event with a key: its offset is after those of all records that were added before it."""
        if self._touched and self._touched[-1][1] is not run.records:
            run.records = None
        self.record(run, record)

    def settle(self, run: Run) -> None:
        """End a run without open deliveries, or begin the compensations of one that failed or was cancelled."""
        if run.phase:
            if not run.leased:
                self._settle_halted(run)
        elif len(run.deliveries) == run.dead:
            self.mark_ended(run, Status.FAILED if run.dead else Status.COMPLETED)

    def _settle_halted(self, run: Run) -> None:
        if run.phase is RunPhase.HALTING and run.compensations:
            self.record(run, compensating_record(self.now_us))
        elif run.phase is RunPhase.HALTING:
            self.mark_ended(run, Status.CANCELLED if run.cancelling else Status.FAILED)
        elif run.compensating is None:
            self.mark_ended(run, Status.COMPENSATED)

    def mark_ended(self, run: Run, status: Status) -> None:
        """End a run, unless it has ended."""
        if self.state.runs.get(run.run_id) is not run:
            return
        if run.dead and status is Status.FAILED:
            dead_letters.add_unhandled(self.decision, run)
        elif run.dead and status is Status.COMPENSATED:
            dead_letters.discard_open(self.decision, run)
        self.record(run, ended_record(int(status), self.now_us))
        if run.deliveries:
            self._forget_timers(run)
        run.deliveries.clear()
        run.compensations = None  # runs and deliveries refer to each other: leave no cycle to the garbage collector
        self.change(run, status, self.now_us)
        self.decision.ended.append(RunEnded(run, status))

    def end_unloaded(self, number: int, status: Status) -> None:
        """End a run that is in the log only, since its pipeline version is not loaded."""
        self._unloaded.append((number, [ended_record(int(status), self.now_us)]))
        self.decision.changed.append((number, status, self.now_us))

    def _forget_timers(self, run: Run) -> None:
        """Count the timers of a run that ended; remove such timers once they are the majority."""
        self._stale += sum(delivery.due_us > self.now_us for delivery in run.deliveries.values())
        if self._stale > _MOST_STALE and self._stale * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer[2].status is _WAITING]
            heapify(self._timers)
            self._stale = 0

    def change(self, run: Run, status: Status, finished_us: int | None = None) -> None:
        """Set a run's status, and tell the index of runs."""
        run.status = status
        self._changes.append((run, status, finished_us))

    def audit(self, who: str, action: str, subject: str, detail: str = "") -> None:
        """Write down what an operator did."""
        self.decision.audit.append(AuditRow(self.now_us, who, action, subject, detail))

    def announce(self, notice: Notice, about: Iterable[tuple[str, str]] = ()) -> None:
        """Emit a notice of the engine to the pipelines, in this batch; `about` as in `announcement`."""
        self.announced.append(announcement(notice, about))

    def fresh_id(self, purpose: str) -> bytes:
        """A new id; the same batch at the same place of the log gets the same ids."""
        self._ids += 1
        digest = blake2b(b"%d %d %b" % (self.next_offset, self._ids, purpose.encode()), digest_size=10).digest()
        return uuid7(self.now_us // 1000, digest)

    def schedule(self, delivery: Delivery) -> None:
        """Make a delivery that waits for its next attempt ready when it is due; one whose run halts stays parked."""
        if delivery.status is not _WAITING:
            return
        if delivery.due_us <= self.now_us:
            keys.ready(self.state, delivery)
        else:
            self.set_timer(delivery)

    def set_timer(self, delivery: Delivery) -> None:
        """Make a waiting delivery ready at its `due_us`."""
        heappush(self._timers, (delivery.due_us, delivery.order, delivery))
        run = delivery.run
        if run.status is Status.RUNNING and not run.leased and all(d.status in _STILL for d in run.deliveries.values()):
            self.change(run, Status.WAITING)

    def expire(self) -> None:
        """Make ready what is due."""
        while self._timers and self._timers[0][0] <= self.now_us:
            due_us, _, delivery = heappop(self._timers)
            if delivery.status is _WAITING and delivery.due_us == due_us:
                keys.ready(self.state, delivery)
                if delivery.run.status is Status.WAITING:
                    self.change(delivery.run, Status.RUNNING)


def _cut(offset: int, run: int, records: list[NewRecord]) -> list[Entry]:
    """Many large records as several entries, each of which can be read back."""
    body = pack_records(records)
    if len(body) <= MAX_ENTRY_BYTES or len(records) == 1:
        return [Entry(offset, run, len(records), body)]
    half = len(records) // 2
    return _cut(offset, run, records[:half]) + _cut(offset + half, run, records[half:])
