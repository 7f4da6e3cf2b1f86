"""The checks of a pipeline's graph: what can be known to be wrong, or looks it, before anything runs.

Rules: an error is a certainty (a join that can never complete, a loop that can never end), so it stops a start; a
warning is legal and suspicious. What depends on a condition in the code is left alone: a legitimate pipeline has no
findings. Every message says what is wrong and every hint what to do.

    code                   severity  what it says
    no-steps               error     the pipeline has no step
    ambiguous-join         error     two parameters of one step hear the same type
    join-never-completes   error     no single trigger leads to all events of a join, or only on branches that exclude
                                     each other, or only as items of different fan-outs
    loop-without-exit      error     a circle of steps each of which always emits something that keeps it going
    unreachable-step       warning   what it hears comes only from steps that cannot act
    nobody-emits           warning   in a pipeline with webhooks, a step hears what no webhook and no step emits
    dead-end               warning   a webhook emits what no step hears, or nothing at all
    list-without-fan-out   warning   a list parameter that can never hold more than one event
    insecure-webhook       warning   an endpoint that believes anybody

A loop with a way out (`| None`, another event, a list that may be empty) is legitimate and has no finding. An event
that nothing hears is a result of the run, not a dead end. In a pipeline without webhooks whatever no step emits comes
from outside (`engine.emit`, POST /events), and so does what starts a loop that nothing else leads into.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from .pipeline import Pipeline
from .reachability import FAILED, MANY, Flow, Subscriptions, accepted_by, closure, entries_of, flow_of, wire
from .signature import Parameter
from .step import Step

__all__ = ["Finding", "check"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or doubtful: `message` says what, `hint` what to do."""

    code: str
    severity: Severity
    message: str
    hint: str
    step: str | None = None
    event: str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}; {self.hint} [{self.code}]"


@dataclass(frozen=True, slots=True)
class _Case:
    """A pipeline under check: its wiring, and what can happen after each trigger that it could have."""

    pipeline: Pipeline
    wiring: Subscriptions
    flows: tuple[Flow, ...]
    reached: frozenset[str]


def check(pipeline: Pipeline) -> list[Finding]:
    """All findings, errors first, otherwise in the order of the rules above and of the steps."""
    wiring = wire(pipeline)
    flows = tuple(flow_of(wiring, name) for name in sorted({*wiring.hearers, *wiring.hooked} - {FAILED}))
    entries = entries_of(wiring)
    reached = frozenset(step for flow in flows if flow.trigger in entries for step in flow.acting)
    case = _Case(pipeline, wiring, flows, reached)
    return [finding for rule in _RULES for finding in rule(case)]


def _no_steps(case: _Case) -> Iterator[Finding]:
    if not case.wiring.steps:
        name = case.pipeline.name
        yield Finding("no-steps", "error", f"pipeline {name} has no step", "add one with @pipeline.step")


def _ambiguous_joins(case: _Case) -> Iterator[Finding]:
    for step in case.wiring.steps.values():
        for first, second in combinations(step.parameters, 2):
            for event in sorted(accepted_by([first]) & accepted_by([second])):
                message = (
                    f"step {step.name}: {first.name!r} and {second.name!r} both hear {event}, so which gets which?"
                )
                hint = f"hear them as one parameter, list[{event}], or give the two a type each"
                yield Finding("ambiguous-join", "error", message, hint, step.name, event)


def _joins_that_never_complete(case: _Case) -> Iterator[Finding]:
    for step in case.wiring.steps.values():
        if len(step.parameters) > 1 and not any(step.name in flow.acting for flow in case.flows):
            yield _never(case, step)


def _never(case: _Case, step: Step) -> Finding:
    wanted = " and ".join(_types(parameter) for parameter in step.parameters)
    lacking = [p for p in step.parameters if not any((step.name, p.name) in flow.arrivals for flow in case.flows)]
    meeting = [flow for flow in case.flows if all((step.name, p.name) in flow.arrivals for p in step.parameters)]
    chooser = _chooser(meeting[0], step) if meeting else None
    if lacking:
        message = f"step {step.name} can never act: nothing that can happen leads to {_types(lacking[0])}"
        hint = f"let a step that can act emit it, or take {lacking[0].name!r} out of the signature"
    elif chooser is not None:
        message = f"step {step.name} waits for {wanted}, but {chooser} emits one or the other, never both in one run"
        hint = f"hear them as one parameter ({wanted.replace(' and ', ' | ')}), or let two steps emit one each"
    elif meeting:
        message = f"step {step.name} waits for {wanted}, which come as items of different fan-outs and never meet"
        hint = "gather them first (list[...]), or let both ensue from the same item"
    else:
        message = f"step {step.name} waits for {wanted}, but no single trigger leads to all of them in one run"
        hint = "let them ensue from one event, or hear them in separate steps"
    return Finding("join-never-completes", "error", message, hint, step.name)


