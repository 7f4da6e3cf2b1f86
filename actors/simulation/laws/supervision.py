"""The law of supervision: restarts stay within the intensity, or escalate; a failed pipeline stays down.

Rules: a supervisor's own count of restarts is compared with what its policy allows, and each start of a worker with the
last decision about its pipeline.
"""

from collections.abc import Iterator

from ....events.pipelines.pipeline import Pipeline
from ..history import History, Supervised

__all__ = ["supervision_holds"]


def supervision_holds(history: History) -> Iterator[str]:
    """No step is restarted more often than its intensity allows; a failed pipeline waits for an operator."""
    allowed = _allowed(history.pipeline)
    given_up: set[str] = set()
    owner = 0
    for seen in history.observations:
        if not isinstance(seen, Supervised):
            continue
        if seen.owner != owner:
            owner = seen.owner
            given_up.clear()  # the log says whether it failed, and may have lost the last decision
        if seen.what == "restart" and seen.restarts > allowed[seen.supervisor]:
            what = f"{seen.supervisor} was restarted {seen.restarts} times by {seen.at:.3f} s"
            yield f"{what}; {allowed[seen.supervisor]} are allowed"
        elif seen.what == "escalated" and seen.restarts <= allowed[seen.supervisor]:
            what = f"{seen.supervisor} gave up at {seen.at:.3f} s after {seen.restarts} restarts"
            yield f"{what}; {allowed[seen.supervisor]} are allowed"
        elif seen.what == "failed":
            given_up.add(seen.supervisor)
        elif seen.what == "operator":
            given_up.discard(seen.supervisor)
        elif seen.what == "start" and seen.supervisor.partition("/")[0] in given_up:
            yield f"a worker of {seen.supervisor} was started at {seen.at:.3f} s, although its pipeline was given up"


def _allowed(pipeline: Pipeline) -> dict[str, int]:
    return {f"{pipeline.name}/{step.name}": step.supervision.intensity for step in pipeline.steps.values()}
