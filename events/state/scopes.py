"""Scopes: which fan-out an event belongs to, and when a fan-out is complete.

Rules: a gathering step is called once for a fan-out, when no open delivery inside it can lead to that step any more.
Every open delivery counts, in each group around it, for every gathering step that it feeds. The delivery that fans out
counts in the group that it opened until it is done. A gathering step's own delivery is outside the group that it
closed, so fan-outs nest. A plan without gathering steps and joins has no scopes.
"""

from collections.abc import Iterator

from ..pipelines.plan import StepPlan
from .state import Delivery, Group

__all__ = ["enter", "group_of", "item_scope", "leave", "open_group", "outside", "related"]


def group_of(scope: Group) -> Group:
    """The fan-out (or the whole run) that a scope is in."""
    while scope.is_item:
        assert scope.parent is not None  # noqa: S101 - an item always has its group around it
        scope = scope.parent
    return scope


def outside(group: Group) -> Group:
    """The scope of what a gathering step makes of a group."""
    return group.parent or group


def enter(scope: Group | None, step: StepPlan) -> None:
    """Count a delivery of `step` in every group around it."""
    for group in _groups(scope):
        _count(group, step)


def _count(group: Group, step: StepPlan) -> None:
    for index in step.feeds:
        group.counts[index] = group.counts.get(index, 0) + 1


def leave(group: Group, step: StepPlan) -> list[int]:
    """Take a delivery of `step` out of a group; the gathering steps that no open delivery there feeds any more."""
    closed: list[int] = []
    for index in step.feeds:
        group.counts[index] -= 1
        if group.counts[index] == 0:
            closed.append(index)
    return closed


def _groups(scope: Group | None) -> Iterator[Group]:
    while scope is not None:
        if not scope.is_item:
            yield scope
        scope = scope.parent


def open_group(delivery: Delivery) -> Group:
    """The group of a delivery that fans out; it is opened with the first event."""
    if delivery.group is None:
        delivery.group = Group(delivery.scope, origin=delivery.step)
        _count(delivery.group, delivery.step)
    return delivery.group


def item_scope(group: Group) -> Group:
    """A scope for one item of a group."""
    return Group(group, is_item=True)


def related(one: Group | None, other: Group | None) -> bool:
    """Whether one scope lies inside the other, so that their events match in a join."""
    return one is other or _inside(one, other) or _inside(other, one)


def _inside(inner: Group | None, outer: Group | None) -> bool:
    while inner is not None:
        inner = inner.parent
        if inner is outer:
            return True
    return False
