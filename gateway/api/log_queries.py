"""The log queries of the API: one reader for all requests, opened at the first query.

Rules: a query never goes through the partition. Before the log is open and after the engine has stopped, the answer is
503.
"""

from threading import Lock

from ...cluster.log.protocol import DeadLetter, Reader, RunRow
from ...events.errors import EnsueError, RunUnknown
from ...events.ids import format_id, parse_id
from ...events.pipelines.version import earlier_versions
from ...events.views.run_history import RunHistory, read_history
from ...events.views.views import RunView
from ..engine_port import EnginePort
from ..http.problems import Refused, refuse
from ..ingest.event_routing import subscribed_types
from ..schemas.dead_letters import LetterDetailOut
from .dead_letter_detail import find_letter, letter_detail

__all__ = ["LogQueries"]

_UNREADABLE = frozenset({"new", "starting", "stopped"})


class LogQueries:
    """The queries that the API makes to the log of an engine. May be used from any thread."""

    def __init__(self, engine: EnginePort) -> None:
        self._engine = engine
        self._lock = Lock()
        self._reader: Reader | None = None
        self._versions = {
            name: earlier_versions(engine.pipelines[name].declaration) | {version}
            for name, version in engine.versions().items()
        }
        """What each pipeline that is served is called: its version, and those that earlier releases gave it."""

    def reader(self) -> Reader:
        """The reader. Refuses with `not-ready` while the log is not open."""
        with self._lock:
            if self._reader is None:
                state = self._engine.state()
                if state in _UNREADABLE:
                    raise refuse("not-ready", f"The engine is {state}: the log cannot be read now.")
                self._reader = self._engine.reader()
            return self._reader

    def reader_or_none(self) -> Reader | None:
        """The reader, or None while the log is not open."""
        try:
            return self.reader()
        except (EnsueError, Refused):
            return None

    def close(self) -> None:
        """Close the reader."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None

    def row(self, run_id: str) -> RunRow:
        """The row of a run. Raises `RunUnknown`, also if the text is not an id."""
        try:
            raw = parse_id(run_id)
        except EnsueError as error:
            raise RunUnknown(str(error)) from None
        row = self.reader().run(raw)
        if row is None:
            raise RunUnknown(f"there is no run with the id {format_id(raw)}")
        return row

    def letter(self, letter_id: str) -> DeadLetter:
        """A dead letter, open or settled. Raises `LetterUnknown`, also if the text is not an id."""
        return find_letter(self.reader(), letter_id)

    def letter_detail(self, letter: DeadLetter) -> LetterDetailOut:
        """A dead letter with its events, its attempts and its audit rows."""
        return letter_detail(self.reader(), letter)

    def history(self, row: RunRow) -> RunHistory:
        """The history of a run."""
        return read_history((entry.offset, entry.body) for entry in self.reader().entries(row.run))

    def view(self, row: RunRow) -> RunView:
        """The view of a run. If the same version of its pipeline is served, that decides which events are results."""
        pipeline = self._engine.pipelines.get(row.pipeline)
        if pipeline is None or row.version not in self._versions[row.pipeline]:
            return self.history(row).view()
        return self.history(row).view(subscribed_types(pipeline).__contains__)
