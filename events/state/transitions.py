"""Transitions: what an event, a result or a failure changes in the state of a run.

Law: the live loop and the replay of the log call these same functions in the same order, so the state after a restart
is the state before it. They neither record nor command; deliveries that became ready are left in `State.fresh`.
"""

from collections.abc import Collection
from typing import Any

from ..model.failure import Failure
from ..pipelines.plan import Plan, StepPlan
from . import scopes
from .joins import offer
from .keys import enqueue, free_key, park, ready, release
from .phases import PHASES, RunSignal
from .run_status import Status
from .state import Compensation, Delivery, DeliveryStatus, Group, Inputs, RecordedError, Ref, Run, State

__all__ = [
    "TRACES_KEPT",
    "attempt",
    "begin",
    "begin_compensating",
    "blame",
    "cancel",
    "complete",
    "discard",
    "edited",
    "emitted",
    "failed",
    "finish",
    "hear",
    "redrive",
    "revive",
]

READY = DeliveryStatus.READY
BLOCKED = DeliveryStatus.BLOCKED
LEASED = DeliveryStatus.LEASED
PARKED = DeliveryStatus.PARKED
OVER = DeliveryStatus.OVER
FAILED = DeliveryStatus.FAILED

TRACES_KEPT = 1000
"""So many errors of a run are kept with their traces; later ones that are handled leave theirs to the log."""


def begin(state: State, run_id: bytes, plan: Plan, started_us: int, trigger_type: str) -> Run:
    """A new run."""
    run = Run(run_id, plan, started_us, trigger_type)
    if plan.scoped:
        run.root = Group(None)
    state.runs[run_id] = run
    return run


def hear(state: State, run: Run, ref: Ref, failed: StepPlan | None = None) -> bool:
    """Route an event to what hears it; False where nothing does. `failed` is the step that a `StepFailed` tells of."""
    size = len(ref.data)
    run.size_bytes += size
    state.size_bytes += size
    plan = run.plan
    heard = plan.subscriptions.get(ref.type, ()) if failed is None else plan.handlers_of(failed)
    for step, parameter in heard:
        if step.single:
            _create(state, run, step, (ref,), ref.scope)
        elif step.lists[parameter]:
            assert ref.scope is not None  # noqa: S101 - a plan that gathers is scoped
            scopes.group_of(ref.scope).gathered.setdefault((step.index, parameter), []).append(ref)
        else:
            _join(state, run, step, parameter, ref, ref.scope)
    return bool(heard)


def emitted(state: State, delivery: Delivery, ref: Ref, *, many: bool) -> None:
    """An event that a delivery emitted: give it its scope, and route it; unheard, it is a result of the run."""
    run = delivery.run
    if run.root is not None:
        ref.scope = _scope_of(delivery, many=many)
    delivery.emitted += 1
    if delivery.step.is_compensation or not hear(state, run, ref):
        run.results = run.results or []
        run.results.append(ref)


def blame(delivery: Delivery, failure: Failure) -> None:
    """A step gave up: the failure stands in the outcome of the run."""
    run = delivery.run
    last = delivery.last_ref
    handled = bool(run.plan.handlers_of(delivery.step))
    if handled and run.errors is not None and len(run.errors) >= TRACES_KEPT:
        failure = failure._replace(trace="")
    error = RecordedError(
        delivery.step.name, failure, delivery.number, delivery.attempt, last.event_id if last else b"", handled
    )
    run.errors = run.errors or []
    run.errors.append(error)


def failed(state: State, delivery: Delivery, ref: Ref) -> None:
    """Route the `StepFailed` of a step that gave up: heard, the run goes on; unheard, it halts.

    A compensation that gave up stays where it is, and holds up those that come after it, until an operator decides.
    """
    ref.scope = delivery.scope
    run = delivery.run
    if delivery is run.compensating:
        _bury(delivery)
    elif hear(state, run, ref, delivery.step):
        complete(state, delivery, gave_up=True)
    else:
        _bury(delivery)
        free_key(state, delivery)
        _halt(state, run, RunSignal.FAILED)


