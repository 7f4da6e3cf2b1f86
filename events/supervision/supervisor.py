"""Supervisor: which child is restarted when it ends, after what wait, and when it escalates (the rules are OTP's).

Rules: a supervisor decides and never acts. It is told what happened and when, and answers with orders; jitter is
derived, so the same history gives the same orders. The transitions of a child are rows of `TRANSITIONS`.

- Restarts count. After more than `intensity` restarts within `period_seconds` the supervisor gives up: it stops all its
  children and escalates to the supervisor above it.
- Three kinds of restart do not count. The child had done some work since it came up: then an event is the cause and
  loses an attempt of its own, or one bad event in a hundred would end a pipeline; and the child is restarted without a
  wait. The start failed: it is retried without limit, since what it waits for (a database, a model server) comes back
  without an operator. The stop was ordered.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

from ..policies.retry import spread
from .policy import AFFECTED, COUNTED, PIPELINE_SUPERVISION, RESTARTED, How, Supervision
from .restart_history import ChildHistory, RestartHistory

__all__ = [
    "PIPELINE_SUPERVISION",
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


class ChildStatus(StrEnum):
    """The state of a child."""

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
"""The next state of a child. A pair that is not in the table does not happen, or changes nothing."""


class Start(NamedTuple):
    """Start a child, now."""

    child: str


class Stop(NamedTuple):
    """Stop a child; `ended` reports that it is gone."""

    child: str


class Restart(NamedTuple):
    """A child ended and will be restarted; nothing to do yet.

    child: its name.
    how: how it ended.
    reason: why.
    restarts: the restarts in the current period that count.
    wait_us: the wait before the start, in microseconds.
    """

    child: str
    how: How
    reason: str
    restarts: int
    wait_us: int


class Leave(NamedTuple):
    """A child ended and, by its type, is not restarted; nothing to do."""

    child: str
    reason: str


class Escalate(NamedTuple):
    """The supervisor gave up: the supervisor above it decides, once the last child is gone."""

    reason: str
    restarts: int


Order = Start | Stop | Restart | Leave | Escalate


@dataclass(slots=True)
class Child:
    """One child of a supervisor.

    since_us: since when it has this status.
    streak: restarts in a row that count for the backoff.
    restarts: all its restarts.
    reason: why it ended last.
    """

    name: str
    status: ChildStatus = ChildStatus.DOWN
    since_us: int = 0
    streak: int = 0
    restarts: int = 0
    reason: str = ""
    starts_us: int | None = None
    """When it will be started; None if no start is planned."""
    wanted: bool = False
    """It will be started after all stopping children have stopped."""


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
        """Start all children that do not run; a supervisor that gave up restarts with its counters at zero."""
        if self.gave_up:
            self.gave_up, self._times = "", []
            for child in self.children.values():
                child.streak = 0
        for child in self.children.values():
            child.wanted = child.wanted or child.status not in (_S.STARTING, _S.UP)
            child.starts_us = None
        return self._start_wanted(now_us, now_us)

    def stop(self, now_us: int) -> list[Order]:
        """Stop all children, the last one first."""
        return self._stop(reversed(self.children.values()), now_us)

    def forget(self) -> None:
        """Reset all counters."""
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
        """A child ended."""
        child = self.children[name]
        if child.status is _S.STOPPING:  # it was told to stop, so the cause of its end does not matter
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
        """Start what is due; forget restarts before the period, and the backoff of children that are healthy again."""
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
        """Whether no child runs, and none will be started."""
        return all(child.status is _S.DOWN for child in self.children.values())

    def history(self) -> RestartHistory:
        """What has to outlive this supervisor."""
        known = (ChildHistory(c.name, c.streak, c.restarts) for c in self.children.values() if c.streak or c.restarts)
        return RestartHistory(tuple(self._times), tuple(known), self.gave_up)

    def restore(self, history: RestartHistory, now_us: int) -> None:
        """Continue with the history of an earlier supervisor. Times ahead of the clock count as now."""
        times_us, known, self.gave_up = history
        self._times = [min(time_us, now_us) for time_us in times_us]
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
        for member in group:  # a child that ended for good stays down
            member.wanted = member.status is not _S.DOWN
        orders: list[Order] = [Restart(child.name, how, child.reason, len(self._times), wait_us)]
        others = [member for member in reversed(group) if member is not child]
        return [*orders, *self._stop(others, now_us, keep=True), *self._start_wanted(now_us + wait_us, now_us)]

    def _affected(self, child: Child, how: How) -> list[Child]:
        """The child that ended and those that are restarted with it, in the order of declaration."""
        if how is How.UNSTARTED:  # it never ran, so the others have lost nothing that they share with it
            return [child]
        before, after = AFFECTED[self.policy.strategy]
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
        """Start them in the order of declaration, after all stopping children have stopped."""
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
