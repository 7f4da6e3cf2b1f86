"""Tree: how everything that is supervised stands, for people to look at.

Rules: plain data, made from what is known now and never asked of anybody, so it is there whatever hangs or is dead.
"""

from collections.abc import Iterable
from typing import Any, TypedDict, cast

__all__ = ["TreeNode", "node", "pipeline_node"]


class TreeNode(TypedDict):
    """One part. kind: engine, partition, pipeline, step, worker. status: up, starting, restarting, failed, down.

    since: of the status, in microseconds since the epoch. restarts: those of its children, the current ones of a worker.
    reason: why it is not up, or why it was last restarted.
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


def pipeline_node(name: str, supervisor_pid: int, standing: Any, missing: str) -> TreeNode:
    """A pipeline by what its supervisor says of itself. missing: why there is no supervisor, where there is none."""
    failed, steps = cast("tuple[str, dict[str, tuple[str, list[Any]]]]", standing or ("", {}))
    children = [_step_node(step, gave_up, workers) for step, (gave_up, workers) in steps.items()]
    if failed:
        status, reason = "failed", failed
    elif missing:
        status, reason = "restarting", missing
    else:
        status, reason = _worst(children, "starting"), ""
    restarts = sum(child["restarts"] for child in children)
    return node(
        "pipeline",
        name,
        status,
        pid=supervisor_pid,
        restarts=restarts,
        since=_since(children),
        reason=reason,
        children=children,
    )


def _step_node(name: str, gave_up: str, workers: list[Any]) -> TreeNode:
    children = [
        node("worker", f"{name}/{slot}", _shown(status), pid=pid, restarts=restarts, since=since_us, reason=reason)
        for slot, status, since_us, restarts, reason, (_, pid) in workers
    ]
    restarts = sum(child["restarts"] for child in children)
    status = "failed" if gave_up else _worst(children, "down")
    reason = gave_up or next((child["reason"] for child in children if child["reason"]), None)
    return node("step", name, status, restarts=restarts, since=_since(children), reason=reason, children=children)


def _shown(status: str) -> str:
    return "restarting" if status == "stopping" else status


def _worst(children: list[TreeNode], empty: str) -> str:
    order = ("failed", "down", "restarting", "starting", "up")
    return min((child["status"] for child in children), key=order.index, default=empty)


def _since(children: list[TreeNode]) -> int | None:
    return max((child["since"] or 0 for child in children), default=None)
