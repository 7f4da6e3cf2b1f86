"""In this folder every change of a delivery's status is checked against the table of transitions."""

import pytest

from ensue.events.state.delivery_status import DELIVERIES, DeliveryStatus
from ensue.events.state.state import Delivery

_SLOT = Delivery.__dict__["status"]
_CHANGES = {(before, after) for (before, _), after in DELIVERIES.items()}


@pytest.fixture(autouse=True)
def _only_changes_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is not a row raises where it is made."""

    def read(delivery: Delivery) -> DeliveryStatus:
        status: DeliveryStatus = _SLOT.__get__(delivery)
        return status

    def write(delivery: Delivery, after: DeliveryStatus) -> None:
        try:
            before = read(delivery)
        except AttributeError:
            before = after  # it is being created
        if before is not after and (before, after) not in _CHANGES:
            raise AssertionError(f"a delivery went from {before.name} to {after.name}, which is not in DELIVERIES")
        _SLOT.__set__(delivery, after)

    monkeypatch.setattr(Delivery, "status", property(read, write))
