"""Progress: how far each step of one run is, from the run's records. Pure: nothing here draws.

Rules:

1. The graph says which steps the trigger can lead to, and what each of them waits for; the records say the rest.
2. A step hears an event of its own as soon as that event is in the log, so its total grows while a fan-out streams.
   What a step that joins or gathers will hear is not known beforehand: it has no total.
3. A picture (`Frame`) is a value; those of a log and those of a served engine are drawn the same way.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..model.failure import StepFailed
from ..pipelines.graph import Edge, EventNode, Graph
from ..state.records import (
    AttemptRecord,
    CrashedRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    Record,
    ReleasedRecord,
    RevivedRecord,
)
from ..state.run_status import Status

__all__ = ["Frame", "Progress", "StepLine", "StepPhase", "causal_order", "waits_for"]


class StepPhase(StrEnum):
    """The state of a step in a run."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True)
class StepLine:
    """One step: how many of its deliveries are where.

    heard: those known of so far. attempts: all that began. due_us: when the next retry is. emitted: events by type.
    share: what the step itself says (`ctx.progress`). began_us, ended_us: its first and its latest sign of life.
    """

    name: str
    waits_for: str = ""
    heard: int = 0
    running: int = 0
    retrying: int = 0
    done: int = 0
    failed: int = 0
    attempts: int = 0
    began_us: int = 0
    ended_us: int = 0
    due_us: int = 0
    error: str = ""
    emitted: dict[str, int] = field(default_factory=dict[str, int])
    share: tuple[float, float] | None = None

    @property
    def phase(self) -> StepPhase:
        """The state of all of its deliveries together."""
        if self.running:
            return StepPhase.RUNNING
        if self.retrying:
            return StepPhase.RETRYING
        if self.failed:
            return StepPhase.FAILED
        if self.done and self.done >= self.heard:
            return StepPhase.DONE
        return StepPhase.RUNNING if self.done else StepPhase.PENDING

    @property
    def total(self) -> int:
        """All deliveries known of."""
        return max(self.heard, self.running + self.retrying + self.done + self.failed)


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a run."""

    pipeline: str
    run_id: str
    trigger: str
    status: Status
    started_us: int
    finished_us: int | None
    steps: tuple[StepLine, ...]


class Progress:
    """The steps of one run, by its records."""

    def __init__(self, graph: Graph | None, trigger: str) -> None:
        order = () if graph is None else causal_order(graph, trigger)
        self.steps = {name: StepLine(name, waits_for(graph, name)) for name in order if graph is not None}
        self.status = Status.RUNNING
        self.started_us = 0
        self.finished_us: int | None = None
        self._hearers: Mapping[str, list[str]] = {} if graph is None else _hearers(graph)
        self._deliveries: dict[int, tuple[StepLine, StepPhase]] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Fold the next records."""
        for record in records:
            fold = _FOLDS.get(type(record))
            if fold is not None:
                fold(self, record)

    def frame(self, pipeline: str, run_id: str, trigger: str) -> Frame:
        """The run as it is now."""
        steps = tuple(self.steps.values())
        return Frame(pipeline, run_id, trigger, self.status, self.started_us, self.finished_us, steps)

    def _event(self, record: EventRecord) -> None:
        self.started_us = self.started_us or record.time_us
        for step in self._hearers.get(record.type, ()):
            if step in self.steps:
                self.steps[step].heard += 1
        if record.delivery in self._deliveries and record.type != StepFailed.__event_type__:
            emitted = self._deliveries[record.delivery][0].emitted
            emitted[record.type] = emitted.get(record.type, 0) + 1

    def _attempt(self, record: AttemptRecord) -> None:
        step = self.steps.setdefault(record.step, StepLine(record.step))
        step.attempts += 1
        step.began_us = step.began_us or record.time_us
        self._move(record.delivery, step, StepPhase.RUNNING, record.time_us)

    def _done(self, record: DoneRecord) -> None:
        self._end(record.delivery, StepPhase.DONE, record.time_us)

    def _failed(self, record: FailedRecord) -> None:
        error = f"{record.error}: {record.message}" if record.message else record.error
        self._fail(record.delivery, error, record.time_us, record.retry_us)

    def _crashed(self, record: CrashedRecord) -> None:
        self._fail(record.delivery, record.message, record.time_us, record.retry_us)

    def _released(self, record: ReleasedRecord) -> None:
        known = self._deliveries.get(record.delivery)
        if known is not None:
            known[0].attempts -= 1
            self._move(record.delivery, known[0], StepPhase.PENDING, record.time_us)

    def _ended(self, record: EndedRecord) -> None:
        self.status, self.finished_us = Status(record.status), record.time_us
        for number, (step, phase) in list(self._deliveries.items()):
            if phase in (StepPhase.RUNNING, StepPhase.RETRYING):
                self._move(number, step, StepPhase.PENDING, record.time_us)

    def _revived(self, _: RevivedRecord) -> None:
        self.status, self.finished_us = Status.RUNNING, None

    def _fail(self, number: int, error: str, time_us: int, retry_at_us: int | None) -> None:
        step = self._end(number, StepPhase.FAILED if retry_at_us is None else StepPhase.RETRYING, time_us)
        if step is not None:
            step.error = error
            step.due_us = retry_at_us or 0

    def _end(self, number: int, phase: StepPhase, time_us: int) -> StepLine | None:
        known = self._deliveries.get(number)
        if known is None:
            return None
        self._move(number, known[0], phase, time_us)
        return known[0]

    def _move(self, number: int, step: StepLine, phase: StepPhase, time_us: int) -> None:
        before = self._deliveries.get(number)
        if before is not None:
            _count(before[0], before[1], -1)
        _count(step, phase, 1)
        self._deliveries[number] = (step, phase)
        step.ended_us = time_us


