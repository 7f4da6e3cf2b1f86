"""Showing: the pipelines of an engine as a tree, by what their supervisors say, or by what the engine itself sees."""

from typing import Any

from ...events.views.health_tree import TreeNode, pipeline_node, step_node
from ..supervision.orders import step_path
from .supervisor_clients import SupervisorClients
from .worker_table import Place, WorkerEntry, WorkerTable

__all__ = ["supervised_nodes"]


def supervised_nodes(branches: SupervisorClients, roster: WorkerTable) -> list[TreeNode]:
    """The root, and the pipelines with their steps and workers."""
    pipelines: dict[str, list[TreeNode]] = {pipeline: [] for pipeline, _ in roster.steps}
    for place in roster.steps:
        pipelines[place[0]].append(_step(branches, roster, place))
    return [branches.root.node(), *(_pipeline(branches, name, steps) for name, steps in pipelines.items())]


def _pipeline(branches: SupervisorClients, name: str, steps: list[TreeNode]) -> TreeNode:
    branch = branches.branch(name)
    if branch is None:
        return pipeline_node(name, 0, "", "", steps)
    return pipeline_node(name, branch.pid, branches.failed(name), branch.missing, steps)


def _step(branches: SupervisorClients, roster: WorkerTable, place: Place) -> TreeNode:
    """As its supervisor says; while there is none, by what is seen from here."""
    branch = branches.branch(step_path(*place))
    if branch is not None and branch.actor is not None and branch.standing is not None:
        return step_node(place[1], branch.pid, branch.standing, branch.missing)
    members = {m.slot: m for m in roster.members if m.place == place}
    _, known, gave_up = branches.history(step_path(*place))
    restarts = {int(slot): times for slot, _, times in known}
    workers = [_as_seen(slot, members.get(slot), restarts.get(slot, 0)) for slot in range(roster.steps[place].replicas)]
    return step_node(place[1], 0, (gave_up, workers), branch.missing if branch is not None else "")


def _as_seen(slot: int, member: WorkerEntry | None, restarts: int) -> tuple[Any, ...]:
    """A worker's place, as a step's supervisor would tell it."""
    if member is None:
        return (slot, "down", 0, restarts, "", (0, 0))
    return (slot, "up" if member.up else "starting", 0, restarts, "", (member.worker, member.mark.pid))
