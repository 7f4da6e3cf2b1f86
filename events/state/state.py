"""The state of a partition: its live runs, and nothing else. It can be rebuilt from the log at any time.

Rules: one owner mutates it in place. A run that ends leaves it. Every class has slots, since a waiting run should take
about one KiB.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ..model.failure import Failure
from ..pipelines.plan import Plan, StepPlan
from .delivery_status import DeliveryStatus
from .phases import RunPhase
from .records import NewRecord
from .run_status import Status

__all__ = [
    "Compensation",
    "Delivery",
    "DeliveryStatus",
    "Group",
    "Inputs",
    "Join",
    "RecordedError",
    "Ref",
    "Run",
    "SharedCrash",
    "State",
]


@dataclass(slots=True, eq=False)
class Group:
    """A scope of events: a fan-out, one item of a fan-out, or the whole run."""

    parent: "Group | None"
    """The scope around it; None: it is the whole run."""
    origin: StepPlan | None = None
    """The step that fanned out."""
    is_item: bool = False
    counts: dict[int, int] = field(default_factory=dict[int, int])
    """How many open deliveries inside can still lead to a gathering step, by that step's index."""
    gathered: dict[tuple[int, int], list["Ref"]] = field(default_factory=dict[tuple[int, int], list["Ref"]])
    """The events for a gathering step so far, by (step index, parameter index)."""


@dataclass(slots=True, eq=False)
class Ref:
    """An event as the partition holds it: packed, with the fields that routing needs."""

    event_id: bytes
    type: str
    version: int
    data: bytes
    key: str | None
    scope: Group | None


Inputs = tuple["Ref | list[Ref]", ...]
"""One event, or one value for each parameter of a joining step."""
Join = list[dict[Group | None, "deque[Ref | list[Ref]]"]]
"""The values that wait for their partners, by scope, for each parameter of a joining step."""


@dataclass(slots=True, eq=False)
class SharedCrash:
    """The end of a process that had several deliveries: each of them may be the poison delivery."""

    together: int = 1
    """How many of them share the next probation run."""
    solved: bool = False
    """Whether a probation run crashed too: the deliveries that were not in it are cleared."""


@dataclass(slots=True, eq=False)
class Delivery:
    """One event for one step, or what a join put together."""

    run: "Run"
    number: int
    """Within its run, from 1."""
    order: int
    """Within the partition."""
    step: StepPlan
    inputs: Inputs
    scope: Group | None
    key: str | None
    status: DeliveryStatus = DeliveryStatus.READY
    attempt: int = 0
    """The number of the last attempt that was recorded."""
    crashes: int = 0
    """How many of its attempts ended with their process."""
    engine_losses: int = 0
    """How many ends of the engine in a row it was running at."""
    emitted: int = 0
    """How many of its events are in the log."""
    group: Group | None = None
    """The fan-out that it opened."""
    first_us: int = 0
    """When its first attempt began."""
    due_us: int = 0
    """When its next attempt is due."""
    redrives: int = 0
    """How often an operator redrove it, or retried its run."""
    is_dead_letter: bool = False
    discarded: bool = False
    """Whether an operator discarded its dead letter."""
    edited: bool = False
    """Whether a replacement event took the place of its own."""
    shared_crash: SharedCrash | None = None
    """The last process crash that it shared with other deliveries. A restart forgets it."""

    @property
    def is_quarantined(self) -> bool:
        """Whether it runs on probation only: it may be the poison delivery, and is not cleared."""
        return self.crashes > 1 or (
            self.crashes == 1 and not (self.shared_crash is not None and self.shared_crash.solved)
        )

    @property
    def last_ref(self) -> Ref | None:
        """The event that counts as the cause: the only one, or the last of a join."""
        last = self.inputs[-1]
        if isinstance(last, list):
            return last[-1] if last else None
        return last


class RecordedError(NamedTuple):
    """A step that gave up."""

    step: str
    failure: Failure
    delivery: int
    attempts: int
    event_id: bytes
    """The (last) event that the delivery is made of."""
    handled: bool
    """Whether another step handles the failure."""


class Compensation(NamedTuple):
    """A registered compensation: its step, and the events of the delivery whose effect it undoes."""

    step: StepPlan
    inputs: Inputs


@dataclass(slots=True, eq=False)
class Run:
    """What follows from one trigger event."""

    run_id: bytes
    plan: Plan
    started_us: int
    trigger_type: str
    number: int = 0
    """The offset of its first record; 0: that is not committed yet."""
    serial: int = 0
    """The number of its newest delivery."""
    leased: int = 0
    """How many of its deliveries are leased."""
    size_bytes: int = 0
    """The packed events that it holds."""
    dead: int = 0
    """How many of its deliveries are FAILED."""
    phase: RunPhase = RunPhase.FORWARD
    pivoted: bool = False
    """Whether it is past its pivot: it only goes forward."""
    cancelling: bool = False
    """Whether an operator has cancelled it."""
    status: Status = Status.RUNNING
    root: Group | None = None
    deliveries: dict[int, Delivery] = field(default_factory=dict[int, Delivery])
    """Its open deliveries, by number."""
    joins: dict[int, Join] | None = None
    results: list[Ref] | None = None
    errors: list[RecordedError] | None = None
    compensations: dict[int, Compensation] | None = None
    """The registered compensations in the order of registration, by the delivery that each undoes."""
    compensating: Delivery | None = None
    """The compensation that is open now."""
    records: list[NewRecord] | None = None
    """What the current batch adds to the log."""


@dataclass(slots=True, eq=False)
class State:
    """All live runs of a partition, and the queues that keep the order of keys."""

    runs: dict[bytes, Run] = field(default_factory=dict[bytes, Run])
    key_queues: dict[tuple[str, str, str], deque[Delivery]] = field(
        default_factory=dict[tuple[str, str, str], deque[Delivery]]
    )
    """By pipeline, step and key."""
    fresh: list[Delivery] = field(default_factory=list[Delivery])
    """Deliveries that became ready since the decider looked last."""
    order: int = 0
    """The order of the newest delivery."""
    size_bytes: int = 0
    """The packed events of all live runs."""
