"""The law of keys: deliveries of one key run one at a time, in the order of the log.

Rules: a commit is one moment, since its records stand run by run and not in the order in which they were made. Runs
that fail or that an operator changed lose their places in the queues, so only concurrent attempts are checked there.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import TypeGuard

from ....events.state.records import (
    FAILURE_INDEX,
    AttemptRecord,
    CancellingRecord,
    CompensatingRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    Record,
    RedrivenRecord,
    ReleasedRecord,
    RevivedRecord,
)
from ..history import Committed, History, LogRow

__all__ = ["keys_in_order"]

Queue = tuple[str, str]
"""The name of a step, and a key."""
_HALTS = (RevivedRecord, RedrivenRecord, CancellingRecord, CompensatingRecord, EndedRecord)
_HANDED_BACK = (FailedRecord, ReleasedRecord, CrashedRecord)


def keys_in_order(history: History) -> Iterator[str]:
    """Deliveries of one step with the same key are handled one at a time, and in the order of the log."""
    watch = _Watch(history)
    for _, rows in groupby(history.rows, attrgetter("commit")):
        batch = list(rows)
        for row in batch:
            watch.free(row)
        for row in batch:
            yield from watch.lease(row)
        for row in batch:
            watch.enqueue(row)


def _gave_up(record: Record) -> TypeGuard[FailedRecord]:
    return isinstance(record, FailedRecord) and record.retry_us is None


class _Watch:
    """Which delivery holds each key, and which wait for it since which commit."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._keys: dict[tuple[int, bytes], str | None] = {}
        self._busy: dict[Queue, tuple[int, int]] = {}
        self._held: dict[tuple[int, int], Queue] = {}
        self._waiting: dict[Queue, dict[tuple[int, bytes], int]] = defaultdict(dict)
        self._running: dict[tuple[int, int], int] = {}
        self._epochs = [seen.epoch for seen in history.observations if isinstance(seen, Committed)]
        self._loose: set[int] = set()
        self._begun: dict[tuple[int, bytes], set[Queue]] = {}

    def free(self, row: LogRow) -> None:
        """Apply what this record ends."""
        run, record = row.run, row.record
        if isinstance(record, _HANDED_BACK):
            self._running.pop((run, record.delivery), None)
            if run in self._loose:  # a delivery of a run that halts is parked, and leaves the queue of its key
                self._release(run, record.delivery)
        if isinstance(record, DoneRecord) or _gave_up(record):
            self._release(run, record.delivery)
        if isinstance(record, _HALTS) or (_gave_up(record) and not record.handled):
            self._halt(row, is_over=isinstance(record, EndedRecord))
        elif isinstance(record, EventRecord):
            self._keys[run, record.event_id] = record.key if record.index != FAILURE_INDEX else None

    def _halt(self, row: LogRow, *, is_over: bool) -> None:
        """The run halts: its deliveries that are not running lose their key, or their place in the queue."""
        self._loose.add(row.run)
        for queue in self._waiting.values():
            for waiting in [waiting for waiting in queue if waiting[0] == row.run]:
                del queue[waiting]
        for place in [place for place in self._held if place[0] == row.run]:
            if is_over or self._running.get(place) != self._epochs[row.commit]:
                self._release(*place)

    def lease(self, row: LogRow) -> Iterator[str]:
        """Apply a lease, and find the deliveries that it should have waited for."""
        record = row.record
        queue = self._queue_of(row.run, record) if isinstance(record, AttemptRecord) else None
        if queue is None or not isinstance(record, AttemptRecord):
            return
        place = (row.run, record.delivery)
        holder = self._busy.get(queue)
        if holder is not None and holder != place:
            what = f"{self._say(queue, place)} was leased at offset {row.offset}"
            yield f"{what}, while {self._say(queue, holder)} was not over"
        self._busy[queue] = place
        self._running[place] = self._epochs[row.commit]
        if self._held.get(place) == queue:
            return  # it was handed back, and has kept its place
        self._held[place] = queue
        yield from self._overtaken(queue, row, record)

    def enqueue(self, row: LogRow) -> None:
        """Queue what begins to wait for a key with this record."""
        record = row.record
        if not isinstance(record, EventRecord) or record.key is None or record.index == FAILURE_INDEX:
            return
        if row.run in self._loose:
            return
        for step, _ in self._history.plan_of(row.run).subscriptions.get(record.type, ()):
            if step.single and (step.name, record.key) not in self._taken(row.run, record.event_id):
                self._waiting[step.name, record.key][row.run, record.event_id] = row.commit

    def _taken(self, run: int, event_id: bytes) -> set[Queue]:
        return self._begun.get((run, event_id), set())

    def _overtaken(self, queue: Queue, row: LogRow, record: AttemptRecord) -> Iterator[str]:
        for event_id in record.event_ids:
            self._begun.setdefault((row.run, event_id), set()).add(queue)
            since = self._waiting[queue].pop((row.run, event_id), row.commit)
            late = [run for (run, _), commit in self._waiting[queue].items() if commit < since]
            if late and row.run not in self._loose:
                what = self._say(queue, (row.run, record.delivery))
                yield f"{what} was leased at offset {row.offset} before older ones of runs {late}"

    def _queue_of(self, run: int, record: AttemptRecord) -> Queue | None:
        number, step, event_ids = record.delivery, record.step, record.event_ids
        if (run, number) in self._held:
            return self._held[run, number]
        plan = self._history.plan_of(run).by_name[step]
        if not plan.single or plan.is_compensation or not event_ids:
            return None
        key = self._keys.get((run, event_ids[0]))
        return None if key is None else (step, key)

    def _release(self, run: int, delivery: int) -> None:
        queue = self._held.pop((run, delivery), None)
        if queue is not None and self._busy.get(queue) == (run, delivery):
            del self._busy[queue]

    @staticmethod
    def _say(queue: Queue, place: tuple[int, int]) -> str:
        return f"{queue[0]} #{place[1]} of run {place[0]} (key {queue[1]!r})"
