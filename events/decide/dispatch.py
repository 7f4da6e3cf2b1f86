"""Dispatch: which ready delivery goes to which worker (prefetch, quarantine).

Rules: a worker never holds more than its window. The window starts at the worker's concurrency and grows with what the
worker completes in 20 ms, so that quick steps travel in bulk and slow ones are not hoarded.

A delivery whose worker process crashed is quarantined: it runs on probation, on a worker that has nothing else, before
all others. Of the deliveries that shared a crash the newest comes first, alone, since most poison deliveries crash at
once; then twice as many together each time, since the process may have been killed from outside. If a probation run
crashes, the poison delivery is in it: each of its deliveries waits behind all others and runs alone, and the rest of
the shared crash is cleared. A delivery shares a probation run only if it can afford another crash, so an innocent
delivery never loses its last attempt to a shared one. The first crash comes before any probation: if a step's
`attempts` allow no attempt after it, all deliveries of the process give up.
"""

from collections import deque
from dataclasses import dataclass, field
from math import inf
from typing import Any

from ..policies.breaker import BreakerState, BreakerStatus
from ..state.state import Delivery, DeliveryStatus, RecordedError, Ref, SharedCrash

__all__ = ["MAX_WINDOW", "StepQueue", "WorkerSlot", "item_of", "plan_leases"]

MAX_WINDOW = 512
_REF_BYTES = 40
"""The id, the version and the headers of an event in a delivery."""
MAX_LEASED_BYTES = 8 * 1024 * 1024
_HORIZON_US = 20_000
_SMOOTHING = 0.2
_MOST_ERRORS = 100
_REPLACED_US = 5_000_000
"""How long a replacement of a worker that ended is expected."""
_FIRST_EXHAUSTED_US = 1_000_000
_MOST_EXHAUSTED_US = 60_000_000
_MOST_ERROR_CHARACTERS = 16_384


@dataclass(slots=True, eq=False)
class WorkerSlot:
    """One worker.

    leases: what it holds, by token. window: how many it may hold. stuck: tokens of attempts that ran out of time.
    asked: the newest token at the last inquiry.
    """

    worker: int
    concurrency: int
    window: int
    leases: dict[int, Delivery] = field(default_factory=dict[int, Delivery])
    leased_bytes: int = 0
    mean_us: float = -1.0
    closed: bool = False
    stuck: set[int] = field(default_factory=set[int])
    asked: int = 0

    def learn(self, duration_us: float) -> None:
        """Adjust the window to the step's duration."""
        if self.mean_us < 0:
            self.mean_us = duration_us
        self.mean_us += _SMOOTHING * (duration_us - self.mean_us)
        within_horizon = int(_HORIZON_US / (self.mean_us + 1.0))
        self.window = min(max(self.concurrency, within_horizon), MAX_WINDOW)

    @property
    def is_on_probation(self) -> bool:
        """Whether it runs quarantined deliveries, and so takes no others."""
        return bool(self.leases) and next(iter(self.leases.values())).is_quarantined


