"""What a store says, as plain JSON: its runs, the state of unfinished ones, and what is stored beside them."""

from pathlib import Path
from typing import Any

from ensue.actors.partition.recovery import recover
from ensue.cluster.log.open import open_log, open_reader
from ensue.cluster.log.protocol import DeadFilter, Log, Reader
from ensue.events.decide.core import Decider
from ensue.events.model.codec import unpack
from ensue.events.pipelines.plan import compile_plan
from ensue.events.pipelines.version import version_of
from ensue.events.state.records import RecordKind
from ensue.events.state.state import Delivery, Ref, Run
from ensue.events.views.run_history import read_history
from ensue.events.views.views import EventView

from . import flows

__all__ = ["describe", "kinds_in", "shapes_in"]

_FLOWS = {flow.name: flow for flow in (flows.orders, flows.trips)}


def describe(path: Path) -> dict[str, Any]:
    """All that the store says. It takes the store over, so give it a copy."""
    log = open_log(f"sqlite:///{path}")
    reader = log.reader()
    try:
        return {
            "runs": [_run(reader, row.run) for row in reversed(reader.runs(limit=1000))],
            "live": _live(log),
            "dead_letters": [_listed(letter) for letter in reader.dead(DeadFilter(state=None), limit=1000)],
            "breakers": {fact.name: _listed(unpack(fact.body or b"")) for fact in reader.facts("breaker")},
            "audit": [_listed(row) for row in reversed(reader.audit(limit=1000))],
            "senders": [_listed(row) for row in log.lookup([("test", "order-1"), ("test", "order-2")]).values()],
            "snapshots": [snapshot.offset for snapshot in log.snapshots()],
        }
    finally:
        reader.close()
        log.close()


def kinds_in(path: Path) -> set[str]:
    """The kinds of records in a store, by name."""
    return {name for name, *_ in shapes_in(path)}


def shapes_in(path: Path) -> set[tuple[str, ...]]:
    """Each kind of record in a store with the types of its fields, as they are on disk."""
    reader = open_reader(f"sqlite:///{path}")
    try:
        bodies = [entry.body for entry in reader.scan(1, 1_000_000)]
    finally:
        reader.close()
    records = [record for body in bodies for record in unpack(body)]
    return {(RecordKind(kind).name, *(type(value).__name__ for value in fields)) for kind, *fields in records}


def _live(log: Log) -> dict[str, Any]:
    """The state twice: from the newest snapshot and what follows it, and from the log alone."""
    plans = {flow.name: compile_plan(flow.declaration, version_of(flow.declaration)) for flow in _FLOWS.values()}
    epoch = log.acquire("describe")
    from_snapshot = _state(recover(log, epoch, plans).decider)
    from_log = _state(recover(_WithoutSnapshots(log), epoch, plans).decider)  # type: ignore[arg-type]  # all but one method
    assert from_snapshot == from_log
    return from_log


class _WithoutSnapshots:
    """A log whose snapshots are all lost."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def snapshots(self) -> list[Any]:
        return []


def _state(decider: Decider) -> dict[str, Any]:
    queues = {
        "/".join(name): [[d.run.number, d.number] for d in queue] for name, queue in decider.state.key_queues.items()
    }
    return {"runs": {str(run.number): _live_run(run) for run in decider.state.runs.values()}, "key_queues": queues}


def _live_run(run: Run) -> dict[str, Any]:
    undoing = run.compensating
    return {
        "id": run.run_id.hex(),
        "pipeline": run.plan.pipeline,
        "started_us": run.started_us,
        "trigger": run.trigger_type,
        "phase": int(run.phase),
        "pivoted": run.pivoted,
        "cancelling": run.cancelling,
        "failed": run.dead,
        "deliveries": [_delivery(delivery) for delivery in run.deliveries.values()],
        "joins": {str(i): [sum(map(len, side.values())) for side in join] for i, join in (run.joins or {}).items()},
        "results": [_event(ref) for ref in run.results or ()],
        "errors": [[e.step, *e.failure, e.delivery, e.attempts, e.event_id.hex(), e.handled] for e in run.errors or ()],
        "compensations": [[number, undo.step.name] for number, undo in (run.compensations or {}).items()],
        "compensating": None if undoing is None else undoing.number,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "number": delivery.number,
        "step": delivery.step.name,
        "key": delivery.key,
        "status": delivery.status.name,
        "attempt": delivery.attempt,
        "crashes": delivery.crashes,
        "emitted": delivery.emitted,
        "first_us": delivery.first_us,
        "redrives": delivery.redrives,
        "is_dead_letter": delivery.is_dead_letter,
        "discarded": delivery.discarded,
        "edited": delivery.edited,
        "inputs": [_event(v) if isinstance(v, Ref) else [_event(ref) for ref in v] for v in delivery.inputs],
    }


def _event(ref: Ref) -> list[Any]:
    return [ref.event_id.hex(), ref.type, ref.version, unpack(ref.data), ref.key]


def _run(reader: Reader, number: int) -> dict[str, Any]:
    view = read_history((entry.offset, entry.body) for entry in reader.entries(number)).view()
    return {
        "id": view.id.hex(),
        "pipeline": view.pipeline,
        "version": view.version,
        "status": view.status.wire,
        "started_us": view.started_us,
        "finished_us": view.finished_us,
        "trigger": None if view.trigger is None else [_shown(view.trigger.event), view.trigger.source],
        "results": [_shown(event) for event in view.results],
        "errors": [_listed(tuple(getattr(error, name) for name in error.__slots__)) for error in view.errors],
        "steps": {
            step.name: [step.attempts, step.done, step.failed, step.retried, step.emitted] for step in view.steps
        },
        "undoing": view.compensating,
        "blocked": len(view.blocked),
    }


def _shown(event: EventView) -> list[Any]:
    return [event.offset, event.id.hex(), event.type, event.version, event.key, event.step, event.time_us, event.data]


def _listed(row: Any) -> list[Any]:
    return [value.hex() if isinstance(value, bytes) else value for value in row]
