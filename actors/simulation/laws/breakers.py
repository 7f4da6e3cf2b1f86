"""The law of circuit breakers: an open one lets no attempt through, a half-open one a single probe.

Rules: the state of a breaker that a commit writes holds for the attempts of that commit.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter

from ....events.decide.breakers import BREAKER_FACT, breaker_name
from ....events.pipelines.plan import Plan
from ....events.policies.breaker import Breaker, BreakerState, BreakerStatus
from ....events.state.records import (
    AttemptRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    FailedRecord,
    ReleasedRecord,
)
from ..history import BreakerMoved, Committed, History, LogRow

__all__ = ["breakers_hold"]

_OVER = (DoneRecord, FailedRecord, ReleasedRecord, CrashedRecord)


def breakers_hold(history: History) -> Iterator[str]:
    """While a breaker is open nothing is called that it guards; while it is half-open, one probe at a time."""
    status: dict[str, BreakerStatus] = {}
    probes: dict[str, tuple[int, int]] = {}
    names = {plan.pipeline: _names(plan) for plan in history.plans.values()}
    moves: dict[int, list[BreakerMoved]] = defaultdict(list)
    for seen in history.observations:
        if isinstance(seen, BreakerMoved) and seen.kind == BREAKER_FACT:
            moves[seen.commit].append(seen)
    epochs = [seen.epoch for seen in history.observations if isinstance(seen, Committed)]
    batches = {commit: list(rows) for commit, rows in groupby(history.rows, attrgetter("commit"))}
    for commit, epoch in enumerate(epochs):
        if commit and epoch != epochs[commit - 1]:
            probes.clear()  # what the last owner had leased is leased again
        status |= {moved.name: _status(moved) for moved in moves[commit]}
        batch = batches.get(commit, [])
        _forget(probes, batch)
        for row in batch:
            if isinstance(row.record, AttemptRecord):
                name = names[history.plan_of(row.run).pipeline][row.record.step]
                yield from _called(row, row.record, name, status.get(name, BreakerStatus.CLOSED), probes)


def _called(
    row: LogRow, attempt: AttemptRecord, name: str, status: BreakerStatus, probes: dict[str, tuple[int, int]]
) -> Iterator[str]:
    what = f"{attempt.step} #{attempt.delivery} of run {row.run} was leased at offset {row.offset}"
    if status is BreakerStatus.OPEN:
        yield f"{what}, while the breaker {name} was open"
    elif status is BreakerStatus.HALF_OPEN:
        if name in probes:
            run, delivery = probes[name]
            yield f"{what}, while the breaker {name} was half-open and #{delivery} of run {run} its probe"
        probes[name] = (row.run, attempt.delivery)


def _forget(probes: dict[str, tuple[int, int]], batch: list[LogRow]) -> None:
    over = {(row.run, row.record.delivery) for row in batch if isinstance(row.record, _OVER)}
    ended = {row.run for row in batch if isinstance(row.record, EndedRecord)}
    for name in [name for name, probe in probes.items() if probe in over or probe[0] in ended]:
        del probes[name]


def _names(plan: Plan) -> dict[str, str]:
    return {step.name: breaker_name(plan.pipeline, step) for step in plan.steps}


def _status(moved: BreakerMoved) -> BreakerStatus:
    breaker = BreakerState(moved.name, Breaker())
    if moved.body is not None:
        breaker.restore(moved.body)
    return breaker.status
