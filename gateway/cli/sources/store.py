"""The sources of runs: a Protocol for a served engine and for a store, and the store.

Rules: both return the documents of the API, so the output does not depend on the source. A store is only read: that
does not disturb the engine that uses it, and changing a run is refused.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ....events.errors import EnsueError, PipelineInvalid, RunUnknown
from ....events.ids import format_id, parse_id
from ....events.pipelines.graph import Graph
from ....events.state.records import unpack_records
from ....events.state.run_status import Status
from ....events.views.progress import Frame, Progress
from ....events.views.run_history import read_history
from ...schemas.runs import EventOut, EventsOut, RunDetailOut, RunOut, RunsOut
from ..exit_codes import WrongUse

if TYPE_CHECKING:
    from ....cluster.log.protocol import Reader, RunRow
    from ....events.pipelines.pipeline import Pipeline

__all__ = ["LogWatch", "RunSource", "RunWatch", "StoreSource"]


class RunWatch(Protocol):
    """A run that is followed."""

    def frame(self) -> Frame:
        """The current frame of its picture."""
        ...

    def document(self) -> RunDetailOut:
        """The document of the frame."""
        ...

    def close(self) -> None:
        """Stop following the run."""
        ...


class RunSource(Protocol):
    """A source of runs."""

    def runs(self, pipeline: str | None, statuses: Sequence[str], cursor: str | None, limit: int) -> RunsOut:
        """A page of runs, newest first."""
        ...

    def run(self, run_id: str) -> RunDetailOut:
        """A run. Raises `RunUnknown`."""
        ...

    def events(self, run_id: str) -> EventsOut:
        """The causal log of a run. Raises `RunUnknown`."""
        ...

    def watch(self, run_id: str) -> RunWatch:
        """Follow a run. Raises `RunUnknown`."""
        ...

    def cancel(self, run_id: str) -> RunOut:
        """Cancel a run."""
        ...

    def retry(self, run_id: str) -> RunOut:
        """Retry a run that failed or was cancelled."""
        ...

    def close(self) -> None:
        """Close the source."""
        ...


class LogWatch:
    """A run in a log, followed by reading only its new entries."""

    def __init__(
        self,
        reader: "Reader",
        run_id: bytes,
        pipeline: "Pipeline | None" = None,
        shares: Mapping[tuple[bytes, str], tuple[float, float]] | None = None,
    ) -> None:
        self._reader = reader
        self._row = _row(reader, run_id)
        self._shares = {} if shares is None else shares
        self._graph = stored_graph(reader, self._row) if pipeline is None else pipeline.graph()
        self._progress = Progress(self._graph, self._row.trigger_type)
        self._next = 0

    def frame(self) -> Frame:
        for entry in self._reader.entries(self._row.run, self._next):
            self._progress.add(unpack_records(entry.body))
            self._next = entry.offset + entry.count
        for name, step in self._progress.steps.items():
            step.share = self._shares.get((self._row.run_id, name))
        return self._progress.frame(self._row.pipeline, format_id(self._row.run_id), self._row.trigger_type)

    def document(self) -> RunDetailOut:
        return _document(self._reader, self._row.run_id, self._graph)

    def close(self) -> None:
        self._reader.close()


class StoreSource:
    """The runs of a store."""

    def __init__(self, store: str) -> None:
        from ....cluster.log.open import open_reader

        self._store = store
        self._reader = open_reader(store)

    def runs(self, pipeline: str | None, statuses: Sequence[str], cursor: str | None, limit: int) -> RunsOut:
        wanted = [Status[name.upper()] for name in statuses] or None
        rows = self._reader.runs(pipeline=pipeline, statuses=wanted, before=_before(cursor), limit=limit + 1)
        page = [RunOut.of(row) for row in rows[:limit]]
        return RunsOut(runs=page, next_cursor=f"{rows[limit - 1].run:x}" if len(rows) > limit else None)

    def run(self, run_id: str) -> RunDetailOut:
        row = _row(self._reader, _parse_run_id(run_id))
        return _document(self._reader, row.run_id, stored_graph(self._reader, row))

    def events(self, run_id: str) -> EventsOut:
        row = _row(self._reader, _parse_run_id(run_id))
        history = read_history((entry.offset, entry.body) for entry in self._reader.entries(row.run))
        return EventsOut(events=[EventOut.of(event) for event in history.events])

    def watch(self, run_id: str) -> RunWatch:
        return LogWatch(self._reader, _parse_run_id(run_id))

    def cancel(self, run_id: str) -> RunOut:
        raise self._refused("cancel", run_id)

    def retry(self, run_id: str) -> RunOut:
        raise self._refused("retry", run_id)

    def close(self) -> None:
        self._reader.close()

    def _refused(self, what: str, run_id: str) -> WrongUse:
        serve = f"ensue serve TARGET --store {self._store}"
        return WrongUse(
            f"cannot {what} a run in a store: start an engine on it ({serve}), then: ensue runs {what} {run_id}"
        )


def stored_graph(reader: "Reader", row: "RunRow") -> Graph | None:
    """The stored graph of the version of a run, or None if the store has none that can be read."""
    for definition in reader.definitions(row.pipeline):
        if definition.version == row.version:
            try:
                return Graph.from_json(definition.definition)
            except PipelineInvalid:
                return None
    return None


def _document(reader: "Reader", run_id: bytes, graph: Graph | None) -> RunDetailOut:
    row = _row(reader, run_id)
    history = read_history((entry.offset, entry.body) for entry in reader.entries(row.run))
    if graph is None:
        return RunDetailOut.of_view(row, history.view())
    heard = {edge.source.removeprefix("event:") for edge in graph.edges if edge.kind == "hears"}
    return RunDetailOut.of_view(row, history.view(heard.__contains__))


def _row(reader: "Reader", run_id: bytes) -> "RunRow":
    row = reader.run(run_id)
    if row is None:
        raise RunUnknown(f"there is no run with the id {format_id(run_id)}")
    return row


def _parse_run_id(run_id: str) -> bytes:
    try:
        return parse_id(run_id)
    except EnsueError as error:
        raise RunUnknown(str(error)) from None


def _before(cursor: str | None) -> int | None:
    try:
        return None if cursor is None else int(cursor, 16)
    except ValueError:
        raise WrongUse(f"invalid --cursor {cursor!r}: pass next_cursor from the previous page") from None
