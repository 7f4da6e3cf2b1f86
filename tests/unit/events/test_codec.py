"""An encoded event decodes to an equal one; anything invalid or too large is an error in one sentence."""

import datetime as dt
import enum
import ipaddress
import uuid
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, computed_field, field_validator

from ensue.events.errors import CodecError, EventInvalid
from ensue.events.model.codec import MAX_DEPTH, MAX_EVENT_BYTES, decode, encode, pack, unpack
from ensue.events.model.event import Event, Upcaster
from ensue.events.model.failure import StepFailed


class Colour(enum.Enum):
    RED = "red"
    NUMBER = 7


class Level(enum.IntEnum):
    LOW = 1


class Point(BaseModel):
    x: int
    label: str | None = None


class Flat(Event):
    text: str
    whole: int
    part: float
    truth: bool
    raw: bytes
    maybe: str | None
    either: int | str
    kind: Literal["a", 1]
    names: list[str]
    counts: dict[str, int]


class Rich(Event):
    when: dt.datetime
    day: dt.date
    clock: dt.time
    wait: dt.timedelta
    id: uuid.UUID
    price: Decimal
    colour: Colour
    level: Level
    point: Point
    points: list[Point]
    tags: set[str]
    hashes: frozenset[bytes]
    pair: tuple[int, Decimal]
    by_id: dict[uuid.UUID, Point]
    by_number: dict[int, bytes]
    choice: Point | Colour | None
    queue: deque[int]
    address: ipaddress.IPv4Address


int64 = st.integers(-(2**63), 2**64 - 1)
text = st.text(max_size=20)
points = st.builds(Point, x=int64, label=st.none() | text)
zones = st.none() | st.integers(-23 * 60, 23 * 60).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
flats = st.builds(
    Flat,
    text=text,
    whole=int64,
    part=st.floats(allow_nan=False),
    raw=st.binary(max_size=20),
    maybe=st.none() | text,
    either=int64 | text,
    names=st.lists(text, max_size=3),
    counts=st.dictionaries(text, int64, max_size=3),
)
riches = st.builds(
    Rich,
    when=st.datetimes(timezones=zones),
    wait=st.timedeltas(min_value=dt.timedelta(days=-9_000), max_value=dt.timedelta(days=9_000)),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    point=points,
    points=st.lists(points, max_size=3),
    tags=st.sets(text, max_size=3),
    hashes=st.frozensets(st.binary(max_size=8), max_size=3),
    pair=st.tuples(int64, st.decimals(allow_nan=False, allow_infinity=False)),
    by_id=st.dictionaries(st.uuids(), points, max_size=2),
    by_number=st.dictionaries(int64, st.binary(max_size=8), max_size=2),
    choice=points | st.sampled_from(Colour) | st.none(),
    queue=st.lists(int64, max_size=3).map(deque[int]),
)


@settings(max_examples=25)
@given(flats | riches)
def test_an_event_of_any_types_reads_back_equal_and_of_the_same_types(event: Flat | Rich) -> None:
    data = encode(event)
    again = decode(type(event), data, 1)
    assert again == event
    assert encode(again) == data
    assert {name: type(value) for name, value in again} == {name: type(value) for name, value in event}


def test_nan_and_infinity_of_the_authors_own_keep_their_value() -> None:
    class Measured(Event):
        values: list[float]

    values = decode(Measured, encode(Measured(values=[float("nan"), float("inf"), -0.0])), 1).values
    assert [str(value) for value in values] == ["nan", "inf", "-0.0"]


def test_a_set_has_the_same_bytes_in_any_order_of_insertion() -> None:
    class Tagged(Event):
        tags: set[int | str]

    assert encode(Tagged(tags={8, "a", 0, "b", 16})) == encode(Tagged(tags={"b", 16, 0, 8, "a"}))
    assert unpack(encode(Tagged(tags={16, "c", 8, "b", 0, "a"})))["tags"] == [0, 8, 16, "a", "b", "c"]


def test_aliases_are_for_outside_and_the_log_has_the_names() -> None:
    class Aliased(Event):
        order_id: str = Field(alias="orderId")
        nested: dict[str, Any] = Field(default_factory=dict)

    event = Aliased(orderId="o-1")
    assert unpack(encode(event))["order_id"] == "o-1"
    assert decode(Aliased, encode(event), 1) == event


