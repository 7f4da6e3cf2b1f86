"""Dead letters: what becomes of a delivery that gave up and that nothing handles.

Rules: a letter's id is derived from run and delivery, so one that dies again is the same letter, open again. It is
written in the commit that ends the run as failed, or in the one in which a compensation gives up. With the end of a run
that was undone its letters are settled.
"""

from collections.abc import Mapping
from enum import StrEnum

from ..ids import derived_id, format_id
from ..model.failure import Failure
from ..model.notices import CompensationBlocked
from ..state.state import Delivery, DeliveryStatus, RecordedError, Run
from .commands import Audited, Decision, Died, Settled

__all__ = ["LETTERS", "LetterState", "LetterTurn", "block", "bury", "forgo", "letter_id", "settle"]

_WHO = "engine"


class LetterState(StrEnum):
    """Whether somebody has still to decide about a letter."""

    OPEN = "open"
    REDRIVEN = "redriven"
    DISCARDED = "discarded"


class LetterTurn(StrEnum):
    """What happens to a letter."""

    REDRIVE = "an operator redrives it, or retries its run"
    DISCARD = "an operator discards it, or its run was undone"
    GAVE_UP = "its delivery gives up again"


LETTERS: Mapping[tuple[LetterState, LetterTurn], LetterState] = {
    (LetterState.OPEN, LetterTurn.REDRIVE): LetterState.REDRIVEN,
    (LetterState.OPEN, LetterTurn.DISCARD): LetterState.DISCARDED,
    (LetterState.REDRIVEN, LetterTurn.GAVE_UP): LetterState.OPEN,
}
"""What a letter is at next. What is not here is refused: only of an open letter can be decided."""


def letter_id(run_id: bytes, delivery: int) -> bytes:
    """The id of the dead letter that a delivery becomes."""
    return derived_id(run_id, "dead", delivery)


def bury(decision: Decision, run: Run) -> None:
    """A run fails: what gave up in it, and is no dead letter yet, becomes one."""
    errors = {error.delivery: error for error in run.errors or ()}
    for delivery in run.deliveries.values():
        if delivery.status is DeliveryStatus.FAILED and not delivery.is_dead_letter:
            decision.dead.append(_died(decision, delivery, errors[delivery.number], blocked=False))


def block(decision: Decision, delivery: Delivery, failure: Failure) -> CompensationBlocked:
    """A compensation gave up: an operator has to decide, and pipelines can hear of it."""
    run = delivery.run
    died = _died(decision, delivery, (run.errors or [])[-1], blocked=True)
    decision.dead.append(died)
    return CompensationBlocked(
        pipeline=run.plan.pipeline,
        step=delivery.step.name,
        run_id=format_id(run.run_id),
        compensates=delivery.step.step.compensates or "",
        letter=format_id(died.letter_id),
        error=failure.error,
        message=failure.message,
    )


def settle(decision: Decision, run_id: bytes, delivery: int, turn: LetterTurn) -> None:
    """An open letter is decided on."""
    decision.settled.append(Settled(letter_id(run_id, delivery), LETTERS[LetterState.OPEN, turn].value))


def forgo(decision: Decision, run: Run) -> None:
    """A run was undone, so it cannot come back: its letters that are open are discarded."""
    for delivery in run.deliveries.values():
        if delivery.is_dead_letter and not delivery.discarded:
            settle(decision, run.run_id, delivery.number, LetterTurn.DISCARD)
            letter = format_id(letter_id(run.run_id, delivery.number))
            decision.audit.append(Audited(_WHO, "letter discard", letter, "its run was undone"))


def _died(decision: Decision, delivery: Delivery, error: RecordedError, *, blocked: bool) -> Died:
    last = delivery.last_ref
    letter = letter_id(delivery.run.run_id, delivery.number)
    decision.settled = [settled for settled in decision.settled if settled.letter_id != letter]  # redriven, dead again
    event_type, event_id = (last.type, last.event_id) if last else ("", b"")
    return Died(letter, delivery.run, delivery.number, event_type, event_id, error, decision.now_us, blocked)
