"""The law of keys: events of one key are handled one at a time, in the order of the log.

Rules: a commit is one moment, since its records stand run by run and not in the order in which they came about. Runs
that fail or that an operator touched lose their places in the queues, so only who runs at once is looked at there.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from ....events.state.records import FAILURE_INDEX, Record, RecordKind
from ..history import Committed, History, LogRow

__all__ = ["keys_in_order"]

Queue = tuple[str, str]
"""The name of a step, and a key."""
_HALTS = (RecordKind.REVIVED, RecordKind.REDRIVEN, RecordKind.CANCELLING, RecordKind.COMPENSATING, RecordKind.ENDED)
_HANDED_BACK = (RecordKind.FAILED, RecordKind.RELEASED, RecordKind.CRASHED)


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


class _Watch:
    """Who has each key, and who waits for it since which commit."""

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
        """What this record ends."""
        kind, run, record = row.record[0], row.run, row.record
        if kind in _HANDED_BACK:
            self._running.pop((run, record[1]), None)
            if run in self._loose:  # what comes back to a run that halts stands still, and holds up nobody
                self._release(run, record[1])
        if kind == RecordKind.DONE or (kind == RecordKind.FAILED and record[8] is None):
            self._release(run, record[1])
        if kind in _HALTS or (kind == RecordKind.FAILED and record[8] is None and not record[10]):
            self._halt(row, is_over=kind == RecordKind.ENDED)
        elif kind == RecordKind.EVENT:
            self._keys[run, record[1]] = record[5] if record[8] != FAILURE_INDEX else None

    def _halt(self, row: LogRow, *, is_over: bool) -> None:
        """The run stands still: what of it is not running lets go of its key, or of its place in the queue."""
        self._loose.add(row.run)
        for queue in self._waiting.values():
            for waiting in [waiting for waiting in queue if waiting[0] == row.run]:
                del queue[waiting]
        for place in [place for place in self._held if place[0] == row.run]:
            if is_over or self._running.get(place) != self._epochs[row.commit]:
                self._release(*place)

    def lease(self, row: LogRow) -> Iterator[str]:
        """Who takes a key with this record, and whom it should have waited for."""
        queue = self._queue_of(row.run, row.record) if row.record[0] == RecordKind.ATTEMPT else None
        if queue is None:
            return
        place = (row.run, row.record[1])
        holder = self._busy.get(queue)
        if holder is not None and holder != place:
            yield f"{self._say(queue, place)} was leased at offset {row.offset}, while {self._say(queue, holder)} was not over"
        self._busy[queue] = place
        self._running[place] = self._epochs[row.commit]
        if self._held.get(place) == queue:
            return  # it was handed back, and has kept its place
        self._held[place] = queue
        yield from self._overtaken(queue, row)

    def enqueue(self, row: LogRow) -> None:
        """Who begins to wait for a key with this record."""
        record = row.record
        if record[0] != RecordKind.EVENT or record[5] is None or row.run in self._loose or record[8] == FAILURE_INDEX:
            return
        for step, _ in self._history.plan_of(row.run).subscriptions.get(record[2], ()):
            if step.single and (step.name, record[5]) not in self._taken(row.run, record[1]):
                self._waiting[step.name, record[5]][row.run, record[1]] = row.commit

    def _taken(self, run: int, event_id: bytes) -> set[Queue]:
        return self._begun.get((run, event_id), set())

    def _overtaken(self, queue: Queue, row: LogRow) -> Iterator[str]:
        for event_id in row.record[5]:
            self._begun.setdefault((row.run, event_id), set()).add(queue)
            since = self._waiting[queue].pop((row.run, event_id), row.commit)
            late = [run for (run, _), commit in self._waiting[queue].items() if commit < since]
            if late and row.run not in self._loose:
                yield f"{self._say(queue, (row.run, row.record[1]))} was leased at offset {row.offset} before older ones of runs {late}"

    def _queue_of(self, run: int, record: Record) -> Queue | None:
        _, number, step, _, _, event_ids = record[:6]
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
