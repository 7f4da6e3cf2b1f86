"""The checks of a pipeline's graph: what is wrong or suspicious in it, found before anything runs.

Rules: an error is a certainty (a join that can never complete, a loop that can never end), so it refuses a start; a
warning is legal and suspicious. What depends on a condition in the code is not reported: a legitimate pipeline has no
findings. Every message says what is wrong, and every hint what to do.

    code                   severity  what it says
    no-steps               error     the pipeline has no step
    ambiguous-join         error     two parameters of one step accept the same type
    join-never-completes   error     no single trigger leads to all events of a join, or only on branches that exclude
                                     each other, or only as items of different fan-outs
    loop-without-exit      error     a circle of steps each of which always emits something that keeps it going
    unreachable-step       warning   its events come only from steps that cannot act
    nobody-emits           warning   in a pipeline with webhooks, a step receives what no webhook and no step emits
    dead-end               warning   a webhook emits what no step receives, or nothing at all
    list-without-fan-out   warning   a list parameter that can never hold more than one event
    insecure-webhook       warning   a webhook that verifies nothing

A loop with a way out (`| None`, another event, a list that may be empty) is legitimate and has no finding. An event
that no step receives is a result of the run, not a dead end. In a pipeline without webhooks, events that no step emits
come from outside (`engine.emit`, POST /events), and so do those that start a loop into which no other step leads.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from .declaration import Declaration
from .reachability import (
    FAILED,
    MANY,
    Reachability,
    Subscriptions,
    accepted_by,
    closure,
    entry_events,
    reachability,
    subscriptions_of,
)
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
    """A pipeline under check.

    declaration: the pipeline.
    subscriptions: its subscriptions.
    by_trigger: what can happen after each event that could start a run.
    reached: the steps that can act in a run that begins as it is meant to.
    """

    declaration: Declaration
    subscriptions: Subscriptions
    by_trigger: tuple[Reachability, ...]
    reached: frozenset[str]


def check(declaration: Declaration) -> list[Finding]:
    """All findings, errors first, otherwise in the order of the rules above and of the steps."""
    subscriptions = subscriptions_of(declaration)
    triggers = sorted({*subscriptions.subscribers, *subscriptions.webhook_events} - {FAILED})
    by_trigger = tuple(reachability(subscriptions, name) for name in triggers)
    entries = entry_events(subscriptions)
    reached = frozenset(step for after in by_trigger if after.trigger in entries for step in after.steps)
    case = _Case(declaration, subscriptions, by_trigger, reached)
    return [finding for rule in _RULES for finding in rule(case)]


def _no_steps(case: _Case) -> Iterator[Finding]:
    if not case.subscriptions.steps:
        name = case.declaration.name
        yield Finding("no-steps", "error", f"pipeline {name} has no step", "add one with @pipeline.step")


def _ambiguous_joins(case: _Case) -> Iterator[Finding]:
    for step in case.subscriptions.steps.values():
        for first, second in combinations(step.parameters, 2):
            for event in sorted(accepted_by([first]) & accepted_by([second])):
                both = f"{first.name!r} and {second.name!r} both accept {event}"
                message = f"step {step.name}: {both}, so it is not clear which gets which"
                hint = f"take them as one parameter, list[{event}], or give the two a type each"
                yield Finding("ambiguous-join", "error", message, hint, step.name, event)


def _joins_that_never_complete(case: _Case) -> Iterator[Finding]:
    for step in case.subscriptions.steps.values():
        if len(step.parameters) > 1 and not any(step.name in after.steps for after in case.by_trigger):
            yield _never(case, step)


def _never(case: _Case, step: Step) -> Finding:
    wanted = " and ".join(_types(parameter) for parameter in step.parameters)
    lacking = [
        p for p in step.parameters if not any((step.name, p.name) in after.arrivals for after in case.by_trigger)
    ]
    meeting = [
        after for after in case.by_trigger if all((step.name, p.name) in after.arrivals for p in step.parameters)
    ]
    chooser = _chooser(meeting[0], step) if meeting else None
    if lacking:
        message = f"step {step.name} can never act: nothing that can happen leads to {_types(lacking[0])}"
        hint = f"let a step that can act emit it, or take {lacking[0].name!r} out of the signature"
    elif chooser is not None:
        message = f"step {step.name} waits for {wanted}, but {chooser} emits one or the other, never both in one run"
        hint = f"take them as one parameter ({wanted.replace(' and ', ' | ')}), or let two steps emit one each"
    elif meeting:
        message = f"step {step.name} waits for {wanted}, which come as items of different fan-outs and never meet"
        hint = "gather them first (list[...]), or let both ensue from the same item"
    else:
        message = f"step {step.name} waits for {wanted}, but no single trigger leads to all of them in one run"
        hint = "let them ensue from one event, or receive them in separate steps"
    return Finding("join-never-completes", "error", message, hint, step.name)


def _chooser(after: Reachability, step: Step) -> str | None:
    """The first step that would have to choose two alternatives at once."""
    choices = [after.arrivals[step.name, parameter.name].choices for parameter in step.parameters]
    pairs = (
        (name, one[name] & other[name]) for one, other in combinations(choices, 2) for name in one if name in other
    )
    return next((name for name, common in pairs if not common), None)


def _loops_without_exit(case: _Case) -> Iterator[Finding]:
    endless = _endless(case.subscriptions)
    successors = {
        name: [other for other in case.subscriptions.successors[name] if other in endless] for name in endless
    }
    seen: set[str] = set()
    for name in case.subscriptions.steps:
        if name in seen or name not in closure(successors, name):
            continue
        loop = [
            other
            for other in case.subscriptions.steps
            if other in closure(successors, name) and name in closure(successors, other)
        ]
        seen.update(loop)
        names = " -> ".join((*loop, loop[0])) if len(loop) < 3 else ", ".join(loop)  # noqa: PLR2004 - a pair has one order
        message = f"{names}: this loop never ends, since each of its steps always emits what keeps it going"
        hint = "give one of them a way out: `| None`, or another event that does not lead back"
        yield Finding("loop-without-exit", "error", message, hint, name)


def _endless(subscriptions: Subscriptions) -> set[str]:
    """The steps that some step always follows, whatever they choose."""
    endless = {name for name, step in subscriptions.steps.items() if not _may_stop(step)}
    changed = True
    while changed:
        ending = {name for name in endless if _has_exit(subscriptions, subscriptions.steps[name], endless)}
        endless -= ending
        changed = bool(ending)
    return endless


def _may_stop(step: Step) -> bool:
    """Whether a step may emit nothing: a list may be empty, and a join is not called for every one of its events."""
    emission = step.emission
    return len(step.parameters) > 1 or emission.optional or bool(emission.many) or not emission.models


def _has_exit(subscriptions: Subscriptions, step: Step, endless: set[str]) -> bool:
    return any(
        endless.isdisjoint(subscriptions.subscribers.get(model.__event_type__, ())) for model in step.emission.models
    )


def _unreachable_steps(case: _Case) -> Iterator[Finding]:
    for name, step in case.subscriptions.steps.items():
        own_fault = len(step.parameters) > 1 and not any(name in after.steps for after in case.by_trigger)
        if name not in case.reached and not own_fault:
            wanted = " and ".join(_types(parameter) for parameter in step.parameters)
            message = f"step {name} is unreachable: {wanted} comes only from steps that cannot act"
            yield Finding("unreachable-step", "warning", message, "connect it to an event that comes in", name)


def _received_and_never_emitted(case: _Case) -> Iterator[Finding]:
    subscriptions = case.subscriptions
    for event, receivers in subscriptions.subscribers.items() if subscriptions.webhook_events else ():
        if event != FAILED and event not in subscriptions.webhook_events and event not in subscriptions.emitters:
            message = f"step {receivers[0]} receives {event}, which no webhook and no step emits"
            hint = "emit it, or ignore this if it is sent to POST /events"
            yield Finding("nobody-emits", "warning", message, hint, receivers[0], event)


def _dead_ends(case: _Case) -> Iterator[Finding]:
    for endpoint in case.declaration.endpoints.values():
        if not endpoint.models:
            message = f"webhook {endpoint.name} emits nothing, so its deliveries are lost"
            yield Finding("dead-end", "warning", message, "annotate the event that it returns")
        for model in endpoint.models:
            event = model.__event_type__
            if event not in case.subscriptions.subscribers:
                message = f"webhook {endpoint.name} emits {event}, which no step receives"
                yield Finding(
                    "dead-end", "warning", message, "add a step that receives it, or return None", None, event
                )


def _lists_without_fan_out(case: _Case) -> Iterator[Finding]:
    for step, parameter in _list_parameters(case.subscriptions):
        arrivals = [after.arrivals.get((step.name, parameter.name)) for after in case.by_trigger]
        counts = [arrival.count for arrival in arrivals if arrival is not None]
        if counts and max(counts) < MANY:
            event = _types(parameter)
            message = f"step {step.name}: {parameter.name!r} is a list, but a run has at most one {event}"
            hint = f"write {event} instead of list[{event}], or let a step emit them as a list"
            yield Finding("list-without-fan-out", "warning", message, hint, step.name, event)


def _insecure_webhooks(case: _Case) -> Iterator[Finding]:
    for endpoint in case.declaration.endpoints.values():
        if endpoint.verify.scheme == "insecure":
            message = f"webhook {endpoint.name} verifies nothing: anyone who reaches it can start runs"
            yield Finding(
                "insecure-webhook", "warning", message, "give it the sender's scheme, e.g. verify=hooks.GitHub(...)"
            )


def _list_parameters(subscriptions: Subscriptions) -> Iterable[tuple[Step, Parameter]]:
    return (
        (step, parameter) for step in subscriptions.steps.values() for parameter in step.parameters if parameter.is_list
    )


def _types(parameter: Parameter) -> str:
    return " | ".join(model.__event_type__ for model in parameter.models)


_RULES: tuple[Callable[[_Case], Iterator[Finding]], ...] = (
    _no_steps,
    _ambiguous_joins,
    _joins_that_never_complete,
    _loops_without_exit,
    _unreachable_steps,
    _received_and_never_emitted,
    _dead_ends,
    _lists_without_fan_out,
    _insecure_webhooks,
)
