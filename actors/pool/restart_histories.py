"""RestartHistories: what supervisors have to remember, as the engine keeps it in the log for the next keeper.

Rules: the log has one fact for each supervisor, under its path, and one for the root with all pipelines in it. Only the
pool's thread changes them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ...events.supervision.restart_history import RestartHistory
from ..supervision.orders import PARTITION_HISTORY, ROOT_HISTORY

__all__ = ["RestartHistories"]

NO_HISTORY = RestartHistory()


class RestartHistories:
    """Histories by path. Methods that change one return the facts to record: name and body."""

    def __init__(self, stored: Mapping[str, Any] | None = None) -> None:
        facts = dict(stored or {})
        root = cast("Mapping[str, Any]", facts.pop(ROOT_HISTORY, {}))
        self.root: dict[str, RestartHistory] = {name: RestartHistory.parse(body) for name, body in root.items()}
        """Of the pipelines' supervisors, by pipeline."""
        self.partition = RestartHistory.parse(facts.pop(PARTITION_HISTORY, NO_HISTORY))
        self.by_path: dict[str, RestartHistory] = {path: RestartHistory.parse(body) for path, body in facts.items()}

    def forgive(self) -> None:
        """Forget that supervisors gave up: the engine was stopped in order since. Their restarts still count."""
        self.root = {name: history.forgiven() for name, history in self.root.items()}
        self.partition = self.partition.forgiven()
        self.by_path = {path: history.forgiven() for path, history in self.by_path.items()}

    def of(self, path: str) -> RestartHistory:
        """The history of a pipeline's or a step's supervisor."""
        return self.by_path.get(path, NO_HISTORY)

    def failed(self, pipeline: str) -> str:
        """Why this pipeline was given up; empty if it was not."""
        return self.root.get(pipeline, NO_HISTORY).gave_up or self.of(pipeline).gave_up

    def facts(self) -> list[tuple[str, Any]]:
        """The facts of all supervisors but the partition's."""
        return [*self.by_path.items(), *([(ROOT_HISTORY, self.root)] if self.root else [])]

    def change(self, path: str, history: RestartHistory) -> list[tuple[str, Any]]:
        """Keep the history of a pipeline's or a step's supervisor."""
        if self.of(path) == history:
            return []
        self.by_path[path] = history
        return [(path, history)]

    def change_root(self, pipeline: str, history: RestartHistory) -> list[tuple[str, Any]]:
        """Keep the root's history of a pipeline."""
        if self.root.get(pipeline, NO_HISTORY) == history:
            return []
        self.root[pipeline] = history
        return [(ROOT_HISTORY, self.root)]

    def forget(self, pipeline: str, paths: Iterable[str]) -> list[tuple[str, Any]]:
        """Forget everything about a pipeline and its steps, whose paths these are."""
        changed = [fact for path in paths for fact in self.change(path, NO_HISTORY)]
        return [*changed, *self.change_root(pipeline, NO_HISTORY)]
