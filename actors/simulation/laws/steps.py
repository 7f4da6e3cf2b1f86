"""Laws about steps: attempts run alone and are recorded first; their events are in the log and are delivered."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from math import inf

from ....events.pipelines.plan import Plan
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
    RecordKind,
    RedrivenRecord,
    ReleasedRecord,
    RevivedRecord,
)
from ....events.state.run_status import Status
from ..history import CodeEnded, CodeStarted, History, WorkerSeenGone

__all__ = ["attempts_alone", "attempts_recorded", "events_heard", "results_complete", "void_never_begins"]

_OF_ATTEMPTS = (AttemptRecord, DoneRecord, FailedRecord, ReleasedRecord, CrashedRecord)


def attempts_alone(history: History) -> Iterator[str]:
    """Two attempts of one delivery never run at the same time on live workers that belong to the pool."""
    running: dict[tuple[bytes, int], dict[tuple[int, int], CodeStarted]] = defaultdict(dict)
    gone: set[int] = set()
    for seen in history.observations:
        if isinstance(seen, CodeStarted):
            if seen.worker in gone:
                continue
            others = running[seen.run_id, seen.delivery]
            for other in others.values():
                yield (
                    f"{seen.step} #{seen.delivery} of run {seen.run_id.hex()} began on worker {seen.worker} at "
                    f"{seen.at:.3f} s, while it ran on worker {other.worker} since {other.at:.3f} s"
                )
            others[seen.worker, seen.token] = seen
        elif isinstance(seen, CodeEnded):
            running[seen.run_id, seen.delivery].pop((seen.worker, seen.token), None)
        elif isinstance(seen, WorkerSeenGone):
            gone.add(seen.worker)
            for attempts in running.values():
                for place in [place for place in attempts if place[0] == seen.worker]:
                    del attempts[place]


def attempts_recorded(history: History) -> Iterator[str]:
    """An attempt is in the log before its code runs."""
    recorded: dict[tuple[int, int, int], int] = {}
    for offset, _, run, record in history.rows:
        if isinstance(record, AttemptRecord):
            recorded.setdefault((run, record.delivery, record.attempt), offset)
    for seen in history.observations:
        if isinstance(seen, CodeStarted):
            number = history.store.run_ids.get(seen.run_id, 0)
            if recorded.get((number, seen.delivery, seen.attempt), seen.log_end) >= seen.log_end:
                yield (
                    f"attempt {seen.attempt} of {seen.step} #{seen.delivery} of run {seen.run_id.hex()} ran at "
                    f"{seen.at:.3f} s, and it was not in the log"
                )


def void_never_begins(history: History) -> Iterator[str]:
    """An attempt that was taken back from a worker, or whose run has ended, does not begin there."""
    moves: dict[tuple[bytes, int], list[tuple[int, int]]] = defaultdict(list)
    over: dict[bytes, int] = {}
    for offset, _, run, record in history.rows:
        if isinstance(record, _OF_ATTEMPTS):
            moves[history.run_of(run), record.delivery].append((offset, record.kind))
        elif isinstance(record, EndedRecord):
            over.setdefault(history.run_of(run), offset)
    gone: set[int] = set()
    for seen in history.observations:
        if isinstance(seen, WorkerSeenGone):
            gone.add(seen.worker)
        elif isinstance(seen, CodeStarted) and seen.worker not in gone and over.get(seen.run_id, inf) >= seen.log_end:
            known = moves[seen.run_id, seen.delivery]
            at = bisect_left(known, (seen.log_end, 0))
            if at and known[at - 1][1] != RecordKind.ATTEMPT:
                what = RecordKind(known[at - 1][1]).name
                yield (
                    f"attempt {seen.attempt} of {seen.step} #{seen.delivery} of run {seen.run_id.hex()} began on "
                    f"worker {seen.worker} at {seen.at:.3f} s, after {what} at offset {known[at - 1][0]}"
                )


def results_complete(history: History) -> Iterator[str]:
    """Once a delivery is done, all that its step returned or yielded is in the log, in order."""
    returned: dict[tuple[bytes, int, int], list[int]] = defaultdict(list)
    for seen in history.observations:
        if isinstance(seen, CodeEnded) and seen.emitted is not None:
            returned[seen.run_id, seen.delivery, seen.attempt].append(seen.emitted)
    written: dict[tuple[int, int], list[int]] = defaultdict(list)
    for _, _, run, record in history.rows:
        if isinstance(record, EventRecord) and record.delivery and record.index != FAILURE_INDEX:
            written[run, record.delivery].append(record.index)
        elif isinstance(record, DoneRecord):
            run_id = history.run_of(run)
            what = f"delivery {record.delivery} of run {run_id.hex()}"
            counts = returned.get((run_id, record.delivery, record.attempt))
            if not counts:
                yield f"{what} is done, and no attempt {record.attempt} of it returned"
            elif record.emitted < min(counts):
                yield f"{what} is done with {record.emitted} events, and its code emitted {min(counts)}"
            logged = written[run, record.delivery]
            if logged != list(range(record.emitted)):
                yield f"{what} is done with {record.emitted} events, and the log has those at {logged}"


def events_heard(history: History) -> Iterator[str]:
    """In a completed run, every event was delivered to every step that subscribes to it alone."""
    attempted: dict[int, set[tuple[str, bytes]]] = defaultdict(set)
    steps: dict[tuple[int, int], str] = {}
    changed: set[int] = set()
    for _, _, run, record in history.rows:
        if isinstance(record, AttemptRecord):
            steps[run, record.delivery] = record.step
            attempted[run].update((record.step, event_id) for event_id in record.event_ids)
        elif isinstance(record, RevivedRecord | RedrivenRecord | CancellingRecord | CompensatingRecord):
            changed.add(run)
    for offset, _, run, record in history.rows:
        row = history.store.runs[run]
        if not isinstance(record, EventRecord) or row.status != Status.COMPLETED or run in changed:
            continue
        for step in _subscribers(history.plan_of(run), record, steps.get((run, record.delivery))):
            if (step, record.event_id) not in attempted[run]:
                what = f"{record.type} at offset {offset} of run {row.run_id.hex()}"
                yield f"{what} was never delivered to {step}, which subscribes to it"


def _subscribers(plan: Plan, record: EventRecord, emitter: str | None) -> list[str]:
    """The steps that take an event alone."""
    if record.index == FAILURE_INDEX and record.delivery:
        heard = plan.handlers_of(plan.by_name[emitter]) if emitter is not None else ()
    else:
        heard = plan.subscriptions.get(record.type, ())
    return [step.name for step, _ in heard if step.single]
