"""Joins: one value for each parameter of a step.

Rules: values match if the scope of one lies inside the scope of the other, the oldest first. So values of different
items of a fan-out never match. The result belongs to the innermost of the scopes.
"""

from collections import deque
from typing import NamedTuple

from ..pipelines.plan import StepPlan
from .scopes import related
from .state import Group, Inputs, Join, Ref, Run

__all__ = ["Match", "offer"]

Value = Ref | list[Ref]


class Match(NamedTuple):
    """One value for each parameter, in order, and the innermost of their scopes."""

    inputs: Inputs
    scope: Group | None


def offer(run: Run, step: StepPlan, parameter: int, value: Value, scope: Group | None) -> Match | None:
    """Offer a value to a joining step; the match that it completes, or None if it has to wait."""
    waiting = _waiting(run, step)
    chosen: dict[int, Group | None] = {}
    innermost = scope
    for other in range(len(waiting)):
        if other == parameter:
            continue
        found = _partner(waiting[other], innermost)
        if found is None:
            waiting[parameter].setdefault(scope, deque()).append(value)
            return None
        chosen[other] = found[0]
        innermost = _inner(innermost, found[0])
    inputs = tuple(value if i == parameter else _take(waiting[i], chosen[i]) for i in range(len(waiting)))
    return Match(inputs, innermost)


def _waiting(run: Run, step: StepPlan) -> Join:
    if run.joins is None:
        run.joins = {}
    if step.index not in run.joins:
        run.joins[step.index] = [{} for _ in step.hears]
    return run.joins[step.index]


def _partner(waiting: dict[Group | None, deque[Value]], scope: Group | None) -> tuple[Group | None] | None:
    if scope in waiting:
        return (scope,)
    outer = scope.parent if scope is not None else None
    while outer is not None:
        if outer in waiting:
            return (outer,)
        outer = outer.parent
    return next(((candidate,) for candidate in waiting if related(candidate, scope)), None)


def _inner(one: Group | None, other: Group | None) -> Group | None:
    depth = (_depth(one), _depth(other))
    return one if depth[0] >= depth[1] else other


def _depth(scope: Group | None) -> int:
    depth = 0
    while scope is not None:
        depth += 1
        scope = scope.parent
    return depth


def _take(waiting: dict[Group | None, deque[Value]], scope: Group | None) -> Value:
    queue = waiting[scope]
    value = queue.popleft()
    if not queue:
        del waiting[scope]
    return value
