"""The batch of a decision: what the log commits at once.

Rules: a batch holds what was decided, and nothing else.
"""

from ...cluster.log.protocol import Batch, RunChange, RunStart, Seen
from ...events.decide.commands import Decision

__all__ = ["batch_of"]


def batch_of(decision: Decision, epoch: int) -> Batch:
    """What to commit for a decision of the owner with this epoch."""
    started = [
        RunStart(run.number, run.run_id, run.plan.pipeline, run.plan.version, run.trigger_type, run.started_us)
        for run in decision.started
    ]
    changed = [RunChange(run, int(status), at) for run, status, at in decision.changed]
    seen = [
        Seen(source, sender_id, digest, run_id, event_id, decision.now_us)
        for source, sender_id, digest, run_id, event_id in decision.seen
    ]
    return Batch(
        epoch,
        decision.entries,
        started,
        changed,
        seen,
        decision.facts,
        decision.dead,
        decision.settled,
        decision.audit,
    )
