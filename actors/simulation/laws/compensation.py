"""Laws of compensation: what was begun is undone in reverse, one at a time, and nothing of it is left out.

Rules: what is owed is worked out here from the attempts in the log, and compared with what was then undone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ....events.state.records import Record, RecordKind
from ..history import History

__all__ = ["undone_in_reverse"]


@dataclass(slots=True)
class _Debts:
    """What a run owes: for each delivery that began, the compensation and the ids of the events that it took."""

    owed: dict[int, tuple[str, tuple[bytes, ...]]] = field(default_factory=dict[int, tuple[str, tuple[bytes, ...]]])
    steps: dict[int, str] = field(default_factory=dict[int, str])
    under_way: int | None = None
    is_undoing: bool = False
    is_pivoted: bool = False


def undone_in_reverse(history: History) -> Iterator[str]:
    """Compensations run once what ran is over, in reverse order of the first attempts, one at a time, and all of them."""
    runs: dict[int, _Debts] = {}
    for offset, _, run, record in history.rows:
        debts = runs.setdefault(run, _Debts())
        for text in _follow(history, run, debts, record):
            yield f"run {history.run_of(run).hex()}, offset {offset}: {text}"


def _follow(history: History, run: int, debts: _Debts, record: Record) -> Iterator[str]:
    kind = record[0]
    if kind == RecordKind.ATTEMPT:
        yield from _attempt(history, run, debts, record)
    elif kind == RecordKind.COMPENSATING:
        debts.is_undoing = True
        if not debts.owed:
            yield "it is undone, and owes nothing"
    elif kind in (RecordKind.DONE, RecordKind.SETTLED):
        if record[1] == debts.under_way:
            debts.under_way = None
        done = debts.steps.get(record[1]) if kind == RecordKind.DONE else None
        if done is not None and history.plan_of(run).by_name[done].step.pivot:
            debts.is_pivoted = True
            debts.owed.clear()
    elif kind == RecordKind.ENDED:
        if debts.is_undoing and (debts.owed or debts.under_way is not None):
            yield f"it ended, and {[step for step, _ in debts.owed.values()] or debts.under_way} was not undone"
        debts.is_undoing = False


def _attempt(history: History, run: int, debts: _Debts, record: Record) -> Iterator[str]:
    _, number, name, attempt, _, event_ids = record[:6]
    step = history.plan_of(run).by_name[name]
    debts.steps[number] = name
    if step.compensation is not None and not debts.is_pivoted and attempt == 1:
        debts.owed.setdefault(number, (step.compensation.name, tuple(event_ids)))
    if not step.is_compensation:
        if debts.is_undoing:
            yield f"{name} #{number} was tried, while the run is being undone"
    elif number != debts.under_way:
        yield from _undo(debts, number, name, tuple(event_ids))


def _undo(debts: _Debts, number: int, name: str, event_ids: tuple[bytes, ...]) -> Iterator[str]:
    if not debts.is_undoing:
        yield f"{name} #{number} was tried before what ran was over"
    if debts.under_way is not None:
        yield f"{name} #{number} was tried, while #{debts.under_way} was not over"
    debts.under_way = number
    if not debts.owed:
        yield f"{name} #{number} undoes what is not owed"
        return
    expected = debts.owed.popitem()[1]
    if expected != (name, event_ids):
        yield f"{name} #{number} was tried, and {expected[0]} is what comes next in reverse order"
