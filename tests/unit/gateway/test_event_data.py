"""Which event `--event` names: by its type, and by its class if that is unambiguous."""

import pytest

from ensue import Event, Pipeline
from ensue.events.errors import EventTypeUnknown
from ensue.gateway.cli.event_data import read_event


class Placed(Event, type="order.placed"):
    pass


class Paid(Event, type="order.paid"):
    pass


class Other:
    """A second class that is called `Paid`."""

    class Paid(Event, type="refund.paid"):
        """As the other, by its class."""


shop = Pipeline("shop")


@shop.step
def charge(placed: Placed) -> None:
    return None


@shop.step
def ship(paid: Paid) -> None:
    return None


@shop.step
def refund(paid: Other.Paid) -> None:
    return None


@pytest.mark.parametrize("name", ["order.placed", "Placed"])
def test_an_event_is_named_by_its_type_or_its_class(name: str) -> None:
    assert read_event(shop, name, None) == Placed()


def test_a_class_name_that_two_events_share_names_neither() -> None:
    with pytest.raises(EventTypeUnknown, match=r"no such event type.*it takes order.placed, order.paid, refund.paid"):
        read_event(shop, "Paid", None)