@dataclass(slots=True, eq=False)
class StepQueue:
    """The workers of one step, and the deliveries that wait for them.

    streams: the step is a generator. quarantine: deliveries that run on probation. broken: why no worker starts, after
    several that did not. breaker: the circuit breaker of the step. exhaustions: how often in a row the step ran out of
    a resource: nothing is leased for a while, then one delivery at a time until one is done. slow_us: calls that take
    longer count as slow. replaced_us: until then another worker is expected in the place of one that ended.
    """

    pipeline: str
    step: str
    streams: bool = False
    ready: deque[Delivery] = field(default_factory=deque[Delivery])
    quarantine: deque[Delivery] = field(default_factory=deque[Delivery])
    workers: list[WorkerSlot] = field(default_factory=list[WorkerSlot])
    broken: str | None = None
    breaker: BreakerState | None = None
    exhaustions: int = 0
    exhausted_until_us: int = 0
    slow_us: float = inf
    replaced_us: int = 0

    @property
    def waiting(self) -> int:
        """How many deliveries wait for a worker."""
        return len(self.ready) + len(self.quarantine)

    @property
    def probes(self) -> bool:
        """Whether its breaker is half-open and lets single probes through."""
        return self.breaker is not None and self.breaker.status is BreakerStatus.HALF_OPEN

    def resource_exhausted(self, now_us: int) -> None:
        """The step ran out of a resource: lease nothing for 1 s, doubling to a minute."""
        self.exhaustions += 1
        self.exhausted_until_us = now_us + min(_FIRST_EXHAUSTED_US << min(self.exhaustions - 1, 16), _MOST_EXHAUSTED_US)

    def add(self, delivery: Delivery) -> None:
        """Queue a ready delivery; after a first crash in the quarantine, which goes before all others."""
        (self.quarantine if delivery.crashes == 1 and delivery.is_quarantined else self.ready).append(delivery)

    def worker_died(self, victims: list[Delivery], crashes: int, now_us: int) -> None:
        """A worker's process crashed with these deliveries; each gives up after `crashes` crashes."""
        self.replaced_us = now_us + _REPLACED_US
        known = victims[0].shared_crash if victims else None
        if known is not None and not known.solved:  # so it was a probation run, and all of them shared that crash
            known.solved = True
            cleared = [d for d in self.quarantine if not d.is_quarantined]
            self.quarantine = deque(d for d in self.quarantine if d.is_quarantined)
            self.ready.extendleft(reversed(cleared))
        shared_crash = SharedCrash() if len(victims) > 1 else None
        for delivery in victims:
            delivery.shared_crash = shared_crash if _affords_another(delivery, crashes) else None


def _affords_another(delivery: Delivery, crashes: int) -> bool:
    """Whether a delivery would get another attempt after one more crash."""
    attempts = delivery.step.step.retry.attempts
    return delivery.crashes + 1 < crashes and not (isinstance(attempts, int) and delivery.attempt + 2 > attempts)


