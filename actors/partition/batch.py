"""The batch of a decision: what the log commits at once.

Rules: a batch is built of what was decided and of nothing else; the parts that few decisions have are built only if
they are there.
"""

from ...cluster.log.protocol import AuditRow, Batch, DeadLetter, Fact, LetterSettled, RunChange, RunStart, Seen
from ...events.decide.commands import Decision, Died

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
    batch = Batch(epoch, decision.entries, started, changed, seen)
    if decision.facts or decision.dead or decision.settled or decision.audit:
        _add_operations(batch, decision)
    return batch


def _add_operations(batch: Batch, decision: Decision) -> None:
    """Facts, dead letters, and what operators did."""
    now_us = decision.now_us
    batch.facts = [Fact(kind, name, body, now_us) for kind, name, body in decision.facts]
    batch.dead = [_letter(died) for died in decision.dead]
    batch.settled = [LetterSettled(letter_id, state) for letter_id, state in decision.settled]
    batch.audit = [AuditRow(now_us, who, action, subject, detail) for who, action, subject, detail in decision.audit]


def _letter(died: Died) -> DeadLetter:
    run, error = died.run, died.error
    return DeadLetter(
        letter_id=died.letter_id,
        run=run.number,
        run_id=run.run_id,
        delivery=died.delivery,
        pipeline=run.plan.pipeline,
        step=error.step,
        event_type=died.event_type,
        event_id=died.event_id,
        kind=str(error.failure.kind),
        error=error.failure.error,
        message=error.failure.message,
        attempts=error.attempts,
        time_us=died.time_us,
        blocked=died.blocked,
    )
