"""Resuming: what becomes of a delivery after a replay, when its last owner is gone."""

from ..model.failure import Failure, FailureKind
from ..state import keys
from ..state.state import Delivery, DeliveryStatus
from . import results
from .decision_builder import DecisionBuilder

__all__ = ["resume_delivery"]


def resume_delivery(builder: DecisionBuilder, delivery: Delivery, most_losses: int) -> None:
    """Make a delivery ready again; after `most_losses` ends of the engine during an attempt its step gives up."""
    if delivery.status is DeliveryStatus.LEASED:
        keys.release(delivery, DeliveryStatus.READY)
        delivery.engine_losses += 1
        if delivery.engine_losses >= most_losses:
            text = f"the engine ended {delivery.engine_losses} times while this was running"
            results.give_up(builder, delivery, Failure(FailureKind.UNKNOWN, "EngineDied", text))
            return
    if not keys.may_run(builder.state, delivery):
        return
    if delivery.status is DeliveryStatus.WAITING and delivery.due_us > builder.now_us:
        builder.set_timer(delivery)
    elif delivery.status in (DeliveryStatus.READY, DeliveryStatus.WAITING):
        keys.ready(builder.state, delivery)
