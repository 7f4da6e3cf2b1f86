"""Laws about steps: attempts run alone and are recorded first, what they come to is in the log, and all is heard."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from math import inf

from ....events.pipelines.plan import Plan
from ....events.state.records import FAILURE_INDEX, Record, RecordKind
from ....events.state.run_status import Status
from ..history import CodeEnded, CodeStarted, History, WorkerSeenGone

__all__ = ["attempts_alone", "attempts_recorded", "events_heard", "results_complete", "void_never_begins"]

_OF_ATTEMPTS = (RecordKind.ATTEMPT, RecordKind.DONE, RecordKind.FAILED, RecordKind.RELEASED, RecordKind.CRASHED)


def attempts_alone(history: History) -> Iterator[str]:
    """Never do two attempts of one delivery run at once, on workers that are alive and wanted."""
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
        if record[0] == RecordKind.ATTEMPT:
            recorded.setdefault((run, record[1], record[3]), offset)
    for seen in history.observations:
        if isinstance(seen, CodeStarted):
            number = history.store.run_ids.get(seen.run_id, 0)
            if recorded.get((number, seen.delivery, seen.attempt), seen.log_end) >= seen.log_end:
                yield (
                    f"attempt {seen.attempt} of {seen.step} #{seen.delivery} of run {seen.run_id.hex()} ran at "
                    f"{seen.at:.3f} s, and the log did not know of it"
                )


def void_never_begins(history: History) -> Iterator[str]:
    """What was taken back from a worker, or is over, does not begin there any more."""
    moves: dict[tuple[bytes, int], list[tuple[int, int]]] = defaultdict(list)
    over: dict[bytes, int] = {}
    for offset, _, run, record in history.rows:
        if record[0] in _OF_ATTEMPTS:
            moves[history.run_of(run), record[1]].append((offset, record[0]))
        elif record[0] == RecordKind.ENDED:
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
                    f"attempt {seen.attempt} of {seen.step} #{seen.delivery} of run {seen.run_id.hex()} began on worker "
                    f"{seen.worker} at {seen.at:.3f} s, after {what} at offset {known[at - 1][0]}"
                )


def results_complete(history: History) -> Iterator[str]:
    """All that a step returned or yielded is in the log, in its order, once the delivery is done."""
    returned: dict[tuple[bytes, int, int], list[int]] = defaultdict(list)
    for seen in history.observations:
        if isinstance(seen, CodeEnded) and seen.emitted is not None:
            returned[seen.run_id, seen.delivery, seen.attempt].append(seen.emitted)
    written: dict[tuple[int, int], list[int]] = defaultdict(list)
    for _, _, run, record in history.rows:
        if record[0] == RecordKind.EVENT and record[7] and record[8] != FAILURE_INDEX:
            written[run, record[7]].append(record[8])
        elif record[0] == RecordKind.DONE:
            run_id = history.run_of(run)
            what = f"delivery {record[1]} of run {run_id.hex()}"
            counts = returned.get((run_id, record[1], record[2]))
            if not counts:
                yield f"{what} is done, and no attempt {record[2]} of it came to its end"
            elif record[3] < min(counts):
                yield f"{what} is done with {record[3]} events, and its code emitted {min(counts)}"
            if written[run, record[1]] != list(range(record[3])):
                yield f"{what} is done with {record[3]} events, and the log has those at {written[run, record[1]]}"


def events_heard(history: History) -> Iterator[str]:
    """In a run that completed, every event came to every step that hears it alone."""
    attempted: dict[int, set[tuple[str, bytes]]] = defaultdict(set)
    steps: dict[tuple[int, int], str] = {}
    changed: set[int] = set()
    for _, _, run, record in history.rows:
        if record[0] == RecordKind.ATTEMPT:
            steps[run, record[1]] = record[2]
            attempted[run].update((record[2], event_id) for event_id in record[5])
        elif record[0] in (RecordKind.REVIVED, RecordKind.REDRIVEN, RecordKind.CANCELLING, RecordKind.COMPENSATING):
            changed.add(run)
    for offset, _, run, record in history.rows:
        row = history.store.runs[run]
        if record[0] != RecordKind.EVENT or row.status != Status.COMPLETED or run in changed:
            continue
        for step in _hearing(history.plan_of(run), record, steps.get((run, record[7]))):
            if (step, record[1]) not in attempted[run]:
                yield f"{record[2]} at offset {offset} of run {row.run_id.hex()} never came to {step}, which hears it"


def _hearing(plan: Plan, record: Record, emitter: str | None) -> list[str]:
    """The steps that hear an event, and nothing but it."""
    if record[8] == FAILURE_INDEX and record[7]:
        heard = plan.handlers_of(plan.by_name[emitter]) if emitter is not None else ()
    else:
        heard = plan.subscriptions.get(record[2], ())
    return [step.name for step, _ in heard if step.single]