def plan_leases(queue: StepQueue, now_us: int) -> list[tuple[WorkerSlot, list[Delivery]]]:
    """Take from the queues what can be leased now, with the worker of each."""
    plan: list[tuple[WorkerSlot, list[Delivery]]] = []
    workers = [w for w in queue.workers if not w.closed]
    if queue.quarantine:
        workers = _plan_quarantine(queue, workers, plan, now_us)
    open_ = [w for w in workers if len(w.leases) < w.window and not w.is_on_probation]
    open_.sort(key=_load, reverse=True)
    while queue.ready and open_:
        worker = open_.pop()
        share = -(-len(queue.ready) // (len(open_) + 1))
        taken = _take(queue, min(share, worker.window - len(worker.leases)), worker.leased_bytes)
        if taken:
            plan.append((worker, taken))
    if queue.quarantine:  # a poison delivery is at the head
        planned = [worker for worker, _ in plan]
        _plan_probation(queue, [w for w in workers if not w.leases and w not in planned], plan)
    return plan


def _load(worker: WorkerSlot) -> int:
    return len(worker.leases)


def _plan_quarantine(
    queue: StepQueue, workers: list[WorkerSlot], plan: list[tuple[WorkerSlot, list[Delivery]]], now_us: int
) -> list[WorkerSlot]:
    """Plan probation runs on idle workers. If no worker is or will soon be idle, keep one back until it is."""
    used = _plan_probation(queue, [w for w in workers if not w.leases], plan)
    rest = [w for w in workers if w not in used]
    some_will = used or now_us < queue.replaced_us or any(w.is_on_probation for w in workers)
    return rest if some_will or not queue.quarantine else rest[1:]


def _plan_probation(
    queue: StepQueue, idle: list[WorkerSlot], plan: list[tuple[WorkerSlot, list[Delivery]]]
) -> list[WorkerSlot]:
    """Plan a probation run for each of these workers, as long as the quarantine lasts; the workers that got one."""
    used: list[WorkerSlot] = []
    while queue.quarantine and idle:
        chosen = _next_probation(queue, idle[-1].window)
        if chosen:
            used.append(idle[-1])
            plan.append((idle.pop(), chosen))
    return used


def _next_probation(queue: StepQueue, most: int) -> list[Delivery]:
    """Take the next probation run: the newest deliveries of the oldest shared crash, as many as run together."""
    shared_crash = queue.quarantine[0].shared_crash
    peers = [d for d in queue.quarantine if d.shared_crash is shared_crash and d.status is DeliveryStatus.READY]
    peers.sort(key=lambda d: d.order)
    most = min(most, shared_crash.together) if shared_crash is not None else 1
    chosen: list[Delivery] = []
    held_bytes = 0
    while peers and len(chosen) < most and (held_bytes < MAX_LEASED_BYTES or not chosen):
        chosen.append(peers.pop())
        held_bytes += size_of(chosen[-1])
    if shared_crash is not None and chosen:
        shared_crash.together = 2 * len(chosen)
    others = (d for d in queue.quarantine if d.shared_crash is not shared_crash)
    queue.quarantine = deque((*peers, *others))
    return chosen


def _take(queue: StepQueue, most: int, held_bytes: int) -> list[Delivery]:
    """Take from the front of the ready ones. A poison delivery at the head has to wait for an idle worker."""
    taken: list[Delivery] = []
    while queue.ready and len(taken) < most and (held_bytes < MAX_LEASED_BYTES or not taken):
        delivery = queue.ready.popleft()
        if delivery.status is not DeliveryStatus.READY:
            continue
        if delivery.crashes and delivery.is_quarantined:  # few have crashed, and this is done for each
            queue.quarantine.append(delivery)
            continue
        taken.append(delivery)
        held_bytes += size_of(delivery)
    return taken


def size_of(delivery: Delivery) -> int:
    """The packed bytes of a delivery's inputs; with names and ids where many events may come together."""
    inputs = delivery.inputs
    if delivery.step.single:
        return len(inputs[0].data)  # type: ignore[union-attr]  # a single input is one event
    return sum(_size_of_ref(i) if isinstance(i, Ref) else sum(map(_size_of_ref, i)) for i in inputs)


def _size_of_ref(ref: Ref) -> int:
    return len(ref.data) + len(ref.type.encode()) + _REF_BYTES


def item_of(delivery: Delivery, token: int) -> list[Any]:
    """A delivery as a worker gets it.

    [token, run id, delivery number, attempt, first attempt at (us), events already in the log, inputs]; an input is
    [event id, type, version, data], or a list of those. If steps of the run gave up before, their errors follow: the
    newest 100 as far as they fit, each as [step, [kind, error, message, trace], attempts, event id, handled]. The id of
    a replacement event comes last.
    """
    run = delivery.run
    inputs = delivery.inputs
    packed = [_pack_input(inputs[0])] if len(inputs) == 1 else [_pack_input(value) for value in inputs]
    item = [token, run.run_id, delivery.number, delivery.attempt, delivery.first_us, delivery.emitted, packed]
    if run.errors or delivery.edited:
        item.append(_pack_errors(run.errors or []))
    if delivery.edited:
        item.append(delivery.inputs[0].event_id)  # type: ignore[union-attr]  # what is edited has one event
    return item


def _pack_errors(errors: list[RecordedError]) -> list[Any]:
    """The newest errors, as far as they fit: they travel with each delivery of the run."""
    packed: list[Any] = []
    left = _MOST_ERROR_CHARACTERS
    for error in reversed(errors[-_MOST_ERRORS:]):
        left -= len(error.failure.message) + len(error.failure.trace)
        if left < 0 and packed:
            break
        packed.append(_pack_error(error))
    return packed[::-1]


def _pack_error(error: RecordedError) -> list[Any]:
    return [error.step, list(error.failure), error.attempts, error.event_id, error.handled]


def _pack_input(value: Ref | list[Ref]) -> list[Any]:
    if isinstance(value, Ref):
        return [value.event_id, value.type, value.version, value.data]
    return [[ref.event_id, ref.type, ref.version, ref.data] for ref in value]
