"""Transitions: what an event, a result or a failure changes in the state of a run.

Rules: only the rows of `apply.APPLY` call them. They neither record nor command; deliveries that became ready are left
in `State.fresh`.
"""

from collections.abc import Collection

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
    "begin",
    "begin_compensating",
    "cancel",
    "complete",
    "discard",
    "emitted",
    "failed",
    "finish",
    "gave_up",
    "redrive",
    "register",
    "revive",
    "route",
    "trigger",
]

READY = DeliveryStatus.READY
BLOCKED = DeliveryStatus.BLOCKED
LEASED = DeliveryStatus.LEASED
PARKED = DeliveryStatus.PARKED
OVER = DeliveryStatus.OVER
FAILED = DeliveryStatus.FAILED

TRACES_KEPT = 1000
"""How many errors of a run keep their traces in memory. The traces of later handled errors are in the log only."""


def begin(state: State, run_id: bytes, plan: Plan) -> Run:
    """A new run; its trigger follows."""
    run = Run(run_id, plan, 0, "")
    if plan.scoped:
        run.root = Group(None)
    state.runs[run_id] = run
    return run


def trigger(state: State, run: Run, ref: Ref, time_us: int) -> None:
    """Route the event that starts a run; if no step subscribes to it, it is the run's result."""
    run.started_us = time_us
    run.trigger_type = ref.type
    ref.scope = run.root
    if not route(state, run, ref):
        run.results = [ref]


def route(state: State, run: Run, ref: Ref, failed: StepPlan | None = None) -> bool:
    """Route an event to its subscribers; False if it has none.

    failed: the step that gave up, if the event is a `StepFailed`.
    """
    size = len(ref.data)
    run.size_bytes += size
    state.size_bytes += size
    plan = run.plan
    subscribed = plan.subscriptions.get(ref.type, ()) if failed is None else plan.handlers_of(failed)
    for step, parameter in subscribed:
        if step.single:
            _create(state, run, step, (ref,), ref.scope)
        elif step.lists[parameter]:
            assert ref.scope is not None  # noqa: S101 - a plan that gathers is scoped
            scopes.group_of(ref.scope).gathered.setdefault((step.index, parameter), []).append(ref)
        else:
            _join(state, run, step, parameter, ref, ref.scope)
    return bool(subscribed)


def emitted(state: State, delivery: Delivery, ref: Ref, many: bool) -> None:  # noqa: FBT001 - called for every event
    """Route an event that a delivery emitted, in its scope; without a subscriber it is a result of the run."""
    run = delivery.run
    if run.root is not None:
        ref.scope = _scope_of(delivery, many=many)
    delivery.emitted += 1
    if delivery.step.is_compensation or not route(state, run, ref):
        run.results = run.results or []
        run.results.append(ref)


def gave_up(delivery: Delivery, failure: Failure) -> None:
    """A step gave up: the error becomes part of the outcome of the run."""
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
    """Route the `StepFailed` of a step that gave up: if a step handles it the run goes on, else the run halts.

    A compensation that gave up blocks those that come after it until an operator decides.
    """
    ref.scope = delivery.scope
    run = delivery.run
    if delivery is run.compensating:
        _mark_failed(delivery)
    elif route(state, run, ref, delivery.step):
        complete(state, delivery, has_failed=True)
    else:
        _mark_failed(delivery)
        free_key(state, delivery)
        _halt(state, run, RunSignal.FAILED)


def register(delivery: Delivery, compensation: StepPlan) -> None:
    """Register the compensation of a delivery whose first attempt begins, unless the run is past its pivot."""
    run = delivery.run
    if not run.pivoted:
        run.compensations = run.compensations or {}
        run.compensations.setdefault(delivery.number, Compensation(compensation, delivery.inputs))


def complete(state: State, delivery: Delivery, many: bool = False, has_failed: bool = False) -> None:  # noqa: FBT001, FBT002 - called for every delivery
    """Close a delivery: free its key, and call the gathering steps that waited for it."""
    run = delivery.run
    step = delivery.step
    if delivery.status is LEASED:
        run.leased -= 1
    delivery.status = OVER
    del run.deliveries[delivery.number]
    if delivery.key is not None:
        free_key(state, delivery)
    if step.is_compensation:
        run.compensating = None
        _compensate_next(state, run)
        return
    if step.pivot and not has_failed:
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
    """Halt a run that an operator cancelled: park what is not running."""
    run.cancelling = True
    _halt(state, run, RunSignal.CANCELLED)


