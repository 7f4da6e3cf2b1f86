"""What can happen in a run: which steps can ever act, how often, and which branches exclude each other.

Rules: a run has one trigger, so every question is asked trigger by trigger. What is said to be impossible is
impossible; what cannot be known (an exception, an empty list, a condition in the code) counts as possible. Steps and
event types go by name here.

The answer is a least fixpoint. A step acts when each of its parameters can be given an event. For each step that acts
it is known whether it acts at most once, and on which choices it depends: a step that acts once and returns `A | B`
has chosen, so what needs its A and what needs its B never meet in one run. And each item of a fan-out has a scope of
its own (see `joins`), written as the path of fan-outs that led to it: events meet where one path continues the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..model.failure import StepFailed
from .pipeline import Pipeline
from .signature import Parameter
from .step import Step

__all__ = [
    "FAILED",
    "MANY",
    "ONCE",
    "Arrival",
    "Choices",
    "Flow",
    "Scope",
    "Subscriptions",
    "accepted_by",
    "closure",
    "entries_of",
    "flow_of",
    "handles",
    "wire",
]

FAILED = StepFailed.__event_type__
ONCE = 1
MANY = 2
Choices = Mapping[str, frozenset[str]]
"""For each step that has to have chosen: the event types of which it has to have emitted one."""
Scope = tuple[tuple[str, str], ...]
"""The fan-outs that an event is in, from the outside in: the step that fanned out, and the type of its item."""
_MOST_SCOPES = 64


@dataclass(frozen=True, slots=True)
class Subscriptions:
    """Who hears what and who emits it. `onward` leads from a step to those that hear what it emits."""

    steps: Mapping[str, Step]
    hearers: Mapping[str, list[str]]
    emitters: Mapping[str, list[str]]
    hooked: frozenset[str]
    onward: Mapping[str, frozenset[str]]

    def reach(self, start: str) -> frozenset[str]:
        """The steps that can ensue from a step; itself only where a loop leads back to it."""
        return closure(self.onward, start)


@dataclass(frozen=True, slots=True)
class Arrival:
    """How an event can come to a parameter: how often at most, after which choices, in which scopes (None: in any)."""

    count: int
    choices: Choices
    scopes: frozenset[Scope] | None


@dataclass(frozen=True, slots=True)
class Flow:
    """What can happen after one trigger: the steps that can act, and for each parameter of any step its arrival."""

    trigger: str
    acting: Mapping[str, Arrival]
    arrivals: Mapping[tuple[str, str], Arrival]


def wire(pipeline: Pipeline) -> Subscriptions:
    """The wiring of a pipeline; compensations are no part of it, since no event leads to them."""
    forward = {name: step for name, step in pipeline.steps.items() if step.compensates is None}
    hearers: dict[str, list[str]] = {}
    emitters: dict[str, list[str]] = {}
    for step in forward.values():
        for name in sorted(accepted_by(step.parameters)):
            hearers.setdefault(name, []).append(step.name)
        for model in step.emission.models:
            emitters.setdefault(model.__event_type__, []).append(step.name)
    onward = {
        step.name: frozenset(
            hearer for model in step.emission.models for hearer in hearers.get(model.__event_type__, ())
        )
        for step in forward.values()
    }
    hooked = frozenset(m.__event_type__ for endpoint in pipeline.endpoints.values() for m in endpoint.models)
    return Subscriptions(forward, hearers, emitters, hooked, onward)


def accepted_by(parameters: Iterable[Parameter]) -> frozenset[str]:
    """The event types that these parameters hear."""
    return frozenset(model.__event_type__ for parameter in parameters for model in parameter.models)


def closure(onward: Mapping[str, Iterable[str]], start: str) -> frozenset[str]:
    """Everything that one or more arrows lead to."""
    found: set[str] = set()
    waiting = list(onward.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(onward.get(name, ()))
    return frozenset(found)


def entries_of(wiring: Subscriptions) -> frozenset[str]:
    """The events that a run is meant to begin with.

    Those of the webhooks, what no step emits, and, where there is no webhook, what starts a loop that nothing leads
    into.
    """
    unemitted = {name for name in wiring.hearers if name not in wiring.emitters} - {FAILED}
    loops = set[str]() if wiring.hooked else _heard_by_loops_without_entry(wiring)
    return frozenset(wiring.hooked | unemitted | loops)


def _heard_by_loops_without_entry(wiring: Subscriptions) -> set[str]:
    heard: set[str] = set()
    reach = {name: wiring.reach(name) for name in wiring.steps}
    for name, step in wiring.steps.items():
        loop = {other for other in reach[name] if name in reach[other]}
        into = {other for other, targets in wiring.onward.items() if targets & loop}
        if loop and into <= loop:
            heard |= accepted_by(step.parameters)
    return heard


def flow_of(wiring: Subscriptions, trigger: str) -> Flow:
    """What can happen in a run that this event type triggers."""
    acting: dict[str, Arrival] = {}
    arrivals: dict[tuple[str, str], Arrival] = {}
    changed = True
    while changed:
        changed = False
        for step in wiring.steps.values():
            found = {
                p.name: arrival for p in step.parameters if (arrival := _arrival(wiring, acting, trigger, step, p))
            }
            arrivals.update({(step.name, name): arrival for name, arrival in found.items()})
            arrival = _meet(found.values()) if len(found) == len(step.parameters) else None
            if arrival is not None and acting.get(step.name) != arrival:
                acting[step.name] = arrival
                changed = True
    return Flow(trigger, acting, arrivals)


def _arrival(
    wiring: Subscriptions, acting: Mapping[str, Arrival], trigger: str, step: Step, parameter: Parameter
) -> Arrival | None:
    accepted = accepted_by([parameter])
    ways = [Arrival(ONCE, {}, frozenset({()}))] if trigger in accepted else []
    emitters = dict.fromkeys(emitter for name in sorted(accepted) for emitter in wiring.emitters.get(name, ()))
    ways += [_emitted(wiring.steps[name], acting[name], accepted) for name in emitters if name in acting]
    if FAILED in accepted:
        failing = (acting[name] for name in acting if handles(step, wiring.steps[name]))
        ways += [Arrival(MANY, source.choices, source.scopes) for source in failing]
    if not ways:
        return None
    arrival = _either(ways)
    return replace(arrival, scopes=_around(arrival.scopes)) if parameter.is_list else arrival


def handles(step: Step, failed: Step) -> bool:
    """Whether a step hears the failure of another (see `StepPlan.handles_failure_of`, which does it in a run)."""
    if step.failed_steps:
        return failed.name in step.failed_steps
    return failed is not step and FAILED not in accepted_by(failed.parameters)


def _emitted(step: Step, arrival: Arrival, accepted: frozenset[str]) -> Arrival:
    """How what a step emits comes to a parameter that accepts these types."""
    alone = frozenset(model.__event_type__ for model in step.emission.single) & accepted
    streamed = frozenset(model.__event_type__ for model in step.emission.many) & accepted
    scopes = _bounded(arrival.scopes if alone else frozenset(), _items(arrival.scopes, step, streamed))
    if arrival.count == MANY or streamed:
        return Arrival(MANY, arrival.choices, scopes)
    return Arrival(ONCE, {**arrival.choices, step.name: alone}, scopes)


def _either(ways: list[Arrival]) -> Arrival:
    """One way or the other: more of them, and only those choices that every way needs."""
    shared = [name for name in ways[0].choices if all(name in way.choices for way in ways)]
    choices = {name: frozenset[str]().union(*(way.choices[name] for way in ways)) for name in shared}
    return Arrival(min(sum(way.count for way in ways), MANY), choices, _bounded(*(way.scopes for way in ways)))


def _meet(arrivals: Iterable[Arrival]) -> Arrival | None:
    """All of them in one run; None where their choices exclude each other or their scopes never meet."""
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
    """The scopes of the items that a step fans out; any, where a loop fans out again and again."""
    if not streamed:
        return frozenset()
    if scopes is None or any(step.name == name for scope in scopes for name, _ in scope):
        return None
    return frozenset((*scope, (step.name, event)) for scope in scopes for event in streamed)


def _around(scopes: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """Where a list of events of these scopes can belong: to any of the fan-outs around them, or to the run."""
    return None if scopes is None else frozenset({(), *(scope[:end] for scope in scopes for end in range(len(scope)))})


def _common(ones: frozenset[Scope] | None, others: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """The inner scopes of those pairs of which one lies inside the other."""
    if ones is None or others is None:
        return None
    pairs = (sorted((one, other), key=len) for one in ones for other in others)
    return _bounded(frozenset(inner for outer, inner in pairs if inner[: len(outer)] == outer))


def _bounded(*sets: frozenset[Scope] | None) -> frozenset[Scope] | None:
    """Their union; any, where one is any or there are too many to follow."""
    union: set[Scope] = set()
    for scopes in sets:
        if scopes is None:
            return None
        union |= scopes
    return frozenset(union) if len(union) <= _MOST_SCOPES else None
