"""The catalog of laws: what must hold in every history, whatever faults occurred.

Rules: a law is a name, a sentence and a function from a history to its violations. A new law is a row of `LAWS`.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ....events.state.records import DoneRecord, EventRecord, RedrivenRecord, RevivedRecord, RunRecord
from ....events.state.run_status import Status
from ..history import Acknowledged, Committed, Compared, History, RunOver, Surprise
from .breakers import breakers_hold
from .compensation import undone_in_reverse
from .key_order import keys_in_order
from .steps import attempts_alone, attempts_recorded, events_heard, results_complete, void_never_begins
from .supervision import supervision_holds

__all__ = ["LAWS", "Law", "Violation", "violations"]


class Law(NamedTuple):
    """A law: its name, its sentence, and the function that finds its violations in a history."""

    name: str
    says: str
    find: Callable[[History], Iterator[str]]


class Violation(NamedTuple):
    """A law that a history breaks, and where."""

    law: str
    text: str


def nothing_surprises(history: History) -> Iterator[str]:
    """No exception came out of the engine."""
    yield from _surprises(history, "nothing surprises")


def everything_ends(history: History) -> Iterator[str]:
    """Once the faults are over every event is accepted, and every run ends."""
    yield from _surprises(history, "everything ends")


def no_loss(history: History) -> Iterator[str]:
    """An event that was acknowledged is in the log, as the trigger of the run that was named."""
    yield from _surprises(history, "no loss")
    triggers = {
        row.run: row.record.event_id
        for row in history.rows
        if isinstance(row.record, EventRecord) and row.record.delivery == 0
    }
    for seen in history.observations:
        if isinstance(seen, Acknowledged):
            number = history.store.run_ids.get(seen.run_id)
            if number is None or triggers.get(number) != seen.event_id:
                run = seen.run_id.hex()
                yield f"event {seen.event} was acknowledged at {seen.at:.3f} s as run {run}, which the log lacks"


def once(history: History) -> Iterator[str]:
    """A delivery is done once, an event of a run is written once, and what a sender repeats starts one run."""
    done: set[tuple[int, int]] = set()
    events: set[tuple[int, bytes]] = set()
    senders: set[tuple[str, str]] = set()
    for offset, _, run, record in history.rows:
        if isinstance(record, DoneRecord):
            if (run, record.delivery) in done:
                yield f"delivery {record.delivery} of run {run} is done twice, again at offset {offset}"
            done.add((run, record.delivery))
        elif isinstance(record, EventRecord):
            if (run, record.event_id) in events:
                yield f"event {record.event_id.hex()} is twice in run {run}, again at offset {offset}"
            events.add((run, record.event_id))
        elif isinstance(record, RunRecord) and record.sender_id is not None:
            if (record.source, record.sender_id) in senders:
                yield f"{record.sender_id} of {record.source} started a second run at offset {offset}"
            senders.add((record.source, record.sender_id))


def one_owner(history: History) -> Iterator[str]:
    """Only the newest owner of the log commits, and its offsets have no gap."""
    end = 1
    for seen in history.observations:
        if not isinstance(seen, Committed):
            continue
        if seen.epoch != seen.log_epoch:
            yield f"epoch {seen.epoch} committed at {seen.at:.3f} s, while the log was at epoch {seen.log_epoch}"
        if seen.first != end:
            yield f"the commit at {seen.at:.3f} s begins at offset {seen.first}, and the one before ended at {end}"
        end = seen.end


def log_is_truth(history: History) -> Iterator[str]:
    """The log alone leads to the state that was in memory."""
    for seen in history.observations:
        if isinstance(seen, Compared) and seen.difference:
            yield f"at {seen.at:.3f} s: {seen.difference}"


def outcomes_complete(history: History) -> Iterator[str]:
    """A run that failed says which step gave up; an end is final until an operator says otherwise."""
    for run_id, outcome in history.outcomes.items():
        if outcome.status == Status.FAILED.wire and not outcome.errors:
            yield f"run {run_id.hex()} failed, and its outcome has no error"
    over: set[bytes] = set()
    revived = {
        history.run_of(row.run) for row in history.rows if isinstance(row.record, RevivedRecord | RedrivenRecord)
    }
    for seen in history.observations:
        if isinstance(seen, RunOver):
            if seen.run_id in over and seen.run_id not in revived:
                yield f"run {seen.run_id.hex()} ended twice, again at {seen.at:.3f} s"
            over.add(seen.run_id)


def _surprises(history: History, law: str) -> Iterator[str]:
    for seen in history.observations:
        if isinstance(seen, Surprise) and seen.law == law:
            yield f"at {seen.at:.3f} s: {seen.text}"


def _law(name: str, find: Callable[[History], Iterator[str]]) -> Law:
    return Law(name, (find.__doc__ or "").strip(), find)


LAWS: tuple[Law, ...] = (
    _law("nothing surprises", nothing_surprises),
    _law("no loss", no_loss),
    _law("once", once),
    _law("order of keys", keys_in_order),
    _law("one attempt at a time", attempts_alone),
    _law("attempts are recorded first", attempts_recorded),
    _law("nothing void begins", void_never_begins),
    _law("one owner", one_owner),
    _law("the log is the truth", log_is_truth),
    _law("results are complete", results_complete),
    _law("events are heard", events_heard),
    _law("outcomes are complete", outcomes_complete),
    _law("undone in reverse", undone_in_reverse),
    _law("breakers hold", breakers_hold),
    _law("supervision holds", supervision_holds),
    _law("everything ends", everything_ends),
)


def violations(history: History) -> list[Violation]:
    """Every law that a history breaks, in the order of `LAWS`."""
    return [Violation(law.name, text) for law in LAWS for text in law.find(history)]