def _chooser(flow: Flow, step: Step) -> str | None:
    """The first step whose choice would have to fall on two sides at once."""
    choices = [flow.arrivals[step.name, parameter.name].choices for parameter in step.parameters]
    pairs = (
        (name, one[name] & other[name]) for one, other in combinations(choices, 2) for name in one if name in other
    )
    return next((name for name, common in pairs if not common), None)


def _loops_without_exit(case: _Case) -> Iterator[Finding]:
    endless = _endless(case.wiring)
    onward = {name: [other for other in case.wiring.onward[name] if other in endless] for name in endless}
    seen: set[str] = set()
    for name in case.wiring.steps:
        if name in seen or name not in closure(onward, name):
            continue
        loop = [
            other for other in case.wiring.steps if other in closure(onward, name) and name in closure(onward, other)
        ]
        seen.update(loop)
        names = " -> ".join((*loop, loop[0])) if len(loop) < 3 else ", ".join(loop)  # noqa: PLR2004 - a pair has one order
        message = f"{names}: this loop never ends, since each of its steps always emits what keeps it going"
        hint = "give one of them a way out: `| None`, or another event that does not lead back"
        yield Finding("loop-without-exit", "error", message, hint, name)


def _endless(wiring: Subscriptions) -> set[str]:
    """The steps after which, whatever they choose, something always follows."""
    endless = {name for name, step in wiring.steps.items() if not _may_stop(step)}
    changed = True
    while changed:
        ending = {name for name in endless if _has_exit(wiring, wiring.steps[name], endless)}
        endless -= ending
        changed = bool(ending)
    return endless


def _may_stop(step: Step) -> bool:
    """Whether a step may emit nothing: a list may be empty, and a join is not called by every event that it hears."""
    emission = step.emission
    return len(step.parameters) > 1 or emission.optional or bool(emission.many) or not emission.models


def _has_exit(wiring: Subscriptions, step: Step, endless: set[str]) -> bool:
    return any(endless.isdisjoint(wiring.hearers.get(model.__event_type__, ())) for model in step.emission.models)


def _unreachable_steps(case: _Case) -> Iterator[Finding]:
    for name, step in case.wiring.steps.items():
        own_fault = len(step.parameters) > 1 and not any(name in flow.acting for flow in case.flows)
        if name not in case.reached and not own_fault:
            wanted = " and ".join(_types(parameter) for parameter in step.parameters)
            message = f"step {name} is unreachable: {wanted} comes only from steps that cannot act"
            yield Finding("unreachable-step", "warning", message, "connect it to an event that comes in", name)


def _heard_and_never_emitted(case: _Case) -> Iterator[Finding]:
    wiring = case.wiring
    for event, hearers in wiring.hearers.items() if wiring.hooked else ():
        if event != FAILED and event not in wiring.hooked and event not in wiring.emitters:
            message = f"step {hearers[0]} hears {event}, which no webhook and no step emits"
            hint = "emit it, or take no notice where it is sent to POST /events"
            yield Finding("nobody-emits", "warning", message, hint, hearers[0], event)


def _dead_ends(case: _Case) -> Iterator[Finding]:
    for endpoint in case.pipeline.endpoints.values():
        if not endpoint.models:
            message = f"webhook {endpoint.name} emits nothing, so its deliveries are lost"
            yield Finding("dead-end", "warning", message, "annotate the event that it returns")
        for model in endpoint.models:
            event = model.__event_type__
            if event not in case.wiring.hearers:
                message = f"webhook {endpoint.name} emits {event}, which no step hears"
                yield Finding("dead-end", "warning", message, "add a step that hears it, or return None", None, event)


def _lists_without_fan_out(case: _Case) -> Iterator[Finding]:
    for step, parameter in _list_parameters(case.wiring):
        arrivals = [flow.arrivals.get((step.name, parameter.name)) for flow in case.flows]
        counts = [arrival.count for arrival in arrivals if arrival is not None]
        if counts and max(counts) < MANY:
            event = _types(parameter)
            message = f"step {step.name}: {parameter.name!r} is a list, but a run has at most one {event}"
            hint = f"write {event} instead of list[{event}], or let a step emit them as a list"
            yield Finding("list-without-fan-out", "warning", message, hint, step.name, event)


def _insecure_webhooks(case: _Case) -> Iterator[Finding]:
    for endpoint in case.pipeline.endpoints.values():
        if endpoint.verify.scheme == "insecure":
            message = f"webhook {endpoint.name} verifies nothing: whoever reaches it can start runs"
            yield Finding(
                "insecure-webhook", "warning", message, "give it the sender's scheme, e.g. verify=hooks.GitHub(...)"
            )


def _list_parameters(wiring: Subscriptions) -> Iterable[tuple[Step, Parameter]]:
    return ((step, parameter) for step in wiring.steps.values() for parameter in step.parameters if parameter.is_list)


def _types(parameter: Parameter) -> str:
    return " | ".join(model.__event_type__ for model in parameter.models)


_RULES: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _no_steps,
    _ambiguous_joins,
    _joins_that_never_complete,
    _loops_without_exit,
    _unreachable_steps,
    _heard_and_never_emitted,
    _dead_ends,
    _lists_without_fan_out,
    _insecure_webhooks,
)
