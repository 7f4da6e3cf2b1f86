"""The schemas of circuit breakers, of the supervision tree and of the status page."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import ConfigDict, Field

from ...cluster.log.protocol import Reader
from ...events.errors import LogUnavailable
from ...events.policies.breaker import MOST_OPEN_SECONDS, BreakerView
from ...events.state.run_status import Status
from .dead_letters import In
from .runs import Out, StatusName, moment

__all__ = ["BreakerOut", "BreakersOut", "DepthOut", "NodeOut", "OpenIn", "StatusOut", "counts_of"]


class OpenIn(In):
    """The time for which a breaker is opened; without `seconds`, until it is closed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"seconds": 600}]})

    seconds: float | None = Field(default=None, gt=0, le=MOST_OPEN_SECONDS)


T = TypeVar("T")


class BreakerOut(Out):
    """A circuit breaker.

    `calls` and `failures` count within its window, `opens` how often it opened in a row, `waiting` the deliveries that
    it holds back.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "orders/charge",
                    "steps": ["orders/charge"],
                    "status": "open",
                    "forced": False,
                    "since": "2026-05-04T09:12:44.120351Z",
                    "until": "2026-05-04T09:13:12.480112Z",
                    "reason": "5 failures in a row, the last: ConnectionError: refused",
                    "calls": 12,
                    "failures": 9,
                    "opens": 1,
                    "waiting": 18,
                }
            ]
        }
    )

    name: str
    steps: list[str]
    status: Literal["closed", "open", "half_open"]
    forced: bool
    since: datetime | None
    until: datetime | None
    reason: str
    calls: int
    failures: int
    opens: int
    waiting: int

    @classmethod
    def of(cls, view: BreakerView) -> "BreakerOut":
        """The document of a breaker."""
        return cls(
            name=view.name,
            steps=list(view.steps),
            status=view.status,  # type: ignore[arg-type]  # the same closed set
            forced=view.forced,
            since=moment(view.since_us) if view.since_us else None,
            until=None if view.until_us is None else moment(view.until_us),
            reason=view.reason,
            calls=view.calls,
            failures=view.failures,
            opens=view.opens,
            waiting=view.waiting,
        )


class BreakersOut(Out):
    """All circuit breakers, sorted by name."""

    breakers: list[BreakerOut]


class NodeOut(Out):
    """A node of the supervision tree, with its children.

    `restarts` counts since an operator last restarted the node; `reason` is that of the last restart.
    """

    name: str
    kind: str
    status: str
    pid: int | None
    restarts: int
    since: datetime | None
    reason: str | None
    children: list["NodeOut"]

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> "NodeOut":
        """The document of a node of `engine.tree()`."""
        return cls(
            name=node["name"],
            kind=node["kind"],
            status=node["status"],
            pid=node.get("pid"),
            restarts=node.get("restarts", 0),
            since=_since(node.get("since")),
            reason=node.get("reason") or None,
            children=[cls.of(child) for child in node.get("children", ())],
        )


def _since(time_us: Any) -> datetime | None:
    return moment(int(time_us)) if time_us else None


class DepthOut(Out):
    """The number of open dead letters of a step, and the time of the oldest."""

    pipeline: str
    step: str
    dead: int
    oldest: datetime


class StatusOut(Out):
    """The status of an engine or of a store.

    `breakers` lists those that are not closed. `tree` is null if no engine serves the store. `dead` and `runs` are null
    if the log cannot be read.
    """

    state: str
    durability: str | None
    tree: NodeOut | None
    breakers: list[BreakerOut]
    dead: list[DepthOut] | None
    runs: Mapping[str, Mapping[StatusName, int]] | None

    @classmethod
    def of(
        cls,
        state: str,
        durability: str | None,
        tree: NodeOut | None,
        views: Iterable[BreakerView],
        reader: Reader | None,
    ) -> "StatusOut":
        """The status. `reader` is None if the log is not open."""
        not_closed = sorted((view for view in views if view.status != "closed"), key=lambda view: view.name)
        return cls(
            state=state,
            durability=durability,
            tree=tree,
            breakers=[BreakerOut.of(view) for view in not_closed],
            dead=_read(_depth, reader),
            runs=_read(counts_of, reader),
        )


def _read(query: Callable[[Reader], T], reader: Reader | None) -> T | None:
    try:
        return None if reader is None else query(reader)
    except LogUnavailable:
        return None


def _depth(reader: Reader) -> list[DepthOut]:
    rows = sorted(reader.dead_depth().items())
    return [DepthOut(pipeline=p, step=s, dead=number, oldest=moment(oldest)) for (p, s), (number, oldest) in rows]


def counts_of(reader: Reader) -> dict[str, dict[StatusName, int]]:
    """The number of runs of each pipeline, by status."""
    counts: dict[str, dict[StatusName, int]] = {}
    for (pipeline, status), number in sorted(reader.counts().items()):
        counts.setdefault(pipeline, {})[Status(status).wire] = number  # type: ignore[index]  # the same closed set
    return counts