def attempt(delivery: Delivery, number: int, time_us: int) -> None:
    """An attempt begins; with the first one the step's compensation is owed."""
    if delivery.status is LEASED:
        delivery.engine_losses += 1
    else:
        delivery.run.leased += 1
    delivery.status = LEASED
    delivery.attempt = number
    if not delivery.first_us:
        delivery.first_us = time_us
        if delivery.step.compensation is not None:
            _register(delivery.run, delivery, delivery.step.compensation)


def complete(state: State, delivery: Delivery, *, many: bool = False, gave_up: bool = False) -> None:
    """A delivery is done: its key is free, and what waited for all of a fan-out may be complete."""
    run = delivery.run
    step = delivery.step
    release(delivery, OVER)
    del run.deliveries[delivery.number]
    if delivery.key is not None:
        free_key(state, delivery)
    if step.is_compensation:
        run.compensating = None
        _compensate_next(state, run)
        return
    if step.pivot and not gave_up:
        _pivot(state, run)
    if delivery.scope is None:
        return
    group: Group | None = scopes.open_group(delivery) if many else delivery.group
    if group is not None:
        _leave(state, run, group, step)
    scope: Group | None = delivery.scope
    while scope is not None:
        if not scope.is_item:
            _leave(state, run, scope, step)
        scope = scope.parent


def cancel(state: State, run: Run) -> None:
    """An operator ends a run that has something to undo or to let end: what is not running stands still."""
    run.cancelling = True
    _halt(state, run, RunSignal.CANCELLED)


def begin_compensating(state: State, run: Run) -> None:
    """Nothing of a run that failed or was cancelled runs any more: its compensations begin."""
    run.phase = PHASES[run.phase, RunSignal.STOPPED]
    _compensate_next(state, run)


def finish(state: State, run: Run, status: Status) -> None:
    """The run is over: it leaves the state; where it failed, what gave up unheard becomes dead letters."""
    run.status = status
    del state.runs[run.run_id]
    state.size_bytes -= run.size_bytes
    run.leased = 0
    for delivery in run.deliveries.values():
        if delivery.status is not FAILED:
            delivery.status = OVER
        else:
            delivery.is_dead_letter = delivery.is_dead_letter or status is Status.FAILED
    for delivery in run.deliveries.values():
        free_key(state, delivery)


def revive(state: State, run: Run, discarded: Collection[int] = ()) -> None:
    """An operator retries a run that ended: what failed or stood still is ready again, its attempts forgotten.

    What was discarded stays failed, and so does its error.
    """
    _bring_back(state, run)
    run.errors = [error for error in run.errors or () if error.handled or error.delivery in discarded] or None
    for number, delivery in list(run.deliveries.items()):
        if number in discarded:
            delivery.discarded = True
        else:
            _renew(state, delivery)


def edited(delivery: Delivery, fields: list[Any]) -> Ref:
    """The event that takes the place of a delivery's own: [event id, type, version, data, key]."""
    event_id, type_, version, data, key = fields
    return Ref(event_id, type_, version, data, key, delivery.scope)


def redrive(state: State, run: Run, delivery: Delivery, instead: Ref | None, discarded: Collection[int] = ()) -> None:
    """An operator has a dead letter run again, perhaps with another event in the place of its own.

    What stood still because of it goes on too; other dead letters of the run stay as they are, open or `discarded`.
    """
    if instead is not None:
        delivery.inputs = (instead,)
        delivery.edited = True
        delivery.emitted = 0  # what it emitted before is not of this event
        if not delivery.step.is_compensation:
            delivery.key = instead.key
    number = delivery.number
    run.errors = [error for error in run.errors or () if error.delivery != number] or None
    if run.run_id not in state.runs:
        _bring_back(state, run)
        for other in list(run.deliveries.values()):
            if other.status is OVER or other is delivery:
                _renew(state, other)
            else:
                other.discarded = other.number in discarded
    else:
        _renew(state, delivery)


def discard(state: State, delivery: Delivery) -> None:
    """An operator lets a dead letter go; a compensation which gave up is settled by that, and the next one begins."""
    if delivery is delivery.run.compensating:
        delivery.run.dead -= 1
        complete(state, delivery)
    else:
        delivery.discarded = True


