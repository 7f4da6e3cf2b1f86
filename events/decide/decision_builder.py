"""DecisionBuilder: what one batch adds to the log, gathered run by run, and the timers of what waits.

Rules: records are gathered here and numbered once, when the batch closes: all records of a run in a batch stand
together as one entry; as several, where one could not be read back, and where an event with a key comes after another
run has recorded something, since such events are handled in the order of their offsets. A run that has nothing ahead of it ends here and nowhere else.
"""

from collections.abc import Iterable
from hashlib import blake2b
from heapq import heapify, heappop, heappush

from ..ids import uuid7
from ..model.notices import Notice
from ..state import keys, transitions
from ..state.phases import RunPhase
from ..state.records import MAX_ENTRY_BYTES, Entry, Record, RecordKind, pack_records
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Run, State
from . import dead_letters as letters
from .announcement import announcement
from .commands import Decision, RunEnded
from .inputs import Announce

__all__ = ["DecisionBuilder"]

_ENDED, _COMPENSATING = int(RecordKind.ENDED), int(RecordKind.COMPENSATING)
_WAITING = DeliveryStatus.WAITING
_MOST_STALE = 64
_STILL = (_WAITING, DeliveryStatus.FAILED, DeliveryStatus.PARKED)


class DecisionBuilder:
    """The records, status changes and timers of a partition; `decision` is what the batch under way comes to."""

    __slots__ = (
        "_changes",
        "_ids",
        "_stale",
        "_timers",
        "_touched",
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
        self._touched: list[tuple[Run, list[Record]]] = []
        self._changes: list[tuple[Run, Status, int | None]] = []

    def open(self, now_us: int) -> None:
        """Begin a batch at this time (microseconds since the epoch)."""
        self.now_us = now_us
        self.decision = Decision(now_us)

    def close(self) -> Decision:
        """Number the records of the batch, run by run, and return what it came to."""
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
        self._touched.clear()
        self.next_offset = offset
        if self._changes:
            decision.changed = [(run.number, status, at) for run, status, at in self._changes]
            self._changes.clear()
        decision.due_us = self._timers[0][0] if self._timers else None
        return decision

    def record(self, run: Run, record: Record) -> None:
        """Add a record of a run."""
        records = run.records
        if records is None:
            run.records = [record]
            self._touched.append((run, run.records))
        else:
            records.append(record)

    def record_keyed(self, run: Run, record: Record) -> None:
        """Add the record of an event with a key: its offset is after those of all that were added before it."""
        if self._touched and self._touched[-1][1] is not run.records:
            run.records = None
        self.record(run, record)

    def settle(self, run: Run) -> None:
        """End a run that has nothing ahead of it, or begin to undo one that failed or was cancelled."""
        if run.phase:
            if not run.leased:
                self._settle_halted(run)
        elif len(run.deliveries) == run.dead:
            self.mark_ended(run, Status.FAILED if run.dead else Status.COMPLETED)

    def _settle_halted(self, run: Run) -> None:
        if run.phase is RunPhase.HALTING and run.compensations:
            self.record(run, [_COMPENSATING, self.now_us])
            transitions.begin_compensating(self.state, run)
        elif run.phase is RunPhase.HALTING:
            self.mark_ended(run, Status.CANCELLED if run.cancelling else Status.FAILED)
        elif run.compensating is None:
            self.mark_ended(run, Status.COMPENSATED)

    def mark_ended(self, run: Run, status: Status) -> None:
        """End a run, unless it has ended."""
        if self.state.runs.get(run.run_id) is not run:
            return
        self.record(run, [_ENDED, int(status), self.now_us])
        if run.dead and status is Status.FAILED:
            letters.bury(self.decision, run)
        elif run.dead and status is Status.COMPENSATED:
            letters.forgo(self.decision, run)
        transitions.finish(self.state, run, status)
        if run.deliveries:
            self._forget_timers(run)
        run.deliveries.clear()
        run.compensations = None  # a run and its deliveries know each other: no cycle is left for the collector
        self.change(run, status, self.now_us)
        self.decision.ended.append(RunEnded(run, status))

    def _forget_timers(self, run: Run) -> None:
        """A run that is over waits for nothing: once most timers are of such runs, those go."""
        self._stale += sum(delivery.due_us > self.now_us for delivery in run.deliveries.values())
        if self._stale > _MOST_STALE and self._stale * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer[2].status is _WAITING]
            heapify(self._timers)
            self._stale = 0

    def change(self, run: Run, status: Status, finished_us: int | None = None) -> None:
        """Note a run's new status for the index."""
        run.status = status
        self._changes.append((run, status, finished_us))

    def announce(self, notice: Notice, about: Iterable[tuple[str, str]] = ()) -> None:
        """Have the pipelines hear of what the engine did, in this very batch; `about` as in `announcement`."""
        self.announced.append(announcement(notice, about))

    def fresh_id(self, purpose: str) -> bytes:
        """An id for what begins here: the same whenever the same batch stands at the same place of the log."""
        self._ids += 1
        digest = blake2b(b"%d %d %b" % (self.next_offset, self._ids, purpose.encode()), digest_size=10).digest()
        return uuid7(self.now_us // 1000, digest)

    def wait(self, delivery: Delivery, due_us: int) -> None:
        """Let a delivery wait for its next attempt."""
        keys.release(delivery, _WAITING)
        delivery.engine_losses = 0
        if delivery.run.phase and delivery is not delivery.run.compensating:
            keys.park(self.state, delivery)
        elif due_us <= self.now_us:
            keys.ready(self.state, delivery)
        else:
            self.set_timer(delivery, due_us)

    def set_timer(self, delivery: Delivery, due_us: int) -> None:
        """Make a waiting delivery ready at this time."""
        delivery.due_us = due_us
        heappush(self._timers, (due_us, delivery.order, delivery))
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


def _cut(offset: int, run: int, records: list[Record]) -> list[Entry]:
    """Many large records as several entries, each of which can be read back."""
    body = pack_records(records)
    if len(body) <= MAX_ENTRY_BYTES or len(records) == 1:
        return [Entry(offset, run, len(records), body)]
    half = len(records) // 2
    return _cut(offset, run, records[:half]) + _cut(offset + half, run, records[half:])