def _count(step: StepLine, phase: StepPhase, change: int) -> None:
    if phase is not StepPhase.PENDING:
        setattr(step, phase.value, getattr(step, phase.value) + change)


_FOLDS: Mapping[type, Callable[[Progress, Any], None]] = {
    EventRecord: Progress._event,  # noqa: SLF001 - the table of this class
    AttemptRecord: Progress._attempt,  # noqa: SLF001
    DoneRecord: Progress._done,  # noqa: SLF001
    FailedRecord: Progress._failed,  # noqa: SLF001
    CrashedRecord: Progress._crashed,  # noqa: SLF001
    ReleasedRecord: Progress._released,  # noqa: SLF001
    EndedRecord: Progress._ended,  # noqa: SLF001
    RevivedRecord: Progress._revived,  # noqa: SLF001
}


def causal_order(graph: Graph, trigger: str) -> list[str]:
    """The steps that a trigger can lead to, each after those that it needs, without handlers of failures.

    A join comes after all of its branches. Loops are followed once.
    """
    return sorted(depth := _depths(graph, trigger), key=lambda name: depth[name])


def _depths(graph: Graph, trigger: str) -> dict[str, int]:
    heard = _edges_from(graph, "hears")
    emitted = _edges_from(graph, "emits")
    depth: dict[str, int] = {}
    most = sum(1 for _ in graph.steps())
    level = {f"event:{trigger}"}
    for number in range(most):
        steps = {edge.target for event in level for edge in heard.get(event, ())}
        for step in steps:
            depth[step.removeprefix("step:")] = number
        level = {edge.target for step in steps for edge in emitted.get(step, ())}
        if not level:
            break
    declared = [step.name for step in graph.steps()]
    return {name: depth[name] for name in declared if name in depth}


def waits_for(graph: Graph | None, step: str) -> str:
    """What a step needs before it acts, in words: `A or B`, `A and all B`."""
    if graph is None:
        return ""
    parameters: dict[str | None, list[Edge]] = {}
    for edge in graph.edges:
        if edge.kind == "hears" and edge.target == f"step:{step}":
            parameters.setdefault(edge.parameter, []).append(edge)
    return " and ".join(_words(edges) for edges in parameters.values())


def _words(edges: list[Edge]) -> str:
    names = " or ".join(edge.source.removeprefix("event:") for edge in edges)
    return f"all {names}" if edges[0].gathers else names


def _hearers(graph: Graph) -> Mapping[str, list[str]]:
    """For each event type the steps that act on each one of it: no join, no list, no failures."""
    alone = {f"step:{step.name}" for step in graph.steps() if not step.join and not step.gathers}
    failures = {node.id for node in graph.nodes if isinstance(node, EventNode) and node.failure}
    table: dict[str, list[str]] = {}
    for edge in graph.edges:
        if edge.kind == "hears" and edge.target in alone and edge.source not in failures:
            table.setdefault(edge.source.removeprefix("event:"), []).append(edge.target.removeprefix("step:"))
    return table


def _edges_from(graph: Graph, kind: str) -> dict[str, list[Edge]]:
    table: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        if edge.kind == kind:
            table.setdefault(edge.source, []).append(edge)
    return table
