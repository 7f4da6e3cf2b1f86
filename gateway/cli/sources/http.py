"""The runs of a served engine, over its HTTP API.

Rules: the documents are those of the API. The picture of a run is drawn from the counts in its document.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ....events.errors import PipelineInvalid, RunUnknown
from ....events.pipelines.graph import Graph
from ....events.state.run_status import Status
from ....events.views.progress import Frame, StepLine, causal_order, waits_for
from ...schemas.runs import EventsOut, RunDetailOut, RunOut, RunsOut, StepOut
from ..exit_codes import WrongUse
from .connection import Connection
from .store import RunWatch

__all__ = ["HttpSource"]


class HttpSource:
    """The runs of a served engine at `url`."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url)

    def runs(self, pipeline: str | None, statuses: Sequence[str], cursor: str | None, limit: int) -> RunsOut:
        given = {"pipeline": pipeline, "cursor": cursor, "limit": limit}
        query: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if statuses:
            query["status"] = list(statuses)
        return self._connection.read(RunsOut, "GET", "/runs", query)

    def run(self, run_id: str) -> RunDetailOut:
        return self._connection.read(RunDetailOut, "GET", _path(run_id))

    def events(self, run_id: str) -> EventsOut:
        return self._connection.read(EventsOut, "GET", _path(run_id, "/events"))

    def watch(self, run_id: str) -> RunWatch:
        return _HttpWatch(self, run_id)

    def cancel(self, run_id: str) -> RunOut:
        return self._connection.read(RunOut, "POST", _path(run_id, "/cancel"))

    def retry(self, run_id: str) -> RunOut:
        return self._connection.read(RunOut, "POST", _path(run_id, "/retry"))

    def graph(self, pipeline: str) -> Graph | None:
        """The graph of a pipeline, or None if the engine does not serve it."""
        try:
            return Graph.from_json(self._connection.send("GET", f"/pipelines/{pipeline}/graph").content)
        except (RunUnknown, WrongUse, PipelineInvalid):
            return None

    def close(self) -> None:
        self._connection.close()


class _HttpWatch:
    """A run of a served engine, followed through its document."""

    def __init__(self, source: HttpSource, run_id: str) -> None:
        self._source = source
        self._run_id = run_id
        self._document = source.run(run_id)
        self._graph = source.graph(self._document.pipeline)

    def frame(self) -> Frame:
        self._document = self._source.run(self._run_id)
        return frame_of(self._document, self._graph)

    def document(self) -> RunDetailOut:
        return self._document

    def close(self) -> None:
        self._source.close()


def frame_of(run: RunDetailOut, graph: Graph | None) -> Frame:
    """The frame of a picture of a run, from its document."""
    names = [] if graph is None else causal_order(graph, run.trigger_type)
    lines = {name: StepLine(name, waits_for(graph, name)) for name in names}
    for step in run.steps:
        _fill(lines.setdefault(step.name, StepLine(step.name)), step, run)
    finished_us = None if run.finished is None else _micros(run.finished)
    status = Status[run.status.upper()]
    return Frame(
        run.pipeline, run.run_id, run.trigger_type, status, _micros(run.started), finished_us, tuple(lines.values())
    )


def _fill(line: StepLine, step: StepOut, run: RunDetailOut) -> None:
    """Set the counts of a line. The API has no single deliveries, so a retried step that is idle counts as waiting."""
    line.attempts, line.running, line.done, line.failed = step.attempts, step.running, step.done, step.failed
    is_waiting = Status[run.status.upper()].live and step.retried and not (step.running or step.done or step.failed)
    line.retrying = 1 if is_waiting else 0
    line.began_us = _micros(run.started)
    took_ms = min(step.total_duration_ms, run.duration_ms or step.total_duration_ms)
    line.ended_us = line.began_us + int(took_ms * 1000)
    line.error = next((f"{e.error}: {e.message}" for e in run.errors if e.step == step.name), "")


def _micros(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


def _path(run_id: str, rest: str = "") -> str:
    if not run_id.replace("-", "").isalnum():
        raise RunUnknown(f"{run_id[:60]!r} is not the id of a run: `ensue runs list` shows the ids")
    return f"/runs/{run_id}{rest}"