def _bring_back(state: State, run: Run) -> None:
    state.runs[run.run_id] = run
    state.size_bytes += run.size_bytes
    run.phase = PHASES[run.phase, RunSignal.REVIVED]
    run.cancelling = False


def _renew(state: State, delivery: Delivery) -> None:
    """Ready again, its attempts forgotten."""
    if delivery.status is FAILED:
        delivery.run.dead -= 1
        delivery.is_dead_letter = delivery.discarded = False
        delivery.redrives += 1
    release(delivery, READY)
    delivery.attempt = delivery.crashes = delivery.engine_losses = 0
    delivery.first_us = 0
    enqueue(state, delivery)


def _bury(delivery: Delivery) -> None:
    """Given up, and nothing hears of it."""
    release(delivery, FAILED)
    delivery.run.dead += 1


def _halt(state: State, run: Run, signal: RunSignal) -> None:
    """What is not running stands still."""
    stands_still = run.phase
    run.phase = PHASES[run.phase, signal]
    if stands_still:
        return  # all of it was parked before, and what came since
    for delivery in run.deliveries.values():
        if delivery.status not in (LEASED, FAILED):
            park(state, delivery)


def _pivot(state: State, run: Run) -> None:
    """The point of no return: from here the run only goes forward, even where an operator had just cancelled it."""
    run.pivoted = True
    run.compensations = None
    if run.cancelling:
        run.cancelling = False
        if not run.dead:
            run.phase = PHASES[run.phase, RunSignal.PIVOTED]
            for delivery in list(run.deliveries.values()):
                if delivery.status is PARKED:
                    enqueue(state, delivery)


def _register(run: Run, delivery: Delivery, undo: StepPlan) -> None:
    """Register a compensation, once, unless the run is past its pivot."""
    if not run.pivoted:
        run.compensations = run.compensations or {}
        run.compensations.setdefault(delivery.number, Compensation(undo, delivery.inputs))


def _compensate_next(state: State, run: Run) -> None:
    """Begin the newest compensation that is owed; none is under way where none is left."""
    if not run.compensations:
        return
    _, undo = run.compensations.popitem()
    run.serial += 1
    state.order += 1
    run.compensating = Delivery(run, run.serial, state.order, undo.step, undo.inputs, None, None)
    run.deliveries[run.serial] = run.compensating
    ready(state, run.compensating)


def _scope_of(delivery: Delivery, *, many: bool) -> Group | None:
    if not many:
        return delivery.scope
    group = scopes.open_group(delivery)
    return scopes.item_scope(group) if delivery.run.plan.by_item else group


def _create(state: State, run: Run, step: StepPlan, inputs: Inputs, scope: Group | None) -> None:
    run.serial += 1
    state.order += 1
    first = inputs[0]
    key = first.key if step.single and isinstance(first, Ref) else None
    delivery = Delivery(run, run.serial, state.order, step, inputs, scope, key)
    run.deliveries[run.serial] = delivery
    if scope is not None:
        scopes.enter(scope, step)
    enqueue(state, delivery)


def _join(  # noqa: PLR0917 - a value and the place that it is for
    state: State, run: Run, step: StepPlan, parameter: int, value: Ref | list[Ref], scope: Group | None
) -> None:
    match = offer(run, step, parameter, value, scope)
    if match is not None:
        _create(state, run, step, match.inputs, match.scope)


def _leave(state: State, run: Run, group: Group, step: StepPlan) -> None:
    for index in scopes.leave(group, step):
        _close(state, run, group, run.plan.steps[index])


def _close(state: State, run: Run, group: Group, gatherer: StepPlan) -> None:
    """Everything has come that a gathering step can get from a group."""
    lists = [
        (parameter, group.gathered.pop((gatherer.index, parameter), []))
        for parameter, is_list in enumerate(gatherer.lists)
        if is_list
    ]
    closing = group.origin is not None and gatherer.index in group.origin.closes
    if not closing and not any(values for _, values in lists):
        return
    scope = scopes.outside(group)
    if len(gatherer.hears) == 1:
        _create(state, run, gatherer, (lists[0][1],), scope)
        return
    for parameter, values in lists:
        _join(state, run, gatherer, parameter, values, scope)
