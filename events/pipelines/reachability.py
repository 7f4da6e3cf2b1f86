"""Reachability: which steps can ever act in a run, how often, and which branches exclude each other.

Rules: a run has one trigger, so the analysis is done trigger by trigger. What it calls impossible is impossible; what
cannot be known (an exception, an empty list, a condition in the code) counts as possible. Steps and event types are
named by their names here.

The answer is a least fixpoint. A step can act when each of its parameters can receive an event. For each such step
the analysis knows whether it acts at most once, and on which choices it depends: a step that acts once and returns
`A | B` has chosen, so a step that needs its A and one that needs its B never meet in one run. Each item of a fan-out
has a scope of its own (see `joins`), written as the path of fan-outs that led to it: events meet if one path continues
the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..model.failure import StepFailed
from .declaration import Declaration
from .signature import Parameter
from .step import Step

__all__ = [
    "FAILED",
    "MANY",
    "ONCE",
    "Arrival",
    "Choices",
    "Reachability",
    "Scope",
    "Subscriptions",
    "accepted_by",
    "closure",
    "entry_events",
    "handles",
    "reachability",
    "subscriptions_of",
]

FAILED = StepFailed.__event_type__
ONCE = 1
MANY = 2
Choices = Mapping[str, frozenset[str]]
"""For each step whose choice matters: the event types of which it must have emitted one."""
Scope = tuple[tuple[str, str], ...]
"""The fan-outs around an event, from the outside in: the step that fanned out, and the event type of its items."""
_MOST_SCOPES = 64


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Which steps receive and which emit each event type; compensations are left out, since no event leads to them.

    steps: the steps by name.
    subscribers: the steps that receive an event type.
    emitters: the steps that emit an event type.
    webhook_events: the event types that a webhook may emit.
    successors: the steps that receive what a step emits.
    """

    steps: Mapping[str, Step]
    subscribers: Mapping[str, list[str]]
    emitters: Mapping[str, list[str]]
    webhook_events: frozenset[str]
    successors: Mapping[str, frozenset[str]]

    def reach(self, start: str) -> frozenset[str]:
        """The steps that can follow from a step; the step itself only if a loop leads back to it."""
        return closure(self.successors, start)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an event can arrive at a parameter.

    count: how often at most, `ONCE` or `MANY`.
    choices: the choices that it depends on.
    scopes: the scopes that it can be in; None if it can be in any.
    """

    count: int
    choices: Choices
    scopes: frozenset[Scope] | None


@dataclass(frozen=True, slots=True)
class Reachability:
    """What can happen after one trigger.

    trigger: the event type that starts the run.
    steps: the steps that can act, and how their events arrive.
    arrivals: how an event arrives at each parameter, by step and parameter name.
    """

    trigger: str
    steps: Mapping[str, Arrival]
    arrivals: Mapping[tuple[str, str], Arrival]


def subscriptions_of(declaration: Declaration) -> Subscriptions:
    """The subscriptions of a pipeline's steps."""
    forward = {name: step for name, step in declaration.steps.items() if step.compensates is None}
    subscribers: dict[str, list[str]] = {}
    emitters: dict[str, list[str]] = {}
    for step in forward.values():
        for name in sorted(accepted_by(step.parameters)):
            subscribers.setdefault(name, []).append(step.name)
        for model in step.emission.models:
            emitters.setdefault(model.__event_type__, []).append(step.name)
    successors = {
        step.name: frozenset(
            subscriber for model in step.emission.models for subscriber in subscribers.get(model.__event_type__, ())
        )
        for step in forward.values()
    }
    endpoints = declaration.endpoints.values()
    webhook_events = frozenset(model.__event_type__ for endpoint in endpoints for model in endpoint.models)
    return Subscriptions(forward, subscribers, emitters, webhook_events, successors)


def accepted_by(parameters: Iterable[Parameter]) -> frozenset[str]:
    """The event types that these parameters accept."""
    return frozenset(model.__event_type__ for parameter in parameters for model in parameter.models)


