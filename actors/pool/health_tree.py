"""Health tree of the pool: the pipelines of an engine, as their supervisors report them or as the engine sees them."""

from ...events.supervision.supervisor import ChildStatus
from ...events.supervision.tree import SlotStanding, StepStanding
from ...events.views.health_tree import TreeNode, pipeline_node, step_node
from ..supervision.orders import step_path
from .keeper_client import KeeperClient
from .worker_table import Place, WorkerTable

__all__ = ["supervised_nodes"]


def supervised_nodes(keeper: KeeperClient, table: WorkerTable) -> list[TreeNode]:
    """The root, and the pipelines with their steps and workers."""
    pipelines: dict[str, list[TreeNode]] = {pipeline: [] for pipeline, _ in table.steps}
    for place in table.steps:
        pipelines[place[0]].append(_step(keeper, table, place))
    return [keeper.root_node(), *(_pipeline(keeper, name, steps) for name, steps in pipelines.items())]


def _pipeline(keeper: KeeperClient, name: str, steps: list[TreeNode]) -> TreeNode:
    return pipeline_node(name, keeper.pid(name), keeper.histories.failed(name), keeper.why_missing(name), steps)


def _step(keeper: KeeperClient, table: WorkerTable, place: Place) -> TreeNode:
    """As its supervisor reports it; while there is none, as the engine sees it."""
    path = step_path(*place)
    standing = keeper.standings.get(path) if keeper.pid(path) else None
    if standing is not None:
        return step_node(place[1], keeper.pid(path), standing, keeper.why_missing(path))
    return step_node(place[1], 0, _as_seen(keeper, table, place), keeper.why_missing(path))


def _as_seen(keeper: KeeperClient, table: WorkerTable, place: Place) -> StepStanding:
    history = keeper.histories.of(step_path(*place))
    restarts = {int(child.child): child.restarts for child in history.children}
    entries = {entry.slot: entry for entry in table.entries if entry.place == place}
    slots: list[SlotStanding] = []
    for slot in range(table.steps[place].replicas):
        entry = entries.get(slot)
        status = ChildStatus.DOWN if entry is None else ChildStatus.UP if entry.is_up else ChildStatus.STARTING
        pid = entry.process.pid if entry is not None else 0
        slots.append(SlotStanding(slot, status, 0, restarts.get(slot, 0), "", pid))
    return StepStanding(history.gave_up, tuple(slots))
