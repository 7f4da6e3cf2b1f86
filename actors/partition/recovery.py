"""Recovery: rebuilds the decider from the log, so that it continues where the last owner ended.

Rules: the newest good snapshot and what the log has after it, or the log alone: both lead to the same state. Runs of a
pipeline version that is not loaded stay in the log as `needs_migration`, and are counted.
"""

from collections.abc import Container, Mapping
from typing import NamedTuple

from ...cluster.log.protocol import Batch, Log, RunChange, RunRow
from ...events.decide.breakers import BREAKER_FACT
from ...events.decide.core import Decider, Limits
from ...events.decide.decision_builder import DecisionBuilder
from ...events.errors import CodecError, LogCorrupt, LogNewer
from ...events.model.codec import unpack
from ...events.pipelines.plan import Plan
from ...events.state import transitions
from ...events.state.records import unpack_records
from ...events.state.replay import fold
from ...events.state.run_status import Status
from ...events.state.snapshot import load
from ...events.state.state import Run, State

__all__ = ["Recovered", "recover"]

_MAX_SNAPSHOT_BYTES = 4 * 1024 * 1024 * 1024


class Recovered(NamedTuple):
    """What a recovery found."""

    decider: Decider
    """Holds the state of the log."""
    live: int
    """How many runs are live."""
    stranded: int
    """How many runs need a migration, since their pipeline version is not loaded."""


def recover(log: Log, epoch: int, plans: Mapping[str, Plan], limits: Limits | None = None) -> Recovered:
    """Rebuild the decider from the log, which the caller owns under this epoch.

    Raises `LogCorrupt` if an entry cannot be read, `LogNewer` if a newer version wrote it, `LogUnavailable`.
    """
    state, runs, after, stranded = _start(log, plans)
    for offset, number, _, body in log.live(after):
        if number in stranded:
            continue
        if (after and number < after and number not in runs) or not _fold(state, plans, runs, number, offset, body):
            stranded.add(number)
    _update_index(log, epoch, plans, runs, stranded)
    builder = DecisionBuilder(log.next_offset())
    builder.state = state
    facts = {fact.name: fact.body for fact in log.facts(BREAKER_FACT) if fact.body is not None}
    return Recovered(Decider(plans, builder, limits, facts), len(state.runs), len(stranded))


def _start(log: Log, plans: Mapping[str, Plan]) -> tuple[State, dict[int, Run], int, set[int]]:
    """State and runs of the newest good snapshot, its offset, and the runs before it that cannot be loaded."""
    for snapshot in log.snapshots():
        try:
            state, runs = load(unpack(snapshot.body, _MAX_SNAPSHOT_BYTES), plans)
        except (CodecError, LogCorrupt):
            continue
        live = {row.run: row for row in log.live_runs() if row.run < snapshot.offset}
        missing = [row for number, row in live.items() if number not in runs]
        if not any(_is_loaded(row, plans) for row in missing):
            _forget_ended(state, runs, live)
            return state, runs, snapshot.offset, {row.run for row in missing}
    return State(), {}, 0, set()


def _is_loaded(row: RunRow, plans: Mapping[str, Plan]) -> bool:
    plan = plans.get(row.pipeline)
    return plan is not None and plan.is_version(row.version)


def _forget_ended(state: State, runs: dict[int, Run], live: Container[int]) -> None:
    """Drop runs that were live in the snapshot and have ended since: the log has no live entries of them."""
    for number in [number for number in runs if number not in live]:
        transitions.finish(state, runs.pop(number), Status.COMPLETED)


def _fold(state: State, plans: Mapping[str, Plan], runs: dict[int, Run], number: int, offset: int, body: bytes) -> bool:  # noqa: PLR0917 - as `fold`, and the entry
    try:
        records = unpack_records(body)
    except CodecError as error:
        raise LogCorrupt(f"the entry at offset {offset} cannot be read: {error}") from None
    try:
        return fold(state, plans, runs, number, records)
    except CodecError as error:
        raise LogNewer(f"the entry at offset {offset} cannot be read: {error}") from None


def _update_index(log: Log, epoch: int, plans: Mapping[str, Plan], runs: dict[int, Run], stranded: set[int]) -> None:
    """Show in the index which runs wait for a migration, and which no longer do.

    Runs of pipelines that are not loaded here are left alone.
    """
    changed: list[RunChange] = []
    for row in log.live_runs():
        if row.run in stranded and row.pipeline in plans and row.status != Status.NEEDS_MIGRATION:
            changed.append(RunChange(row.run, Status.NEEDS_MIGRATION, None))
        elif row.run in runs and row.status == Status.NEEDS_MIGRATION:
            changed.append(RunChange(row.run, Status.RUNNING, None))
    if changed:
        log.commit(Batch(epoch, changed=changed))
