"""Delivery status: the states of a delivery, and what changes them.

Rules: a transition is a row of `DELIVERIES`, and the diagram in the documentation is drawn from it. The code sets a
status without looking a row up, since it does so several times for every event; the tests of the core and of the
simulator check each change against the table.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum

__all__ = ["DELIVERIES", "DeliverySignal", "DeliveryStatus"]


class DeliveryStatus(IntEnum):
    """The state of a delivery. The numbers are in snapshots."""

    BLOCKED = 0
    """An earlier delivery of its key is not over."""
    READY = 1
    """It waits for a worker."""
    LEASED = 2
    """A worker has it."""
    WAITING = 3
    """Its next attempt is due later."""
    PARKED = 4
    """Its run halts or is being compensated."""
    FAILED = 5
    """It gave up, and no step handles its failure."""
    OVER = 6
    """It is done, or its run has ended."""


class DeliverySignal(StrEnum):
    """What changes the status of a delivery."""

    QUEUED = "an earlier delivery of its key is not over"
    FREED = "it is the first of its key"
    ATTEMPTED = "an attempt begins"
    RETRIED = "an attempt fails, and another one follows"
    DUE = "its next attempt is due"
    RELEASED = "it is handed back"
    COMPLETED = "it returns, or another step handles its failure"
    GAVE_UP = "it gives up, and no step handles its failure"
    HALTED = "its run halts"
    RESUMED = "its run goes on, or an operator retries it"
    ENDED = "its run ends"
    DISCARDED = "an operator discards a blocked compensation"


_BLOCKED, _READY, _LEASED = DeliveryStatus.BLOCKED, DeliveryStatus.READY, DeliveryStatus.LEASED
_WAITING, _PARKED = DeliveryStatus.WAITING, DeliveryStatus.PARKED
_FAILED, _OVER = DeliveryStatus.FAILED, DeliveryStatus.OVER

DELIVERIES: Mapping[tuple[DeliveryStatus, DeliverySignal], DeliveryStatus] = {
    (_READY, DeliverySignal.QUEUED): _BLOCKED,
    (_PARKED, DeliverySignal.QUEUED): _BLOCKED,
    (_BLOCKED, DeliverySignal.FREED): _READY,
    (_READY, DeliverySignal.ATTEMPTED): _LEASED,
    (_WAITING, DeliverySignal.ATTEMPTED): _LEASED,  # in replay: the log does not say when a timer fired
    (_BLOCKED, DeliverySignal.ATTEMPTED): _LEASED,  # in replay: two of one commit may have changed places
    (_LEASED, DeliverySignal.ATTEMPTED): _LEASED,  # the engine ended, and the next one leased it again
    (_LEASED, DeliverySignal.RETRIED): _WAITING,
    (_WAITING, DeliverySignal.DUE): _READY,
    (_LEASED, DeliverySignal.RELEASED): _READY,
    (_LEASED, DeliverySignal.COMPLETED): _OVER,
    (_READY, DeliverySignal.COMPLETED): _OVER,
    (_WAITING, DeliverySignal.COMPLETED): _OVER,
    (_LEASED, DeliverySignal.GAVE_UP): _FAILED,
    (_READY, DeliverySignal.GAVE_UP): _FAILED,
    (_WAITING, DeliverySignal.GAVE_UP): _FAILED,
    (_READY, DeliverySignal.HALTED): _PARKED,
    (_BLOCKED, DeliverySignal.HALTED): _PARKED,
    (_WAITING, DeliverySignal.HALTED): _PARKED,
    (_PARKED, DeliverySignal.RESUMED): _READY,
    (_FAILED, DeliverySignal.RESUMED): _READY,
    (_OVER, DeliverySignal.RESUMED): _READY,
    (_FAILED, DeliverySignal.DISCARDED): _OVER,
    (_READY, DeliverySignal.ENDED): _OVER,
    (_BLOCKED, DeliverySignal.ENDED): _OVER,
    (_LEASED, DeliverySignal.ENDED): _OVER,
    (_WAITING, DeliverySignal.ENDED): _OVER,
    (_PARKED, DeliverySignal.ENDED): _OVER,
}
"""The next status, by status and signal. A pair that is not here cannot occur."""
