"""Notices of supervision: what supervisors do, as events that pipelines can subscribe to, and as log lines.

Rules: what heals by itself is a warning; an escalation is an error, and says if an operator has to act.
"""

import logging

from ...events.model.notices import Notice, StepEscalated, StepRestarted
from ...events.supervision.tree import Escalated, Restarted

__all__ = ["as_notice", "notice_of"]

logger = logging.getLogger("ensue.supervisor")


def notice_of(pipeline: str, event: Restarted | Escalated) -> Notice:
    """The notice of what a supervisor reports, which is logged too."""
    if isinstance(event, Escalated):
        _log_escalated(pipeline, event)
    elif not event.expected:
        when = f"in {event.wait_seconds:.1f} s" if event.wait_seconds else "at once"
        logger.warning("step %s: %s; starting another worker %s", event.step, event.reason, when)
    return as_notice(pipeline, event)


def as_notice(pipeline: str, event: Restarted | Escalated) -> Notice:
    """The notice, without a log line."""
    if isinstance(event, Restarted):
        return StepRestarted(
            pipeline=pipeline,
            step=event.step,
            reason=event.reason,
            restarts=event.restarts,
            wait_seconds=event.wait_seconds,
        )
    return StepEscalated(
        pipeline=pipeline,
        step=event.step,
        supervisor=event.supervisor,
        to=event.to,
        reason=event.reason,
        restarts=event.restarts,
        period_seconds=event.period_seconds,
        failed=event.failed,
    )


def _log_escalated(pipeline: str, event: Escalated) -> None:
    if event.failed and event.step:
        text = "step %s has failed, and its events wait until pipeline %s is restarted: %s"
        logger.error(text, event.step, pipeline, event.reason)
    elif event.failed:
        logger.error("pipeline %s has failed, and its events wait until it is restarted: %s", pipeline, event.reason)
    else:
        logger.error("step %s was given up and handed to pipeline %s: %s", event.step, pipeline, event.reason)