def begin_compensating(state: State, run: Run) -> None:
    """Begin the compensations of a run that failed or was cancelled, and of which no attempt is running."""
    run.phase = PHASES[run.phase, RunSignal.STOPPED]
    _compensate_next(state, run)


def finish(state: State, run: Run, status: Status) -> None:
    """End a run: remove it from the state; if it failed, its unhandled deliveries are dead letters."""
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
    """Retry a run that ended: what failed or was parked is ready again, and its attempts count from 1.

    Discarded deliveries stay failed, and their errors stay too.
    """
    _bring_back(state, run)
    run.errors = [error for error in run.errors or () if error.handled or error.delivery in discarded] or None
    for number, delivery in list(run.deliveries.items()):
        if number in discarded:
            delivery.discarded = True
        else:
            _renew(state, delivery)


def redrive(
    state: State, run: Run, delivery: Delivery, replacement: Ref | None, discarded: Collection[int] = ()
) -> None:
    """Redrive a dead letter, with its own event or a replacement.

    What was parked because of it goes on too. Other dead letters of the run stay open, or discarded.
    """
    if replacement is not None:
        delivery.inputs = (replacement,)
        delivery.edited = True
        delivery.emitted = 0  # what it emitted before came of another event
        if not delivery.step.is_compensation:
            delivery.key = replacement.key
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
    """Discard a dead letter; if it is a blocked compensation, the next compensation begins."""
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
    """Make a delivery ready again; its attempts count from 1."""
    if delivery.status is FAILED:
        delivery.run.dead -= 1
        delivery.is_dead_letter = delivery.discarded = False
        delivery.redrives += 1
    release(delivery, READY)
    delivery.attempt = delivery.crashes = delivery.engine_losses = 0
    delivery.first_us = 0
    enqueue(state, delivery)


def _mark_failed(delivery: Delivery) -> None:
    """Mark a delivery as failed: it gave up, and no step handles it."""
    release(delivery, FAILED)
    delivery.run.dead += 1


def _halt(state: State, run: Run, signal: RunSignal) -> None:
    """Halt a run: park what is not running."""
    was_halted = run.phase
    run.phase = PHASES[run.phase, signal]
    if was_halted:
        return  # all of it is parked already
    for delivery in run.deliveries.values():
        if delivery.status not in (LEASED, FAILED):
            park(state, delivery)


def _pivot(state: State, run: Run) -> None:
    """Pass the pivot: the run only goes forward now, even if an operator has just cancelled it."""
    run.pivoted = True
    run.compensations = None
    if run.cancelling:
        run.cancelling = False
        if not run.dead:
            run.phase = PHASES[run.phase, RunSignal.PIVOTED]
            for delivery in list(run.deliveries.values()):
                if delivery.status is PARKED:
                    enqueue(state, delivery)


def _compensate_next(state: State, run: Run) -> None:
    """Begin the newest compensation that is left, if there is one."""
    if not run.compensations:
        return
    _, newest = run.compensations.popitem()
    run.serial += 1
    state.order += 1
    run.compensating = Delivery(run, run.serial, state.order, newest.step, newest.inputs, None, None)
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
    if key is None:
        ready(state, delivery)
    else:
        enqueue(state, delivery)


def _join(  # noqa: PLR0917 - a value, and the parameter that it is for
    state: State, run: Run, step: StepPlan, parameter: int, value: Ref | list[Ref], scope: Group | None
) -> None:
    match = offer(run, step, parameter, value, scope)
    if match is not None:
        _create(state, run, step, match.inputs, match.scope)


def _leave(state: State, run: Run, group: Group, step: StepPlan) -> None:
    for index in scopes.leave(group, step):
        _close(state, run, group, run.plan.steps[index])


def _close(state: State, run: Run, group: Group, gatherer: StepPlan) -> None:
    """Call a gathering step: no more events of this group can reach it."""
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
