"""The state of a partition: the runs that are alive, and nothing else. It can be rebuilt from the log at any time.

Rules: one owner mutates it in place; a finished run leaves it; every object has slots, since a waiting run should
cost about one KiB.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ..model.failure import Failure
from ..pipelines.plan import Plan, StepPlan
from .phases import RunPhase
from .records import Record
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
    "State",
]


class DeliveryStatus(IntEnum):
    """The state of a delivery.

    BLOCKED waits for its key, READY for a worker, LEASED is with one, WAITING has its retry ahead, PARKED stands still
    because its run is failing or being undone, FAILED gave up unheard, OVER is done or dropped.
    """

    BLOCKED = 0
    READY = 1
    LEASED = 2
    WAITING = 3
    PARKED = 4
    FAILED = 5
    OVER = 6


@dataclass(slots=True, eq=False)
class Group:
    """A scope of events: a fan-out, one item of a fan-out (`is_item`), or the whole run (no parent).

    counts: how many pending deliveries inside can still lead to a gathering step, by that step's index.
    gathered: what has come for a gathering step, by (step index, parameter index).
    """

    parent: "Group | None"
    origin: StepPlan | None = None
    is_item: bool = False
    counts: dict[int, int] = field(default_factory=dict[int, int])
    gathered: dict[tuple[int, int], list["Ref"]] = field(default_factory=dict[tuple[int, int], list["Ref"]])


@dataclass(slots=True, eq=False)
class Ref:
    """An event as the partition holds it: packed, with what routing needs."""

    event_id: bytes
    type: str
    version: int
    data: bytes
    key: str | None
    scope: Group | None


Inputs = tuple["Ref | list[Ref]", ...]
Join = list[dict[Group | None, "deque[Ref | list[Ref]]"]]
"""For each parameter of a joining step, what waits for its partners, by scope."""


@dataclass(slots=True, eq=False)
class SharedCrash:
    """The end of a process that had several deliveries in it: each of them is suspected of it.

    together: how many of them run at their next trial. solved: one of the trials ended as well, so the others are cleared.
    """

    together: int = 1
    solved: bool = False


@dataclass(slots=True, eq=False)
class Delivery:
    """One event (or what a join put together) for one step.

    number: within its run, from 1. order: within the partition. attempt: the last one recorded. emitted: how many
    events of it are in the log. group: the fan-out that it opened. lives: how often an operator had it run again.
    buried: it is a dead letter. discarded: that was discarded. edited: an operator put another event in the place of its own. death: the one that it
    was last seen at in company; a restart forgets it.
    """

    run: "Run"
    number: int
    order: int
    step: StepPlan
    inputs: Inputs
    scope: Group | None
    key: str | None
    status: DeliveryStatus = DeliveryStatus.READY
    attempt: int = 0
    crashes: int = 0
    engine_losses: int = 0
    emitted: int = 0
    group: Group | None = None
    first_us: int = 0
    due_us: int = 0
    redrives: int = 0
    is_dead_letter: bool = False
    discarded: bool = False
    edited: bool = False
    shared_crash: SharedCrash | None = None

    @property
    def is_quarantined(self) -> bool:
        """Whether it runs at a trial: its process ended once, and others are not known to have ended it, or more often."""
        return self.crashes > 1 or (
            self.crashes == 1 and not (self.shared_crash is not None and self.shared_crash.solved)
        )

    @property
    def last_ref(self) -> Ref | None:
        """The event that names the cause: the only one, or the last of a join."""
        last = self.inputs[-1]
        if isinstance(last, list):
            return last[-1] if last else None
        return last


class RecordedError(NamedTuple):
    """A step gave up: on which delivery, after how many attempts, for which event, and whether a step hears of it."""

    step: str
    failure: Failure
    delivery: int
    attempts: int
    event_id: bytes
    handled: bool


class Compensation(NamedTuple):
    """A compensation that is owed: its step, and the events that the step took whose effect it undoes."""

    step: StepPlan
    inputs: Inputs


@dataclass(slots=True, eq=False)
class Run:
    """Everything that ensues from one trigger event.

    number: the offset of the run's first record (0 until it is committed). records: what this batch adds. dead: how
    many of its deliveries are FAILED. undos: the compensations that are owed, by the delivery that they undo, in the order of registration. undoing:
    the one under way. pivoted: it only goes forward from here. cancelling: an operator ended it.
    """

    run_id: bytes
    plan: Plan
    started_us: int
    trigger_type: str
    number: int = 0
    serial: int = 0
    leased: int = 0
    size_bytes: int = 0
    dead: int = 0
    phase: RunPhase = RunPhase.FORWARD
    pivoted: bool = False
    cancelling: bool = False
    status: Status = Status.RUNNING
    root: Group | None = None
    deliveries: dict[int, Delivery] = field(default_factory=dict[int, Delivery])
    joins: dict[int, Join] | None = None
    results: list[Ref] | None = None
    errors: list[RecordedError] | None = None
    compensations: dict[int, Compensation] | None = None
    compensating: Delivery | None = None
    records: list[Record] | None = None


@dataclass(slots=True, eq=False)
class State:
    """All live runs of a partition, and the queues that keep the order of keys.

    fresh: deliveries that became ready since the loop looked last. size_bytes: the packed events held.
    """

    runs: dict[bytes, Run] = field(default_factory=dict[bytes, Run])
    key_queues: dict[tuple[str, str, str], deque[Delivery]] = field(
        default_factory=dict[tuple[str, str, str], deque[Delivery]]
    )
    fresh: list[Delivery] = field(default_factory=list[Delivery])
    order: int = 0
    size_bytes: int = 0
