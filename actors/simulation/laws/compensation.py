"""Laws of compensation: what was begun is undone in reverse, one at a time, and completely.

Rules: the expected compensations are derived here from the attempts in the log, and compared with those that ran.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ....events.state.records import (
    AttemptRecord,
    CompensatingRecord,
    DoneRecord,
    EndedRecord,
    Record,
    SettledRecord,
)
from ..history import History

__all__ = ["undone_in_reverse"]


@dataclass(slots=True)
class _Register:
    """The compensations of a run: by the delivery that began, the step and the ids of the events that it took."""

    compensations: dict[int, tuple[str, tuple[bytes, ...]]] = field(
        default_factory=dict[int, tuple[str, tuple[bytes, ...]]]
    )
    steps: dict[int, str] = field(default_factory=dict[int, str])
    running: int | None = None
    is_compensating: bool = False
    is_pivoted: bool = False


def undone_in_reverse(history: History) -> Iterator[str]:
    """Compensations run once their run has halted: one at a time, in reverse order of first attempts, and all."""
    runs: dict[int, _Register] = {}
    for offset, _, run, record in history.rows:
        register = runs.setdefault(run, _Register())
        for text in _follow(history, run, register, record):
            yield f"run {history.run_of(run).hex()}, offset {offset}: {text}"


def _follow(history: History, run: int, register: _Register, record: Record) -> Iterator[str]:
    match record:
        case AttemptRecord():
            yield from _attempt(history, run, register, record)
        case CompensatingRecord():
            register.is_compensating = True
            if not register.compensations:
                yield "its compensations begin, and it has none"
        case DoneRecord():
            _close(register, record.delivery)
            done = register.steps.get(record.delivery)
            if done is not None and history.plan_of(run).by_name[done].step.pivot:
                register.is_pivoted = True
                register.compensations.clear()
        case SettledRecord():
            _close(register, record.delivery)
        case EndedRecord():
            if register.is_compensating and (register.compensations or register.running is not None):
                left = [step for step, _ in register.compensations.values()] or register.running
                yield f"it ended, and {left} was not undone"
            register.is_compensating = False
        case _:
            pass


def _close(register: _Register, delivery: int) -> None:
    if delivery == register.running:
        register.running = None


def _attempt(history: History, run: int, register: _Register, record: AttemptRecord) -> Iterator[str]:
    number, name, event_ids = record.delivery, record.step, tuple(record.event_ids)
    step = history.plan_of(run).by_name[name]
    register.steps[number] = name
    if step.compensation is not None and not register.is_pivoted and record.attempt == 1:
        register.compensations.setdefault(number, (step.compensation.name, event_ids))
    if not step.is_compensation:
        if register.is_compensating:
            yield f"{name} #{number} was tried while the run is being compensated"
    elif number != register.running:
        yield from _compensate(register, number, name, event_ids)


def _compensate(register: _Register, number: int, name: str, event_ids: tuple[bytes, ...]) -> Iterator[str]:
    if not register.is_compensating:
        yield f"{name} #{number} was tried before the run had halted"
    if register.running is not None:
        yield f"{name} #{number} was tried before #{register.running} was done"
    register.running = number
    if not register.compensations:
        yield f"{name} #{number} compensates nothing"
        return
    _, expected = register.compensations.popitem()
    if expected != (name, event_ids):
        yield f"{name} #{number} was tried, and {expected[0]} is next in reverse order"
