"""Dead letters: what becomes of a delivery that gave up and that no step handles.

Rules: the id of a letter is derived from run and delivery, so a delivery that gives up again is the same letter, open
again. A letter is written in the commit that ends its run as failed, or in the one in which a compensation gives up.
When a run ends as compensated, its open letters are discarded.
"""

from collections.abc import Mapping
from enum import StrEnum

from ..ids import derived_id, format_id
from ..model.failure import Failure
from ..model.notices import CompensationBlocked
from ..state.rows import AuditRow, DeadLetter, LetterSettled
from ..state.state import Delivery, DeliveryStatus, RecordedError, Run
from .commands import Decision

__all__ = [
    "LETTERS",
    "LetterSignal",
    "LetterState",
    "add_blocked",
    "add_unhandled",
    "discard_open",
    "letter_id",
    "settle",
]

_WHO = "engine"


class LetterState(StrEnum):
    """Whether an operator has still to decide about a letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class LetterSignal(StrEnum):
    """What changes the state of a letter."""

    REDRIVE = "an operator redrives it, or retries its run"
    DISCARD = "an operator discards it, or its run was compensated"
    GAVE_UP = "its delivery gives up again"


LETTERS: Mapping[tuple[LetterState, LetterSignal], LetterState] = {
    (LetterState.OPEN, LetterSignal.REDRIVE): LetterState.REDRIVEN,
    (LetterState.OPEN, LetterSignal.DISCARD): LetterState.DISCARDED,
    (LetterState.REDRIVEN, LetterSignal.GAVE_UP): LetterState.OPEN,
}
"""The next state of a letter, by state and signal. Only open letters can be decided: other pairs are refused."""


def letter_id(run_id: bytes, delivery: int) -> bytes:
    """The id of the dead letter that a delivery becomes."""
    return derived_id(run_id, "dead", delivery)


def add_unhandled(decision: Decision, run: Run) -> None:
    """Write the dead letters of a run that fails: its deliveries that gave up and are not dead letters yet."""
    errors = {error.delivery: error for error in run.errors or ()}
    for delivery in run.deliveries.values():
        if delivery.status is DeliveryStatus.FAILED and not delivery.is_dead_letter:
            decision.dead.append(_letter(decision, delivery, errors[delivery.number], blocked=False))


def add_blocked(decision: Decision, delivery: Delivery, failure: Failure) -> CompensationBlocked:
    """Write the dead letter of a compensation that gave up, and return the notice about it."""
    run = delivery.run
    letter = _letter(decision, delivery, (run.errors or [])[-1], blocked=True)
    decision.dead.append(letter)
    return CompensationBlocked(
        pipeline=run.plan.pipeline,
        step=delivery.step.name,
        run_id=format_id(run.run_id),
        compensates=delivery.step.step.compensates or "",
        letter=format_id(letter.letter_id),
        error=failure.error,
        message=failure.message,
    )


def settle(decision: Decision, run_id: bytes, delivery: int, signal: LetterSignal) -> None:
    """Settle an open letter."""
    decision.settled.append(LetterSettled(letter_id(run_id, delivery), LETTERS[LetterState.OPEN, signal].value))


def discard_open(decision: Decision, run: Run) -> None:
    """Discard the open letters of a run that was compensated: it cannot be retried."""
    for delivery in run.deliveries.values():
        if delivery.is_dead_letter and not delivery.discarded:
            settle(decision, run.run_id, delivery.number, LetterSignal.DISCARD)
            letter = format_id(letter_id(run.run_id, delivery.number))
            decision.audit.append(AuditRow(decision.now_us, _WHO, "letter discard", letter, "its run was undone"))


def _letter(decision: Decision, delivery: Delivery, error: RecordedError, *, blocked: bool) -> DeadLetter:
    """The letter of a delivery; the builder fills in the run's number."""
    run, last = delivery.run, delivery.last_ref
    letter = letter_id(run.run_id, delivery.number)
    # if it was redriven in this very batch, it is open again
    decision.settled = [settled for settled in decision.settled if settled.letter_id != letter]
    return DeadLetter(
        letter_id=letter,
        run=0,
        run_id=run.run_id,
        delivery=delivery.number,
        pipeline=run.plan.pipeline,
        step=error.step,
        event_type=last.type if last else "",
        event_id=last.event_id if last else b"",
        kind=str(error.failure.kind),
        error=error.failure.error,
        message=error.failure.message,
        attempts=error.attempts,
        time_us=decision.now_us,
        blocked=blocked,
    )
