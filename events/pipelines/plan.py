"""Plan: a pipeline compiled for the loop, so that routing an event is one look-up.

Rules: a plan never changes. What depends on the whole graph is computed here, once: which steps can still lead to a
list that another step gathers (`feeds`), and which gathering steps close the fan-out of a step (`closes`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ..model.failure import StepFailed
from .declaration import Declaration
from .step import Step

__all__ = ["FAILED_TYPE", "Plan", "StepPlan", "compile_plan"]

FAILED_TYPE = StepFailed.__event_type__


@dataclass(slots=True, eq=False)
class StepPlan:
    """One step as the loop sees it.

    index: its place in the plan.
    hears: the event types of each parameter.
    lists: for each parameter, whether it takes a whole fan-out.
    single: it has exactly one parameter, and that is not a list.
    feeds: the indices of the gathering steps that this step can lead to.
    closes: the indices of the gathering steps that close a fan-out of this step.
    compensation: the step that compensates this one.
    is_compensation: whether this is such a step, which has no subscriptions and whose events no step receives.
    pivot: after it has succeeded, its run is not compensated any more.
    """

    index: int
    name: str
    step: Step
    hears: tuple[frozenset[str], ...]
    lists: tuple[bool, ...]
    single: bool
    feeds: tuple[int, ...] = ()
    closes: frozenset[int] = frozenset()
    compensation: "StepPlan | None" = None
    is_compensation: bool = False
    pivot: bool = False

    @property
    def gathers(self) -> bool:
        """Whether a parameter takes a whole fan-out."""
        return any(self.lists)

    def handles_failure_of(self, failed: "StepPlan") -> bool:
        """Whether this step handles the failure of that one: never its own, and another handler's only by name."""
        named = self.step.failed_steps
        if named:
            return failed.name in named
        return failed is not self and FAILED_TYPE not in {t for types in failed.hears for t in types}


@dataclass(slots=True, eq=False)
class Plan:
    """A pipeline, ready to route.

    subscriptions: for each event type, the (step, parameter index) pairs that receive it.
    scoped: whether events have to carry the fan-out that they belong to.
    by_item: whether each item of a fan-out has a scope of its own, as joins need it.
    earlier_versions: what earlier releases call this version.
    """

    pipeline: str
    version: str
    steps: tuple[StepPlan, ...]
    by_name: dict[str, StepPlan]
    subscriptions: dict[str, tuple[tuple[StepPlan, int], ...]]
    scoped: bool
    by_item: bool
    earlier_versions: frozenset[str] = frozenset()

    def is_version(self, version: str) -> bool:
        """Whether a run of this version can go on with this plan."""
        return version == self.version or version in self.earlier_versions

    def handlers_of(self, failed: StepPlan) -> tuple[tuple[StepPlan, int], ...]:
        """The subscriptions that handle the failure of a step; the failure of a compensation is for an operator."""
        if failed.is_compensation:
            return ()
        heard = self.subscriptions.get(FAILED_TYPE, ())
        return tuple((step, parameter) for step, parameter in heard if step.handles_failure_of(failed))


def compile_plan(declaration: Declaration, version: str, earlier_versions: frozenset[str] = frozenset()) -> Plan:
    """The plan of a pipeline.

    Its steps are sorted by name, whatever their order in the code, since deliveries are numbered in this order.
    """
    steps = tuple(_step_plan(index, declaration.steps[name]) for index, name in enumerate(sorted(declaration.steps)))
    by_name = {step.name: step for step in steps}
    forward = tuple(step for step in steps if not step.is_compensation)
    gathering = any(step.gathers for step in forward)
    joining = any(len(step.hears) > 1 for step in forward)
    fanning = any(step.step.emission.many for step in forward)
    for step in forward:
        step.feeds = tuple(g.index for g in forward if g.gathers and step in _upstream(g, forward))
        step.closes = frozenset(_closers(step, forward))
    for step in steps:
        if step.step.compensates is not None:
            by_name[step.step.compensates].compensation = step
    return Plan(
        pipeline=declaration.name,
        version=version,
        steps=steps,
        by_name=by_name,
        subscriptions=_subscriptions(forward),
        scoped=gathering or (joining and fanning),
        by_item=joining and fanning,
        earlier_versions=earlier_versions,
    )


def _step_plan(index: int, step: Step) -> StepPlan:
    hears = tuple(frozenset(m.__event_type__ for m in p.models) for p in step.parameters)
    lists = tuple(p.is_list for p in step.parameters)
    return StepPlan(
        index,
        step.name,
        step,
        hears,
        lists,
        step.is_single,
        is_compensation=step.compensates is not None,
        pivot=step.pivot,
    )


def _subscriptions(steps: Iterable[StepPlan]) -> dict[str, tuple[tuple[StepPlan, int], ...]]:
    table: dict[str, tuple[tuple[StepPlan, int], ...]] = {}
    for step in steps:
        for parameter, types in enumerate(step.hears):
            for name in types:
                table[name] = (*table.get(name, ()), (step, parameter))
    return table


def _leads_to(source: StepPlan, target: StepPlan) -> bool:
    if _emits(source) & frozenset().union(*target.hears):
        return True
    return any(FAILED_TYPE in types for types in target.hears) and target.handles_failure_of(source)


def _emits(step: StepPlan) -> frozenset[str]:
    return frozenset(m.__event_type__ for m in step.step.emission.models)


def _upstream(gatherer: StepPlan, steps: tuple[StepPlan, ...]) -> set[StepPlan]:
    found: set[StepPlan] = set()
    frontier = [gatherer]
    while frontier:
        target = frontier.pop()
        sources = {s for s in steps if s not in found and _leads_to(s, target)}
        found |= sources
        frontier.extend(sources)
    return found


def _closers(origin: StepPlan, steps: tuple[StepPlan, ...]) -> set[int]:
    """The gathering steps that the fan-out of `origin` reaches without another fan-out or gathering in between."""
    found: set[int] = set()
    types = {m.__event_type__ for m in origin.step.emission.many}
    seen = set(types)
    while types:
        name = types.pop()
        for step in steps:
            for hears, is_list in zip(step.hears, step.lists, strict=True):
                if name not in hears:
                    continue
                if is_list:
                    found.add(step.index)
                elif not step.step.emission.many and not step.gathers:
                    fresh = _emits(step) - seen
                    seen |= fresh
                    types |= fresh
    return found
