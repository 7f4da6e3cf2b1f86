"""Announcing: what supervisors do, as notices that pipelines can hear, and as lines in the log for who reads that.

Rules: what heals by itself is a warning; what a supervisor hands up is an error, and what needs an operator says so.
"""

import logging

from ...events.model.notices import Notice, StepEscalated, StepRestarted
from ...events.supervision.tree import Escalated, Restarted

__all__ = ["as_notice", "notice_of"]

logger = logging.getLogger("ensue.supervisor")


def notice_of(pipeline: str, item: Restarted | Escalated) -> Notice:
    """The notice of what a pipeline's supervisor reports; it is logged too."""
    if isinstance(item, Escalated):
        _log_escalated(pipeline, item)
    elif not item.expected:
        when = f"in {item.wait_seconds:.1f} s" if item.wait_seconds else "at once"
        logger.warning("step %s: %s; starting another worker %s", item.step, item.reason, when)
    return as_notice(pipeline, item)


def as_notice(pipeline: str, item: Restarted | Escalated) -> Notice:
    """The notice alone."""
    if isinstance(item, Restarted):
        return StepRestarted(
            pipeline=pipeline,
            step=item.step,
            reason=item.reason,
            restarts=item.restarts,
            wait_seconds=item.wait_seconds,
        )
    return StepEscalated(
        pipeline=pipeline,
        step=item.step,
        supervisor=item.supervisor,
        to=item.to,
        reason=item.reason,
        restarts=item.restarts,
        period_seconds=item.period_seconds,
        failed=item.failed,
    )


def _log_escalated(pipeline: str, item: Escalated) -> None:
    if item.failed and item.step:
        text = "step %s has failed, and its events wait until pipeline %s is restarted: %s"
        logger.error(text, item.step, pipeline, item.reason)
    elif item.failed:
        logger.error("pipeline %s has failed, and its events wait until it is restarted: %s", pipeline, item.reason)
    else:
        logger.error("step %s was given up and handed to pipeline %s: %s", item.step, pipeline, item.reason)
