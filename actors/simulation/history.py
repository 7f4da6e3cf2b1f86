"""History of a simulation: its log, and what was observed from outside. The laws are checked against it.

Rules: observations stand in the order in which they happened, with their virtual time.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ...cluster.log.memory.log import MemoryStore
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.plan import Plan
from ...events.state.records import Entry, Record, unpack_records
from ..client.handles import Outcome

__all__ = [
    "Acknowledged",
    "BreakerMoved",
    "CodeEnded",
    "CodeStarted",
    "Committed",
    "Compared",
    "History",
    "LogRow",
    "Observation",
    "RunOver",
    "Supervised",
    "Surprise",
    "WorkerSeenGone",
    "describe",
]


class Acknowledged(NamedTuple):
    """A sender was told that its event was accepted. event: its place among the events."""

    at: float
    event: int
    event_id: bytes
    run_id: bytes
    duplicate: bool


class CodeStarted(NamedTuple):
    """The code of a step began. log_end: the next offset of the log at that moment."""

    at: float
    worker: int
    step: str
    token: int
    run_id: bytes
    delivery: int
    attempt: int
    log_end: int


class CodeEnded(NamedTuple):
    """The code of a step ended. emitted: how many events it emitted; None if it raised or was interrupted."""

    at: float
    worker: int
    step: str
    token: int
    run_id: bytes
    delivery: int
    attempt: int
    emitted: int | None


class WorkerSeenGone(NamedTuple):
    """A worker's process has ended, or is being killed."""

    at: float
    worker: int
    step: str
    why: str


class Committed(NamedTuple):
    """A commit succeeded: its epoch, and the epoch of the log."""

    at: float
    epoch: int
    log_epoch: int
    first: int
    end: int


class RunOver(NamedTuple):
    """The end of a run was committed."""

    at: float
    run_id: bytes
    status: int


class Supervised(NamedTuple):
    """What a supervisor did.

    owner: the owner of the log, by number. what: `start`, `restart`, `escalated`, `failed`, `operator` (a restart by
    hand) or `deserted` (one of its steps has no worker left and gets none; the others go on). restarts: how many count
    in the supervisor's period.
    """

    at: float
    owner: int
    what: str
    supervisor: str
    restarts: int


class BreakerMoved(NamedTuple):
    """A commit (from 0) wrote a fact, such as the state of a circuit breaker."""

    at: float
    commit: int
    kind: str
    name: str
    body: bytes | None


class Compared(NamedTuple):
    """The state in memory was compared with the one that the log leads to. difference: empty if they are equal."""

    at: float
    difference: str


class Surprise(NamedTuple):
    """Something that must never happen: an exception in the engine, a run that does not end."""

    at: float
    law: str
    text: str


Observation = (
    Acknowledged
    | CodeStarted
    | CodeEnded
    | WorkerSeenGone
    | Committed
    | RunOver
    | Supervised
    | BreakerMoved
    | Compared
    | Surprise
)


def describe(seen: Observation) -> str:
    """An observation as a line."""
    named = zip(seen._fields[1:], seen[1:], strict=True)
    shown = [f"{name} {value.hex() if isinstance(value, bytes) else value}" for name, value in named if value != ""]
    return f"{seen.at:9.3f} s  {type(seen).__name__}: {', '.join(shown)}"


class LogRow(NamedTuple):
    """One record: its offset, the commit that wrote it (from 0), the number of its run, and the record."""

    offset: int
    commit: int
    run: int
    record: Record


@dataclass(slots=True)
class History:
    """The log and the observations of a simulation."""

    store: MemoryStore
    plans: Mapping[str, Plan]
    pipeline: Pipeline
    observations: list[Observation] = field(default_factory=list["Observation"])
    commits: list[list[Entry]] = field(default_factory=list[list[Entry]])
    outcomes: dict[bytes, Outcome] = field(default_factory=dict[bytes, Outcome])
    _rows: list[LogRow] | None = None

    @property
    def rows(self) -> list[LogRow]:
        """All records of the log, in its order."""
        if self._rows is None:
            self._rows = list(self._read())
        return self._rows

    def run_of(self, number: int) -> bytes:
        """The id of a run by its number."""
        return self.store.runs[number].run_id

    def plan_of(self, number: int) -> Plan:
        """The plan of a run by its number."""
        return self.plans[self.store.runs[number].pipeline]

    def _read(self) -> Iterator[LogRow]:
        for commit, entries in enumerate(self.commits):
            for entry in entries:
                for place, record in enumerate(unpack_records(entry.body)):
                    yield LogRow(entry.offset + place, commit, entry.run, record)