def closure(successors: Mapping[str, Iterable[str]], start: str) -> frozenset[str]:
    """The transitive closure: everything that one or more edges lead to."""
    found: set[str] = set()
    waiting = list(successors.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(successors.get(name, ()))
    return frozenset(found)


def entry_events(subscriptions: Subscriptions) -> frozenset[str]:
    """The event types that a run is meant to begin with.

    These are the events of webhooks, the events that no step emits and, in a pipeline without webhooks, those that
    start a loop into which no other step leads.
    """
    unemitted = {name for name in subscriptions.subscribers if name not in subscriptions.emitters} - {FAILED}
    loops = set[str]() if subscriptions.webhook_events else _accepted_by_loops_without_entry(subscriptions)
    return frozenset(subscriptions.webhook_events | unemitted | loops)


def _accepted_by_loops_without_entry(subscriptions: Subscriptions) -> set[str]:
    accepted: set[str] = set()
    reach = {name: subscriptions.reach(name) for name in subscriptions.steps}
    for name, step in subscriptions.steps.items():
        loop = {other for other in reach[name] if name in reach[other]}
        into = {other for other, targets in subscriptions.successors.items() if targets & loop}
        if loop and into <= loop:
            accepted |= accepted_by(step.parameters)
    return accepted


def reachability(subscriptions: Subscriptions, trigger: str) -> Reachability:
    """What can happen in a run that this event type triggers."""
    reached: dict[str, Arrival] = {}
    arrivals: dict[tuple[str, str], Arrival] = {}
    changed = True
    while changed:
        changed = False
        for step in subscriptions.steps.values():
            found = {
                parameter.name: arrival
                for parameter in step.parameters
                if (arrival := _arrival(subscriptions, reached, trigger, step, parameter))
            }
            arrivals.update({(step.name, name): arrival for name, arrival in found.items()})
            arrival = _join(found.values()) if len(found) == len(step.parameters) else None
            if arrival is not None and reached.get(step.name) != arrival:
                reached[step.name] = arrival
                changed = True
    return Reachability(trigger, reached, arrivals)


def _arrival(
    subscriptions: Subscriptions, reached: Mapping[str, Arrival], trigger: str, step: Step, parameter: Parameter
) -> Arrival | None:
    accepted = accepted_by([parameter])
    ways = [Arrival(ONCE, {}, frozenset({()}))] if trigger in accepted else []
    emitters = dict.fromkeys(emitter for name in sorted(accepted) for emitter in subscriptions.emitters.get(name, ()))
    ways += [_emitted(subscriptions.steps[name], reached[name], accepted) for name in emitters if name in reached]
    if FAILED in accepted:
        failing = (reached[name] for name in reached if handles(step, subscriptions.steps[name]))
        ways += [Arrival(MANY, source.choices, source.scopes) for source in failing]
    if not ways:
        return None
    arrival = _union(ways)
    return replace(arrival, scopes=_around(arrival.scopes)) if parameter.is_list else arrival


def handles(step: Step, failed: Step) -> bool:
    """Whether a step handles the failure of another (`StepPlan.handles_failure_of` decides it in a run)."""
    if step.failed_steps:
        return failed.name in step.failed_steps
    return failed is not step and FAILED not in accepted_by(failed.parameters)


def _emitted(step: Step, arrival: Arrival, accepted: frozenset[str]) -> Arrival:
    """How the events that a step emits arrive at a parameter that accepts these types."""
    alone = frozenset(model.__event_type__ for model in step.emission.single) & accepted
    streamed = frozenset(model.__event_type__ for model in step.emission.many) & accepted
    scopes = _bounded(arrival.scopes if alone else frozenset(), _items(arrival.scopes, step, streamed))
    if arrival.count == MANY or streamed:
        return Arrival(MANY, arrival.choices, scopes)
    return Arrival(ONCE, {**arrival.choices, step.name: alone}, scopes)


def _union(ways: list[Arrival]) -> Arrival:
    """Any of these ways: their counts add up, and only choices that every way needs remain."""
    shared = [name for name in ways[0].choices if all(name in way.choices for way in ways)]
    choices = {name: frozenset[str]().union(*(way.choices[name] for way in ways)) for name in shared}
    return Arrival(min(sum(way.count for way in ways), MANY), choices, _bounded(*(way.scopes for way in ways)))


def _join(arrivals: Iterable[Arrival]) -> Arrival | None:
    """All of them in one run; None if their choices exclude each other or their scopes never meet."""
    count, choices = ONCE, dict[str, frozenset[str]]()
    scopes: frozenset[Scope] | None = frozenset({()})
    for arrival in arrivals:
        count = max(count, arrival.count)
        scopes = _common(scopes, arrival.scopes)
        for name, types in arrival.choices.items():
            choices[name] = choices.get(name, types) & types
    possible = all(choices.values()) and (scopes is None or bool(scopes))
    return Arrival(count, choices, scopes) if possible else None


def _items(scopes: frozenset[Scope] | None, step: Step, streamed: frozenset[str]) -> frozenset[Scope] | None:
    """The scopes of the items that a step fans out; any scope if a loop fans out again and again."""
    if not streamed:
        return frozenset()
    if scopes is None or any(step.name == name for scope in scopes for name, _ in scope):
        return None
    return frozenset((*scope, (step.name, event)) for scope in scopes for event in streamed)


def _around(scopes: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """The scopes that a list of events of these scopes can be in: any fan-out around them, or the run."""
    return None if scopes is None else frozenset({(), *(scope[:end] for scope in scopes for end in range(len(scope)))})


def _common(ones: frozenset[Scope] | None, others: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """The inner scope of each pair in which one lies inside the other."""
    if ones is None or others is None:
        return None
    pairs = (sorted((one, other), key=len) for one in ones for other in others)
    return _bounded(frozenset(inner for outer, inner in pairs if inner[: len(outer)] == outer))


def _bounded(*sets: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """Their union; any scope if one of them is any, or if there are too many to follow."""
    union: set[Scope] = set()
    for scopes in sets:
        if scopes is None:
            return None
        union |= scopes
    return frozenset(union) if len(union) <= _MOST_SCOPES else None
