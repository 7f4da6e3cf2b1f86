"""Book: what one batch adds to the log, gathered run by run, and the timers of what waits.

Rules: records are gathered here and numbered once, when the batch closes: all records of a run in a batch stand
together as one entry (as several, where one could not be read back). A run that has nothing ahead of it ends here and nowhere else.
"""

from heapq import heappop, heappush

from . import transitions
from .commands import Decision, RunEnded
from .records import MAX_ENTRY_BYTES, Entry, Kind, Record, pack_records
from .state import Delivery, DeliveryStatus, Run, State
from .status import Status

__all__ = ["Book"]

_ENDED = int(Kind.ENDED)
_WAITING = DeliveryStatus.WAITING


class Book:
    """The records, status changes and timers of a partition; `decision` is what the batch under way comes to."""

    __slots__ = ("_changes", "_timers", "_touched", "decision", "next_offset", "now_us", "state")

    def __init__(self, next_offset: int) -> None:
        self.state = State()
        self.next_offset = next_offset
        self.now_us = 0
        self.decision = Decision(0)
        self._timers: list[tuple[int, int, Delivery]] = []
        self._touched: list[Run] = []
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
        for run in self._touched:
            records = run.records or []
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
            self._touched.append(run)
            run.records = [record]
        else:
            records.append(record)

    def settle(self, run: Run) -> None:
        """End a run that has nothing ahead of it."""
        if not run.deliveries:
            self.end(run, Status.COMPLETED)
        elif run.halting and not run.leased:
            self.end(run, Status.FAILED)

    def end(self, run: Run, status: Status) -> None:
        """End a run, unless it has ended."""
        if self.state.runs.get(run.run_id) is not run:
            return
        self.record(run, [_ENDED, int(status), self.now_us])
        transitions.finish(self.state, run)
        run.deliveries.clear()  # a run and its deliveries know each other: no cycle is left for the collector
        self.change(run, status, self.now_us)
        self.decision.ended.append(RunEnded(run, status))

    def change(self, run: Run, status: Status, finished_us: int | None = None) -> None:
        """Note a run's new status for the index."""
        run.status = status
        self._changes.append((run, status, finished_us))

    def wait(self, delivery: Delivery, due_us: int) -> None:
        """Let a delivery wait for its next attempt."""
        transitions.release(delivery, _WAITING)
        delivery.lost = 0
        if delivery.run.halting:
            delivery.status = DeliveryStatus.PARKED
        elif due_us <= self.now_us:
            transitions.ready(self.state, delivery)
        else:
            self.set_timer(delivery, due_us)

    def set_timer(self, delivery: Delivery, due_us: int) -> None:
        """Make a waiting delivery ready at this time."""
        delivery.due_us = due_us
        heappush(self._timers, (due_us, delivery.order, delivery))
        run = delivery.run
        if run.status is Status.RUNNING and all(d.status is _WAITING for d in run.deliveries.values()):
            self.change(run, Status.WAITING)

    def expire(self) -> None:
        """Make ready what is due."""
        while self._timers and self._timers[0][0] <= self.now_us:
            due_us, _, delivery = heappop(self._timers)
            if delivery.status is _WAITING and delivery.due_us == due_us:
                transitions.ready(self.state, delivery)
                if delivery.run.status is Status.WAITING:
                    self.change(delivery.run, Status.RUNNING)


def _cut(offset: int, run: int, records: list[Record]) -> list[Entry]:
    """Many large records as several entries, each of which can be read back."""
    body = pack_records(records)
    if len(body) <= MAX_ENTRY_BYTES or len(records) == 1:
        return [Entry(offset, run, len(records), body)]
    half = len(records) // 2
    return _cut(offset, run, records[:half]) + _cut(offset + half, run, records[half:])
