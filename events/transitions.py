"""Transitions: what an event, a result or a failure changes in the state of a run.

Law: the live loop and the replay of the log call these same functions in the same order, so the state after a restart
is the state before it. They neither record nor command; deliveries that became ready are left in `State.fresh`.
"""

from collections import deque

from . import scopes
from .failure import Failure
from .joins import offer
from .plan import Plan, StepPlan
from .state import Delivery, DeliveryStatus, Group, Inputs, Ref, Run, State

__all__ = [
    "attempt",
    "begin",
    "blame",
    "complete",
    "emitted",
    "failed",
    "finish",
    "hear",
    "may_run",
    "ready",
    "release",
    "revive",
]

READY = DeliveryStatus.READY
BLOCKED = DeliveryStatus.BLOCKED
LEASED = DeliveryStatus.LEASED
PARKED = DeliveryStatus.PARKED
OVER = DeliveryStatus.OVER


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
    if not hear(state, run, ref):
        run.results = run.results or []
        run.results.append(ref)


def blame(delivery: Delivery, failure: Failure) -> None:
    """A step gave up: the failure stands in the outcome of the run."""
    run = delivery.run
    run.errors = run.errors or []
    run.errors.append((delivery.step.name, failure))


def failed(state: State, delivery: Delivery, ref: Ref) -> None:
    """Route the `StepFailed` of a step that gave up: heard, the run goes on; unheard, it halts."""
    ref.scope = delivery.scope
    if hear(state, delivery.run, ref, delivery.step):
        complete(state, delivery)
    else:
        halt(state, delivery.run, delivery)


def attempt(delivery: Delivery, number: int, time_us: int) -> None:
    """An attempt begins."""
    if delivery.status is LEASED:
        delivery.lost += 1
    else:
        delivery.run.leased += 1
    delivery.status = LEASED
    delivery.attempt = number
    delivery.first_us = delivery.first_us or time_us


def ready(state: State, delivery: Delivery) -> None:
    """A delivery may run (again), unless its run stands still."""
    if delivery.run.halting:
        delivery.status = PARKED
    else:
        delivery.status = READY
        state.fresh.append(delivery)


def may_run(state: State, delivery: Delivery) -> bool:
    """Whether a delivery is the first of its key; else it is blocked. Two of one commit may have changed places."""
    if delivery.key is None or delivery.status in (DeliveryStatus.FAILED, PARKED):
        return True
    queue = state.key_queues.get(_queue_name(delivery))
    if queue and queue[0] is not delivery:
        delivery.status = BLOCKED
        return False
    if delivery.status is BLOCKED:
        delivery.status = READY
    return True


def release(delivery: Delivery, status: DeliveryStatus) -> None:
    """An attempt is over without a result."""
    if delivery.status is LEASED:
        delivery.run.leased -= 1
    delivery.status = status


def complete(state: State, delivery: Delivery, *, many: bool = False) -> None:
    """A delivery is done: its key is free, and what waited for all of a fan-out may be complete."""
    run = delivery.run
    release(delivery, OVER)
    del run.deliveries[delivery.number]
    _free_key(state, delivery)
    if delivery.scope is None:
        return
    step = delivery.step
    group: Group | None = scopes.open_group(delivery) if many else delivery.group
    if group is not None:
        _leave(state, run, group, step)
    scope: Group | None = delivery.scope
    while scope is not None:
        if not scope.is_item:
            _leave(state, run, scope, step)
        scope = scope.parent


def halt(state: State, run: Run, delivery: Delivery) -> None:
    """A failure that nothing heard: the delivery is kept as failed, and what is not running stands still."""
    release(delivery, DeliveryStatus.FAILED)
    run.halting = True
    _free_key(state, delivery)
    for other in run.deliveries.values():
        if other.status not in (LEASED, DeliveryStatus.FAILED):
            other.status = PARKED
            _free_key(state, other)


def finish(state: State, run: Run) -> None:
    """The run is over: it leaves the state."""
    del state.runs[run.run_id]
    state.size_bytes -= run.size_bytes
    run.leased = 0
    for delivery in run.deliveries.values():
        delivery.status = OVER
    for delivery in run.deliveries.values():
        _free_key(state, delivery)


def revive(state: State, run: Run) -> None:
    """An operator retries a run that ended: what failed or stood still is ready again, its attempts forgotten."""
    state.runs[run.run_id] = run
    state.size_bytes += run.size_bytes
    run.halting = False
    handled = [error for error in run.errors or () if run.plan.handlers_of(run.plan.by_name[error[0]])]
    run.errors = handled or None
    for delivery in list(run.deliveries.values()):
        release(delivery, READY)
        delivery.attempt = delivery.crashes = delivery.lost = 0
        delivery.first_us = 0
        _enqueue(state, delivery)


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
    _enqueue(state, delivery)


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


def _enqueue(state: State, delivery: Delivery) -> None:
    if delivery.key is None:
        ready(state, delivery)
        return
    queue = state.key_queues.setdefault(_queue_name(delivery), deque())
    queue.append(delivery)
    if queue[0] is delivery:
        ready(state, delivery)
    else:
        delivery.status = BLOCKED


def _free_key(state: State, delivery: Delivery) -> None:
    if delivery.key is None:
        return
    name = _queue_name(delivery)
    queue = state.key_queues.get(name)
    if not queue:
        return
    if queue[0] is not delivery:
        if delivery in queue:
            queue.remove(delivery)
        return
    queue.popleft()
    if not queue:
        del state.key_queues[name]
    elif queue[0].status is BLOCKED:
        ready(state, queue[0])


def _queue_name(delivery: Delivery) -> tuple[str, str, str]:
    assert delivery.key is not None  # noqa: S101 - callers asked
    return (delivery.run.plan.pipeline, delivery.step.name, delivery.key)
