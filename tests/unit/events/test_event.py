"""An event is declared once, never changes, and accepts only data of its types from outside."""

import datetime as dt
import enum
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ensue.events.errors import EventInvalid, PipelineInvalid
from ensue.events.model.event import Event, key_of, parse_event


class Colour(enum.Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    count: int = 1


class OrderPlaced(Event):
    order_id: str
    amount: float


class Charged(Event, type="orders.charged", version=2, key="order_id"):
    order_id: str | None


class Everything(Event):
    when: dt.datetime
    day: dt.date
    wait: dt.timedelta
    id: uuid.UUID
    price: Decimal
    colour: Colour
    tags: set[str]
    pair: tuple[int, str]
    raw: bytes
    lines: list[Line]
    ratio: float
    by_number: dict[int, str]
    note: str | None = None


EVERYTHING: dict[str, Any] = {
    "when": "2026-01-02T03:04:05Z",
    "day": "2026-01-02",
    "wait": "PT1M",
    "id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "price": "19.90",
    "colour": "red",
    "tags": ["a", "b"],
    "pair": [1, "x"],
    "raw": "AP8=",
    "lines": [{"sku": "s", "count": 2}],
    "ratio": 1,
    "by_number": {"7": "seven"},
    "note": None,
}


def test_name_and_version_default_to_the_class_and_to_one() -> None:
    assert (OrderPlaced.__event_type__, OrderPlaced.__event_version__, OrderPlaced.__event_key__) == (
        "OrderPlaced",
        1,
        None,
    )
    assert (Charged.__event_type__, Charged.__event_version__, Charged.__event_key__) == (
        "orders.charged",
        2,
        "order_id",
    )


def test_a_subclass_inherits_the_key_but_neither_name_nor_version() -> None:
    class Refunded(Charged): ...

    assert (Refunded.__event_type__, Refunded.__event_version__, Refunded.__event_key__) == ("Refunded", 1, "order_id")


def test_an_event_never_changes() -> None:
    event = OrderPlaced(order_id="o-1", amount=1)
    with pytest.raises(ValidationError, match="frozen"):
        event.amount = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", ["", "two words", "tab\there", "line\nbreak", "x" * 201, "nul\0"])
def test_a_wire_name_is_printable_and_has_no_spaces(name: str) -> None:
    with pytest.raises(PipelineInvalid, match="printable characters without spaces"):

        class Wrong(Event, type=name): ...  # pyright: ignore[reportUnusedClass]


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "2"])
def test_a_version_is_a_positive_integer(version: Any) -> None:
    with pytest.raises(PipelineInvalid, match="version is a positive integer"):

        class Wrong(Event, version=version): ...  # pyright: ignore[reportUnusedClass]


def test_a_key_is_one_of_the_fields() -> None:
    with pytest.raises(PipelineInvalid, match="key='number' is not one of its fields"):

        class Wrong(Event, key="number"):  # pyright: ignore[reportUnusedClass]
            id: str


def test_a_required_field_that_would_not_be_stored_is_refused() -> None:
    with pytest.raises(PipelineInvalid, match=r"Wrong.secret is required and exclude=True"):

        class Wrong(Event):  # pyright: ignore[reportUnusedClass]
            secret: str = Field(exclude=True)


@pytest.mark.parametrize("version", [0, 2, 3])
def test_an_upcaster_leads_from_an_earlier_version(version: int) -> None:
    with pytest.raises(PipelineInvalid, match=r"orders\.charged is at version 2: upcast from 1 to 1"):
        Charged.upcaster(from_version=version)


def test_the_key_is_the_text_of_its_field() -> None:
    class Painted(Event, key="colour"):
        colour: Colour | int | None

    assert key_of(Charged(order_id="o-1")) == "o-1"
    assert key_of(Charged(order_id=None)) is None
    assert key_of(OrderPlaced(order_id="o-1", amount=1)) is None
    assert (key_of(Painted(colour=Colour.RED)), key_of(Painted(colour=7))) == ("red", "7")


@pytest.mark.parametrize("form", ["text", "bytes", "parsed"])
def test_json_gives_every_type_in_its_natural_form(form: str) -> None:
    text = json.dumps(EVERYTHING)
    data = {"text": text, "bytes": text.encode(), "parsed": EVERYTHING}[form]
    event = parse_event(Everything, data, json=True)
    assert event == Everything(
        when=dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        day=dt.date(2026, 1, 2),
        wait=dt.timedelta(minutes=1),
        id=uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
        price=Decimal("19.90"),
        colour=Colour.RED,
        tags={"a", "b"},
        pair=(1, "x"),
        raw=b"\x00\xff",
        lines=[Line(sku="s", count=2)],
        ratio=1.0,
        by_number={7: "seven"},
    )


