"""The state of a partition: the runs that are alive, and nothing else. It can be rebuilt from the log at any time.

Rules: one owner mutates it in place; a finished run leaves it; every object has slots, since a waiting run should
cost about one KiB.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from .failure import Failure
from .plan import Plan, StepPlan
from .records import Record
from .status import Status

__all__ = ["Delivery", "DeliveryStatus", "Group", "Inputs", "Join", "Ref", "Run", "State"]


class DeliveryStatus(IntEnum):
    """The state of a delivery.

    BLOCKED waits for its key, READY for a worker, LEASED is with one, WAITING has its retry ahead, PARKED stands still
    because its run is failing, FAILED gave up unheard, OVER is done or dropped.
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
class Delivery:
    """One event (or what a join put together) for one step.

    number: within its run, from 1. order: within the partition. attempt: the last one recorded. emitted: how many
    events of it are in the log. group: the fan-out that it opened.
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
    lost: int = 0
    emitted: int = 0
    group: Group | None = None
    first_us: int = 0
    due_us: int = 0

    @property
    def last_ref(self) -> Ref | None:
        """The event that names the cause: the only one, or the last of a join."""
        last = self.inputs[-1]
        if isinstance(last, list):
            return last[-1] if last else None
        return last


@dataclass(slots=True, eq=False)
class Run:
    """Everything that ensues from one trigger event.

    number: the offset of the run's first record (0 until it is committed). records: what this batch adds.
    """

    run_id: bytes
    plan: Plan
    started_us: int
    trigger_type: str
    number: int = 0
    serial: int = 0
    leased: int = 0
    size_bytes: int = 0
    halting: bool = False
    status: Status = Status.RUNNING
    root: Group | None = None
    deliveries: dict[int, Delivery] = field(default_factory=dict[int, Delivery])
    joins: dict[int, Join] | None = None
    results: list[Ref] | None = None
    errors: list[tuple[str, Failure]] | None = None
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
