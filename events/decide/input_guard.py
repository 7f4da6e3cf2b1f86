"""Input guard: what follows if an input raises: it is refused alone, and the batch goes on.

Rules: a caller gets the error as its answer. A delivery whose worker reports what cannot be read gives up, and is a
dead letter if no step handles that. Each refusal is a line in `Decision.refused`, which the partition logs.
"""

from ..errors import EnsueError
from ..model.failure import Failure, FailureKind
from ..state.state import Delivery, DeliveryStatus
from . import results
from .commands import Answer, CancelDeliveries
from .decision_builder import DecisionBuilder
from .dispatch import WorkerSlot, size_of
from .inputs import Input

__all__ = ["fail_delivery", "refuse_input"]

_MOST_CHARACTERS = 200


def refuse_input(builder: DecisionBuilder, entry: Input, error: Exception) -> None:
    """Refuse an input that raised, and answer its caller."""
    name = type(entry).__name__
    reason = _reason(error)
    builder.decision.refused.append(f"an input ({name}) was refused: {reason}")
    reply = getattr(entry, "reply", None)
    if reply is not None:
        answer = EnsueError(f"the engine cannot carry out this {name.lower()}, and refuses it: {reason}")
        builder.decision.answers.append(Answer(reply, answer))


def fail_delivery(
    builder: DecisionBuilder, slot: WorkerSlot, token: object, delivery: Delivery | None, error: Exception
) -> None:
    """Let a delivery give up whose completion cannot be read; without a delivery the completion is ignored."""
    reason = _reason(error)
    builder.decision.refused.append(f"a completion of worker {slot.worker} cannot be read: {reason}")
    if delivery is None:
        return
    if isinstance(token, int) and slot.leases.get(token) is delivery:
        del slot.leases[token]
        slot.leased_bytes -= size_of(delivery)
        builder.decision.cancel.append(CancelDeliveries(slot.worker, [token]))
    if delivery.status is DeliveryStatus.LEASED:
        text = f"the report of the worker on this attempt cannot be read: {reason}"
        results.give_up(builder, delivery, Failure(FailureKind.PERMANENT, "CodecError", text))
        builder.settle(delivery.run)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {ascii(str(error))[1:-1]}"[:_MOST_CHARACTERS]
