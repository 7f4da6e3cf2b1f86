"""Supervision: who is started again when a child ends, after what wait, and when the fault is handed up (OTP's rules).

Law: a supervisor decides and never acts. It is told what happened and when, and it answers with orders; jitter is
derived, so the same history gives the same orders. What may follow from what stands in the tables.

- A restart counts. More than `intensity` of them within `period_seconds`, and the supervisor gives up: it ends all its
  children and hands the fault to whoever is above it.
- Three do not count. A child that had got something done since it came up: an event is to blame, and pays with its own
  attempts, or one bad event in a hundred would end a pipeline; the others do not wait for their worker any longer than
  it takes. A start that failed: it is tried for ever, since what it waits for (a database, a model server) comes back
  without an operator. An end that was ordered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Any, Literal, NamedTuple
from zlib import crc32

from ..errors import PipelineInvalid
from ..policies.retry import Backoff, spread

__all__ = [
    "COUNTED",
    "PIPELINE_SUPERVISION",
    "RESTARTED",
    "STEP_SUPERVISION",
    "TRANSITIONS",
    "ChildSignal",
    "ChildStatus",
    "Escalate",
    "How",
    "Leave",
    "Order",
    "Restart",
    "Start",
    "Stop",
    "Supervision",
    "Supervisor",
]

_US = 1_000_000
_RESTART_BACKOFF = Backoff(first_seconds=0.2, factor=2.0, max_seconds=30.0, jitter=0.2)

StrategyName = Literal["one_for_one", "one_for_all", "rest_for_one"]
ChildTypeName = Literal["permanent", "transient", "temporary"]


@dataclass(frozen=True, slots=True)
class Supervision:
    """How the children of a supervisor are looked after: the workers of a step, or the steps of a pipeline.

    strategy: who else is started anew with a child that ended: nobody (`one_for_one`), all (`one_for_all`), or those
    declared after it (`rest_for_one`). child: `permanent` children are always started again, `transient` ones where
    they ended abnormally, `temporary` ones never. intensity and period_seconds: more restarts than that within the
    period are handed up. backoff: the wait before a start, growing from restart to restart until a child was healthy
    for healthy_seconds.
    """

    strategy: StrategyName = "one_for_one"
    child: ChildTypeName = "permanent"
    intensity: int = 5
    period_seconds: float = 30.0
    backoff: Backoff = field(default=_RESTART_BACKOFF)
    healthy_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.strategy not in _AFFECTED:
            raise PipelineInvalid(f"Supervision(strategy={self.strategy!r}): write one of {', '.join(_AFFECTED)}")
        if self.child not in RESTARTED:
            raise PipelineInvalid(f"Supervision(child={self.child!r}): write one of {', '.join(RESTARTED)}")
        if self.intensity < 0:
            raise PipelineInvalid(f"Supervision(intensity={self.intensity}): it is at least 0 restarts")
        for name, least in (("period_seconds", 0.001), ("healthy_seconds", 0.0)):
            if not least <= getattr(self, name) < inf:
                raise PipelineInvalid(f"Supervision({name}={getattr(self, name)}): it is at least {least} seconds")


class ChildStatus(StrEnum):
    """What a child is at."""

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    FAILED = "failed"


class ChildSignal(StrEnum):
    """What happens to a child."""

    START = "start"
    CAME_UP = "came up"
    ENDED_AGAIN = "ended, is restarted"
    ENDED_FOR_GOOD = "ended for good"
    STOP = "stop"
    GIVE_UP = "supervisor gives up"


class How(StrEnum):
    """How a child ended.

    NORMAL: of its own accord and in order. CRASHED: abnormally, with nothing done. WORKED: abnormally, after it had got
    something done. ORDERED: it was told to. UNSTARTED: it never came up.
    """

    NORMAL = "normal"
    CRASHED = "crashed"
    WORKED = "worked"
    ORDERED = "ordered"
    UNSTARTED = "unstarted"


_S, _E = ChildStatus, ChildSignal
TRANSITIONS: Mapping[tuple[ChildStatus, ChildSignal], ChildStatus] = {
    (_S.DOWN, _E.START): _S.STARTING,
    (_S.RESTARTING, _E.START): _S.STARTING,
    (_S.FAILED, _E.START): _S.STARTING,
    (_S.STARTING, _E.CAME_UP): _S.UP,
    (_S.STARTING, _E.ENDED_AGAIN): _S.RESTARTING,
    (_S.UP, _E.ENDED_AGAIN): _S.RESTARTING,
    (_S.STOPPING, _E.ENDED_AGAIN): _S.RESTARTING,
    (_S.STARTING, _E.ENDED_FOR_GOOD): _S.DOWN,
    (_S.UP, _E.ENDED_FOR_GOOD): _S.DOWN,
    (_S.STOPPING, _E.ENDED_FOR_GOOD): _S.DOWN,
    (_S.STARTING, _E.STOP): _S.STOPPING,
    (_S.UP, _E.STOP): _S.STOPPING,
    (_S.RESTARTING, _E.STOP): _S.DOWN,
    (_S.DOWN, _E.GIVE_UP): _S.FAILED,
    (_S.RESTARTING, _E.GIVE_UP): _S.FAILED,
}
"""What a child is at next. What is not here does not happen, or changes nothing."""

RESTARTED: Mapping[ChildTypeName, frozenset[How]] = {
    "permanent": frozenset(How),
    "transient": frozenset(How) - {How.NORMAL},
    "temporary": frozenset({How.ORDERED}),
}
"""After which ends a child of this type is started again. What was ordered is not the child's own end."""

