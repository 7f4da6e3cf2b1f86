"""Refusals: why an operator's decision on a dead letter is not possible.

Rules: pure functions of a run and one of its deliveries. An error says what to do instead.
"""

from ..errors import EnsueError, EventInvalid, LetterClosed, LetterUnknown, RunCancelled, RunFinished, RunUnknown
from ..ids import format_id
from ..state.run_status import Status
from ..state.state import Delivery, DeliveryStatus, Run
from .inputs import Redrive

__all__ = ["no_letter", "not_again", "not_edited", "not_in_bulk", "not_loaded", "takes_several"]


def no_letter(run: Run, delivery: Delivery | None) -> EnsueError | None:
    """The error if a delivery is not an open dead letter."""
    if delivery is None or delivery.status is not DeliveryStatus.FAILED:
        return LetterClosed("this dead letter is settled already: its delivery is under way or done")
    if delivery is not run.compensating and not delivery.is_dead_letter:
        return LetterUnknown("this delivery is no dead letter yet: its run is still coming to its end")
    return None


def not_again(entry: Redrive, run: Run, delivery: Delivery) -> EnsueError | None:
    """The error if a dead letter cannot be redriven."""
    if entry.edited is not None and (error := not_edited(delivery)) is not None:
        return error
    if delivery is run.compensating:
        return None
    name = format_id(run.run_id)
    if run.status is Status.CANCELLED:
        return RunCancelled(f"run {name} was cancelled: {_instead(name)}, or discard this letter")
    if run.cancelling:
        return RunCancelled(f"run {name} is being cancelled: {_instead(name)} once it is over, or discard this letter")
    if run.status.live and run.phase:
        return RunFinished(f"run {name} is coming to its end: try it again in a moment")
    return None


def not_edited(delivery: Delivery) -> EnsueError | None:
    """The error if the event of a delivery cannot be replaced."""
    if delivery.step.single:
        return _had_emitted(delivery) if delivery.emitted else None
    return takes_several(delivery.step.name)


def not_loaded(run_id: bytes, pipeline: str) -> EnsueError:
    """The error about a run whose pipeline version is not loaded."""
    return RunUnknown(
        f"run {format_id(run_id)} is of a version of {pipeline} that is not loaded here: "
        "start the engine with that code"
    )


def not_in_bulk(step: str) -> EnsueError:
    """The error about a blocked compensation, which is not discarded in bulk."""
    return LetterUnknown(
        f"it is compensation {step}, which somebody has to settle: discard it by its id, or by its step"
    )


def takes_several(step: str) -> EnsueError:
    """The error about the event of a join or of a gathering step, which cannot be edited."""
    return EventInvalid(
        f"step {step} takes several events, so none of them can be edited: "
        "redrive the letter without data, or discard it"
    )


def _had_emitted(delivery: Delivery) -> EnsueError:
    many = "1 event" if delivery.emitted == 1 else f"{delivery.emitted:,} events"
    return EventInvalid(
        f"step {delivery.step.name} had emitted {many} of its own event before it gave up, and they would stand beside "
        "those of another: redrive the letter without data, or discard it and send a new event"
    )


def _instead(name: str) -> str:
    return f"retry the run (`ensue runs retry {name}`)"