def test_a_computed_field_is_computed_again() -> None:
    class Squared(Event):
        side: int
        tags: set[str] = Field(default_factory=set[str])

        @computed_field  # type: ignore[prop-decorator]
        @property
        def area(self) -> int:
            return self.side**2

    event = decode(Squared, encode(Squared(side=3)), 1)
    assert (event.side, event.area) == (3, 9)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**400])
def test_an_integer_over_64_bits_is_refused(number: int) -> None:
    class Counted(Event):
        number: int

    class Rich(Event):
        numbers: set[int]

    for event in (Counted(number=number), Rich(numbers={number})):
        with pytest.raises(CodecError, match="cannot be stored"):
            encode(event)


def test_a_secret_is_refused_rather_than_stored_or_masked() -> None:
    class Keyed(Event):
        token: SecretStr

    with pytest.raises(CodecError, match="a secret does not belong in a log") as caught:
        encode(Keyed(token=SecretStr("hunter2")))
    assert "hunter2" not in str(caught.value)


def test_what_has_no_plain_form_is_refused() -> None:
    class Opaque(Event):
        value: Any

    class Sneaky(Event):
        value: str

        @field_validator("value")
        @classmethod
        def opaque(cls, _: str) -> Any:
            return object()

    for event in (Opaque(value=object()), Opaque(value={"a": [object()]}), Sneaky(value="x")):
        with pytest.raises(CodecError, match="cannot be stored"):
            encode(event)


def test_a_key_that_would_not_read_back_is_refused_before_it_is_stored() -> None:
    class Sparse(Event):
        cells: dict[tuple[int, int], str]

    with pytest.raises(CodecError, match="a key of a dict is a list or tuple"):
        encode(Sparse(cells={(1, 2): "x"}))


def test_an_event_over_the_size_limit_is_refused_with_what_to_do() -> None:
    class Big(Event):
        raw: bytes

    fits = MAX_EVENT_BYTES - len(encode(Big(raw=bytes(70_000)))) + 70_000
    assert len(encode(Big(raw=bytes(fits)))) == MAX_EVENT_BYTES
    with pytest.raises(CodecError, match="store the content elsewhere and put its address into the event"):
        encode(Big(raw=bytes(fits + 1)))


def _nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def _in_list(value: Any) -> Any:
    return [value]


def _in_dict(value: Any) -> Any:
    return {"k": value}


def _in_tuple(value: Any) -> Any:
    return (value,)


def _in_set(value: Any) -> Any:
    return frozenset({value})


class Tree(Event):
    root: Any


@pytest.mark.parametrize("wrap", [_in_list, _in_dict, _in_tuple, _in_set])
def test_the_depth_is_bounded_both_ways(wrap: Callable[[Any], Any]) -> None:
    encode(Tree(root=_nested(MAX_DEPTH - 1, wrap)))
    with pytest.raises(CodecError, match=f"Tree is nested deeper than {MAX_DEPTH} levels"):
        encode(Tree(root=_nested(MAX_DEPTH, wrap)))


def test_bytes_that_are_too_deep_are_refused() -> None:
    decode(Tree, pack({"root": _nested(MAX_DEPTH - 1, _in_list)}), 1)
    with pytest.raises(CodecError, match="nested deeper"):
        decode(Tree, pack({"root": _nested(MAX_DEPTH, _in_list)}), 1)
    with pytest.raises(CodecError):
        decode(Tree, b"\x81\xa4root" + b"\x91" * 100_000 + b"\xc0", 1)


def test_a_failure_of_before_it_said_whether_its_data_was_left_out_reads_as_before() -> None:
    fields = {"step": "s", "event_type": "A", "event_id": "", "data": {"n": 1}, "kind": "unknown", "error": "E"}
    failed = decode(StepFailed, pack({**fields, "message": "m", "attempts": 2}), 1)
    assert (failed.data, failed.data_omitted) == ({"n": 1}, False)


def test_python_that_is_too_deep_is_refused() -> None:
    with pytest.raises(CodecError):
        encode(Tree(root=_nested(100_000, _in_list)))


