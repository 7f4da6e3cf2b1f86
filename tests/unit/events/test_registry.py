"""One name, one model; the error about an unknown name suggests a known one."""

import pytest

from ensue.events.errors import EventTypeUnknown, PipelineInvalid
from ensue.events.model.codec import encode
from ensue.events.model.event import Event
from ensue.events.model.registry import Registry


class OrderPlaced(Event):
    id: str


class Charged(Event, type="orders.charged", version=2):
    id: str


def test_a_model_is_found_by_its_wire_name() -> None:
    registry = Registry([OrderPlaced, Charged])
    assert registry["orders.charged"] is Charged
    assert list(registry) == [OrderPlaced, Charged]
    assert len(registry) == 2
    assert "OrderPlaced" in registry
    assert "Charged" not in registry


def test_a_model_may_be_registered_twice() -> None:
    registry = Registry([OrderPlaced])
    registry.add(OrderPlaced)
    assert len(registry) == 1


def test_two_models_of_one_name_are_refused_with_both_their_places() -> None:
    class Other(Event, type="OrderPlaced"):
        id: str

    with pytest.raises(PipelineInvalid, match=r"share the type 'OrderPlaced'.*Other.*type=\.\.\."):
        Registry([OrderPlaced, Other])


def test_the_error_about_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(EventTypeUnknown, match=r"'OrderPlacd' is unknown; did you mean 'OrderPlaced'\?"):
        Registry([OrderPlaced])["OrderPlacd"]


def test_or_it_lists_all_known_names() -> None:
    with pytest.raises(EventTypeUnknown, match=r"known here: OrderPlaced, orders\.charged"):
        Registry([OrderPlaced, Charged])["Zzz"]
    with pytest.raises(EventTypeUnknown, match="known here: none"):
        Registry()["Zzz"]


def test_it_decodes_by_name() -> None:
    event = Charged(id="o-1")
    assert Registry([Charged]).decode("orders.charged", 2, encode(event)) == event