COUNTED = frozenset({How.NORMAL, How.CRASHED})
"""The ends whose restart counts."""

_AFFECTED: Mapping[StrategyName, tuple[bool, bool]] = {
    "one_for_one": (False, False),
    "one_for_all": (True, True),
    "rest_for_one": (False, True),
}
"""Whether those declared before a child that ended, and those declared after it, are started anew with it."""

STEP_SUPERVISION = Supervision()
PIPELINE_SUPERVISION = Supervision(intensity=3, period_seconds=60.0)


class Start(NamedTuple):
    """Start a child, now."""

    child: str


class Stop(NamedTuple):
    """End a child; `ended` says when it is gone."""

    child: str


class Restart(NamedTuple):
    """Nothing to do: a child that ended is to be started again. restarts: those that count, in the current period."""

    child: str
    how: How
    reason: str
    restarts: int
    wait_us: int


class Leave(NamedTuple):
    """Nothing to do: a child ended, and by its type nobody takes its place."""

    child: str
    reason: str


class Escalate(NamedTuple):
    """The supervisor gave up: whoever is above it decides. It is over when its last child is gone."""

    reason: str
    restarts: int


Order = Start | Stop | Restart | Leave | Escalate


@dataclass(slots=True)
class Child:
    """One child of a supervisor, as it is now."""

    name: str
    status: ChildStatus = ChildStatus.DOWN
    since_us: int = 0
    streak: int = 0
    restarts: int = 0
    reason: str = ""
    starts_us: int | None = None
    """When it is to be started, where it waits for that."""
    wanted: bool = False
    """It is to be started once all that have to stop have stopped."""