def test_what_an_event_shows_as_json_reads_back() -> None:
    event = parse_event(Everything, EVERYTHING, json=True)
    assert parse_event(Everything, event.model_dump_json(), json=True) == event


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ratio": "1"}, "ratio"),
        ({"pair": ["1", "x"]}, "pair.0"),
        ({"note": 5}, "note"),
        ({"lines": [{"sku": "s"}, {"sku": "t", "count": "2"}]}, "lines.1.count"),
        ({"lines": [{"sku": "s", "count": True}]}, "lines.0.count"),
        ({"lines": [{"sku": "s", "count": 1.0}]}, "lines.0.count"),
        ({"when": 1767323045}, "when"),
        ({"colour": "blue"}, "colour"),
        ({"raw": "not base64!"}, "raw"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_json_is_read_strictly_and_the_invalid_field_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(EventInvalid, match=r"Everything is not valid: ") as caught:
        parse_event(Everything, {**EVERYTHING, **change}, json=True)
    assert [problem["field"] for problem in caught.value.problems] == [field]


def test_a_class_may_choose_to_be_lax_with_json() -> None:
    class Lax(Event):
        model_config = ConfigDict(strict=False)
        count: int

    assert parse_event(Lax, '{"count": "3"}', json=True).count == 3


def test_data_from_python_is_read_as_pydantic_reads_it() -> None:
    assert parse_event(OrderPlaced, {"order_id": "o-1", "amount": "9.5"}) == OrderPlaced(order_id="o-1", amount=9.5)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_constants_that_json_does_not_have_are_refused_from_outside(constant: str) -> None:
    for text in (f'{{"order_id": "o", "amount": {constant}}}', f'{{"order_id": "o", "amount": {constant}}}'.encode()):
        with pytest.raises(EventInvalid, match="not JSON"):
            parse_event(OrderPlaced, text, json=True)
    with pytest.raises(EventInvalid, match="not JSON"):
        parse_event(OrderPlaced, {"order_id": "o", "amount": float(constant)}, json=True)


def test_a_text_that_says_nan_is_only_a_text() -> None:
    assert parse_event(OrderPlaced, '{"order_id": "NaN", "amount": 1}', json=True).order_id == "NaN"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '"x"', "null", '{"order_id": "\ud800"}', b"\xff\xfe", "[" * 10_000]
)
def test_data_that_is_not_a_json_object_is_refused_as_a_whole(text: str | bytes) -> None:
    with pytest.raises(EventInvalid) as caught:
        parse_event(OrderPlaced, text, json=True)
    assert caught.value.problems[0]["field"] in ("(whole)", "order_id")


def test_data_that_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(EventInvalid, match="not JSON data"):
        parse_event(OrderPlaced, {"order_id": object(), "amount": 1}, json=True)


def test_several_problems_are_reported_at_once_each_with_its_value() -> None:
    with pytest.raises(EventInvalid) as caught:
        parse_event(OrderPlaced, '{"amount": "a lot"}', json=True)
    assert caught.value.problems == [
        {"field": "order_id", "expected": "Field required", "got": "{'amount': 'a lot'}"},
        {"field": "amount", "expected": "Input should be a valid number", "got": "'a lot'"},
    ]


def test_a_message_stays_short_for_any_value() -> None:
    class Many(Event):
        numbers: list[int]

    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    for numbers in (["x" * 1_000_000], ["x"] * 1_000, [deep], [{"a": 10**5_000}]):
        with pytest.raises(EventInvalid) as caught:
            parse_event(Many, {"numbers": numbers})
        assert len(caught.value.problems) <= 50
        assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("annotation", "flat"),
    [
        (str, True),
        (int | None, True),
        (list[str], True),
        (dict[str, float], True),
        (dict[str, list[int]], True),
        (set[str], False),
        (frozenset[int], False),
        (Decimal, False),
        (list[Line], False),
        (dt.datetime | None, False),
        (Any, False),
        (list[Any], False),
    ],
)
def test_only_events_that_pack_as_they_are_need_no_dump(annotation: Any, flat: bool) -> None:
    class Made(Event):
        value: annotation  # pyright: ignore[reportInvalidTypeForm]

    assert Made.__event_flat__ is flat


class Priced(Event):
    amount: float = Field(alias="amt")


@pytest.mark.parametrize("data", [{"amt": 1}, {"amount": 1}])
@pytest.mark.parametrize("json", [True, False])
def test_a_field_is_read_by_its_name_as_well_as_by_its_alias(data: dict[str, int], json: bool) -> None:
    assert parse_event(Priced, data, json=json).amount == 1.0