@settings(max_examples=25)
@given(flats, st.data())
def test_a_message_cut_short_is_refused(event: Flat, data: st.DataObject) -> None:
    whole = encode(event)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(CodecError, match="not a msgpack message"):
        decode(Flat, whole[:cut], 1)


@settings(max_examples=25)
@given(st.binary(max_size=60))
def test_any_bytes_raise_only_our_errors(data: bytes) -> None:
    for model in (Flat, Rich, Tree):
        try:
            decode(model, data, 1)
        except (CodecError, EventInvalid):
            continue


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(msgpack.ExtType(5, b"x")),
        msgpack.packb({"root": msgpack.ExtType(1, b"")}),
        b"\x01\x02",
        b"\xc1",
        b"\xa2\xff\xff",
        b"\x81\x91\x01\x02",
        b"\xdd\x7f\xff\xff\xff",
    ],
)
def test_extensions_surplus_bytes_and_other_rubbish_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError, match="not a msgpack message"):
        decode(Tree, data, 1)


@pytest.mark.parametrize("value", [None, 1, "x", [1], b"x"])
def test_an_event_is_a_map(value: Any) -> None:
    with pytest.raises(CodecError, match="Tree: expected a map of fields, got"):
        decode(Tree, pack(value), 1)


def test_a_message_over_its_limit_is_not_parsed() -> None:
    assert unpack(pack("xx"), 3) == "xx"
    with pytest.raises(CodecError, match="message of 3 bytes is over the limit of 2"):
        unpack(pack("xx"), 2)


def test_unknown_and_missing_fields_are_refused_by_name() -> None:
    class Order(Event):
        id: str

    for fields, field in (({"id": "o", "surplus": 1}, "surplus"), ({}, "id"), ({"id": None}, "id")):
        with pytest.raises(EventInvalid, match=f"Order in the log does not fit its model: {field}: ") as caught:
            decode(Order, pack(fields), 1)
        assert caught.value.problems[0]["field"] == field


def test_a_validator_that_raises_is_an_error_in_one_sentence() -> None:
    def breaks(_: str) -> str:
        raise KeyError("lost")

    class Fragile(Event):
        id: str

    class Broken(Event, type="Fragile"):
        id: str
        checked: str = Field(default="x", validate_default=True)

        _check = field_validator("checked")(breaks)

    with pytest.raises(CodecError, match="Fragile cannot be read: its validator raised KeyError"):
        decode(Broken, encode(Fragile(id="o")), 1)


class OrderV1(Event, type="Order"):
    total: float


class OrderV3(Event, type="Order", version=3):
    cents: int
    currency: str


@OrderV3.upcaster(from_version=1)
def in_cents(fields: dict[str, Any]) -> dict[str, Any]:
    return {"cents": round(fields["total"] * 100)}


@OrderV3.upcaster(from_version=2)
def with_currency(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "currency": "EUR"}


def test_upcasters_convert_an_old_event_version_by_version() -> None:
    expected = OrderV3(cents=950, currency="EUR")
    assert decode(OrderV3, encode(OrderV1(total=9.5)), 1) == expected
    assert decode(OrderV3, pack({"cents": 950}), 2) == expected
    assert decode(OrderV3, encode(expected), 3) == expected


@pytest.mark.parametrize(
    ("version", "message"), [(4, "version 4 is newer than this code's version 3"), (0, "from_version=0")]
)
def test_a_version_without_an_upcaster_is_refused(version: int, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(OrderV3, pack({"cents": 1, "currency": "EUR"}), version)


def _reads_what_is_gone(fields: dict[str, Any]) -> Any:
    return fields["gone"]


def _returns_a_list(fields: dict[str, Any]) -> Any:
    return [fields]


@pytest.mark.parametrize(("upcaster", "error"), [(_reads_what_is_gone, CodecError), (_returns_a_list, EventInvalid)])
def test_an_upcaster_that_raises_is_an_error_in_one_sentence(upcaster: Upcaster, error: type[Exception]) -> None:
    class Moved(Event, version=2):
        id: str

    Moved.upcaster(from_version=1)(upcaster)
    with pytest.raises(error, match="Moved"):
        decode(Moved, pack({"id": "o"}), 1)