class Supervisor:
    """One supervisor and its children, in the order of their declaration."""

    def __init__(self, name: str, policy: Supervision, children: Iterable[str]) -> None:
        self.name = name
        self.policy = policy
        self.children = {child: Child(child) for child in children}
        self.gave_up = ""
        self._times: list[int] = []

    # -- what it is told -----------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> list[Order]:
        """Start all children that are not there; a supervisor that had given up begins anew, its counters at zero."""
        if self.gave_up:
            self.gave_up, self._times = "", []
            for child in self.children.values():
                child.streak = 0
        for child in self.children.values():
            child.wanted = child.wanted or child.status not in (_S.STARTING, _S.UP)
            child.starts_us = None
        return self._start_wanted(now_us, now_us)

    def stop(self, now_us: int) -> list[Order]:
        """End all children, the last one first."""
        return self._stop(reversed(self.children.values()), now_us)

    def forget(self) -> None:
        """All counters at zero."""
        self._times = []
        for child in self.children.values():
            child.streak = child.restarts = 0

    def came_up(self, name: str, now_us: int) -> None:
        """A child is ready for work."""
        child = self.children[name]
        if child.status is _S.STARTING:
            child.reason = ""
        self._signal(child, _E.CAME_UP, now_us)

    def ended(self, name: str, how: How, reason: str, now_us: int) -> list[Order]:
        """A child is gone."""
        child = self.children[name]
        if child.status is _S.STOPPING:  # whatever it died of in the meantime, it had to go
            self._signal(child, _E.ENDED_AGAIN if child.wanted else _E.ENDED_FOR_GOOD, now_us)
            return self._after_stop(now_us)
        if child.status not in (_S.STARTING, _S.UP):
            return []
        child.reason = reason
        if how not in RESTARTED[self.policy.child]:
            self._signal(child, _E.ENDED_FOR_GOOD, now_us)
            return [Leave(child.name, reason)]
        self._count(child, how, now_us)
        if len(self._times) > self.policy.intensity:
            return self._give_up(child, reason, now_us)
        return self._restart(child, how, now_us)

    def tick(self, now_us: int) -> list[Order]:
        """Start what is due. Forgets what lies beyond the period, and the waits of those that are healthy again."""
        self._times = self._recent(now_us)
        orders: list[Order] = []
        for child in self.children.values():
            if child.status is _S.UP and now_us - child.since_us >= self.policy.healthy_seconds * _US:
                child.streak = 0
            if child.starts_us is not None and child.starts_us <= now_us and not child.wanted:
                orders.append(Start(child.name))
                child.starts_us = None
                self._signal(child, _E.START, now_us)
        return orders

    # -- what it knows -------------------------------------------------------------------------------------------------

    @property
    def due_us(self) -> int | None:
        """When `tick` has something to start."""
        children = self.children.values()
        return min((c.starts_us for c in children if c.starts_us is not None and not c.wanted), default=None)

    @property
    def is_quiet(self) -> bool:
        """Whether no child has a process."""
        return not any(c.status in (_S.STARTING, _S.UP, _S.STOPPING) for c in self.children.values())

    @property
    def is_deserted(self) -> bool:
        """Whether no child is there, and none is to come."""
        return all(child.status is _S.DOWN for child in self.children.values())

    def history(self) -> list[Any]:
        """What has to outlive this process: [times of the restarts that count, [[child, streak, restarts], ...], why it gave up]."""
        known = [[c.name, c.streak, c.restarts] for c in self.children.values() if c.streak or c.restarts]
        return [list(self._times), known, self.gave_up]

    def restore(self, history: list[Any], now_us: int) -> None:
        """Go on with the history of an earlier process. Times ahead of the clock are taken for now: they count."""
        times, known, self.gave_up = history
        self._times = [min(time_us, now_us) for time_us in times]
        self._times = self._recent(now_us)
        for name, streak, restarts in known:
            child = self.children.get(name)
            if child is not None:
                child.streak, child.restarts = streak, restarts
        if self.gave_up:
            for child in self.children.values():
                self._signal(child, _E.GIVE_UP, now_us)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _recent(self, now_us: int) -> list[int]:
        begin_us = now_us - int(self.policy.period_seconds * _US)
        return [time_us for time_us in self._times if time_us > begin_us]

    def _count(self, child: Child, how: How, now_us: int) -> None:
        healthy = child.status is _S.UP and now_us - child.since_us >= self.policy.healthy_seconds * _US
        if healthy or how is How.WORKED:
            child.streak = 0
        if how is not How.ORDERED:
            child.streak += 1
        self._times = [*self._recent(now_us), *([now_us] if how in COUNTED else [])]

    def _restart(self, child: Child, how: How, now_us: int) -> list[Order]:
        wait_us = self._wait_us(child, how, now_us)
        group = self._affected(child, how)
        self._signal(child, _E.ENDED_AGAIN, now_us)
        child.restarts += 1
        for member in group:  # what had ended for good stays so
            member.wanted = member.status is not _S.DOWN
        orders: list[Order] = [Restart(child.name, how, child.reason, len(self._times), wait_us)]
        others = [member for member in reversed(group) if member is not child]
        return [*orders, *self._stop(others, now_us, keep=True), *self._start_wanted(now_us + wait_us, now_us)]

    def _affected(self, child: Child, how: How) -> list[Child]:
        """The child that ended and those that are started anew with it, in the order of declaration."""
        if how is How.UNSTARTED:  # nothing of it was there, so nothing that others share with it is lost
            return [child]
        before, after = _AFFECTED[self.policy.strategy]
        children = list(self.children.values())
        at = children.index(child)
        return [*(children[:at] if before else ()), child, *(children[at + 1 :] if after else ())]

    def _wait_us(self, child: Child, how: How, now_us: int) -> int:
        if how in (How.ORDERED, How.WORKED):
            return 0
        seed = (crc32(f"{self.name}/{child.name}".encode()) ^ now_us).to_bytes(8, "big")
        return int(self.policy.backoff.seconds(child.streak, spread(seed, child.streak)) * _US)

    def _give_up(self, child: Child, reason: str, now_us: int) -> list[Order]:
        self.gave_up = f"more than {self.policy.intensity} restarts within {self.policy.period_seconds:g} s: {reason}"
        self._signal(child, _E.ENDED_FOR_GOOD, now_us)
        orders = self._stop(reversed(self.children.values()), now_us)
        return [Escalate(self.gave_up, len(self._times)), *orders, *self._after_stop(now_us)]

    def _stop(self, children: Iterable[Child], now_us: int, *, keep: bool = False) -> list[Order]:
        orders: list[Order] = []
        for child in children:
            child.starts_us = None
            if not keep:
                child.wanted = False
            if child.status in (_S.STARTING, _S.UP):
                orders.append(Stop(child.name))
            if not keep or child.status is not _S.RESTARTING:
                self._signal(child, _E.STOP, now_us)
        return orders

    def _after_stop(self, now_us: int) -> list[Order]:
        if any(child.status is _S.STOPPING for child in self.children.values()):
            return []
        if self.gave_up:
            for child in self.children.values():
                self._signal(child, _E.GIVE_UP, now_us)
            return []
        return self._start_wanted(now_us, now_us)

    def _start_wanted(self, at_us: int, now_us: int) -> list[Order]:
        """In the order of declaration, and not before all that have to stop have stopped."""
        stopping = any(child.status is _S.STOPPING for child in self.children.values())
        for child in self.children.values():
            if child.wanted:
                child.starts_us = max(child.starts_us or 0, at_us)
                child.wanted = stopping
        return [] if stopping else self.tick(now_us)

    def _signal(self, child: Child, signal: ChildSignal, now_us: int) -> None:
        status = TRANSITIONS.get((child.status, signal))
        if status is not None:
            child.status, child.since_us = status, now_us
