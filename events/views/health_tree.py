"""Tree: how everything that is supervised stands, for people to look at.

Rules: plain data, made from what is known now and never asked of anybody, so it is there whatever hangs or is dead.
"""

from collections.abc import Iterable
from typing import TypedDict

from ..supervision.tree import StepStanding

__all__ = ["TreeNode", "node", "pipeline_node", "step_node"]


class TreeNode(TypedDict):
    """One part. kind: engine, partition, pipeline, step, worker. status: up, starting, restarting, failed, down.

    pid: of a pipeline or step, that of its supervisor. since: of the status, in microseconds since the epoch.
    restarts: those of its children, or of the worker itself. reason: why it is not up, or was last restarted.
    """

    name: str
    kind: str
    status: str
    pid: int | None
    restarts: int
    since: int | None
    reason: str | None
    children: list["TreeNode"]


def node(
    kind: str,
    name: str,
    status: str,
    *,
    pid: int | None = None,
    restarts: int = 0,
    since: int | None = None,
    reason: str | None = None,
    children: Iterable[TreeNode] = (),
) -> TreeNode:
    """A part of the tree."""
    return TreeNode(
        name=name,
        kind=kind,
        status=status,
        pid=pid or None,
        restarts=restarts,
        since=since or None,
        reason=reason or None,
        children=list(children),
    )


def pipeline_node(name: str, supervisor_pid: int, failed: str, missing: str, steps: list[TreeNode]) -> TreeNode:
    """A pipeline. failed: why it failed. missing: why its supervisor is gone, if it had one."""
    return node(
        "pipeline",
        name,
        "failed" if failed else _worst(steps, "starting"),
        pid=supervisor_pid,
        restarts=sum(step["restarts"] for step in steps),
        since=_since(steps),
        reason=failed or missing,
        children=steps,
    )


def step_node(name: str, supervisor_pid: int, standing: StepStanding, missing: str) -> TreeNode:
    """A step, as its supervisor last reported it. missing: why it has no supervisor now, if there was one."""
    gave_up, slots = standing
    children = [
        node("worker", f"{name}/{slot}", _shown(status), pid=pid, restarts=restarts, since=since_us, reason=reason)
        for slot, status, since_us, restarts, reason, pid in slots
    ]
    return node(
        "step",
        name,
        "failed" if gave_up else _worst(children, "down"),
        pid=supervisor_pid,
        restarts=sum(child["restarts"] for child in children),
        since=_since(children),
        reason=gave_up or missing or next((child["reason"] for child in children if child["reason"]), None),
        children=children,
    )


def _shown(status: str) -> str:
    return "restarting" if status == "stopping" else str(status)


def _worst(children: list[TreeNode], empty: str) -> str:
    order = ("failed", "down", "restarting", "starting", "up")
    return min((child["status"] for child in children), key=order.index, default=empty)


def _since(children: list[TreeNode]) -> int | None:
    return max((child["since"] or 0 for child in children), default=None)
