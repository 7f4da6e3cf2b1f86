"""Event: a named, versioned, typed fact, as a frozen pydantic model.

Rules: an event never changes; its wire name and version belong to the class; unknown fields are refused. A compatible
change adds fields with defaults; an incompatible one is a new version with an upcaster from the old one.

JSON comes from outside and is read strictly: "1" is not a number, 1 is not a boolean, and NaN is not JSON. Types that
JSON does not have are read from their usual form: dates, UUIDs, Decimals and bytes from text, sets from lists, floats
from integers. Python data comes from the user's own code and is read as pydantic reads it. A class with
`model_config = ConfigDict(strict=False)` reads JSON leniently too, and one with `strict=True` reads both strictly.
"""

import reprlib
import types
from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import from_json, to_json

from ..errors import EventInvalid, PipelineInvalid
from .arguments import check_key

__all__ = ["Event", "Upcaster", "describe_problems", "key_of", "parse_event"]

E = TypeVar("E", bound="Event")
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_MOST_PROBLEMS = 50
_NAME_LENGTH = 200
_show = reprlib.Repr()
_show.maxstring = _show.maxother = 60


class Event(BaseModel):
    """The base of every event.

    `class Charged(Event, type="orders.charged", version=2, key="order_id")`

    type: the wire name; by default the class name.
    version: a positive integer.
    key: the field whose value orders the work: a step works on events of one type with the same key one at a time, in
        the order of the log.

    Raises: `PipelineInvalid` if the name, the version or the key is invalid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    __event_type__: ClassVar[str] = "Event"
    __event_version__: ClassVar[int] = 1
    __event_key__: ClassVar[str | None] = None
    __event_upcasters__: ClassVar[dict[int, Upcaster]] = {}
    __event_flat__: ClassVar[bool] = False

    def __init_subclass__(
        cls, *, type: str | None = None, version: int = 1, key: str | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        cls.__event_type__ = cls.__name__ if type is None else type
        cls.__event_version__ = version
        if key is not None:  # a key is inherited; a name and a version are not
            cls.__event_key__ = key
        cls.__event_upcasters__ = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        _check_declaration(cls)
        cls.__event_flat__ = _is_flat(cls)

    @classmethod
    def upcaster(cls, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Register a function that turns the data of `from_version` into that of the next version.

        Raises: `PipelineInvalid` if there is no such version to upcast from.
        """
        if not 1 <= from_version < cls.__event_version__:
            newest = cls.__event_version__
            raise PipelineInvalid(f"{cls.__event_type__} is at version {newest}: upcast from 1 to {newest - 1}")

        def register(function: Upcaster) -> Upcaster:
            cls.__event_upcasters__[from_version] = function
            return function

        return register


def parse_event(model: type[E], data: Any, *, json: bool = False) -> E:
    """Validate data from outside.

    Fields are read by their names as well as by their aliases, since errors show their names.

    json: the data came as JSON and is read strictly; `data` is its text or bytes, or the result of a parser.

    Raises: `EventInvalid`, which names each invalid field and what was expected.
    """
    try:
        return _parse_json(model, data) if json else model.model_validate(data, by_name=True)
    except ValidationError as error:
        problems = describe_problems(error)
        summary = "; ".join(f"{p['field']}: {p['expected']}, got {p['got']}" for p in problems[:5])
        raise EventInvalid(f"{model.__event_type__} is not valid: {summary}", problems) from None


def key_of(event: Event) -> str | None:
    """The value of the event's key field as text; None if its type has no key, or if the field is None.

    Raises: `EventInvalid` if the value has no text that can be stored.
    """
    field = event.__event_key__
    if field is None:
        return None
    value = getattr(event, field)
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return None
    try:
        key = str(value)
    except Exception as error:  # noqa: BLE001 - the author's code
        raise EventInvalid(f"the key {event.__event_type__}.{field} has no text: {type(error).__name__}") from None
    check_key(key)
    return key


def describe_problems(error: ValidationError) -> list[dict[str, str]]:
    """The first 50 errors of a validation, each as a mapping: field (a dotted path), expected, got."""
    return [
        {
            "field": ".".join(str(part) for part in problem["loc"]) or "(whole)",
            "expected": problem["msg"],
            "got": _shorten(problem.get("input")),
        }
        for problem in error.errors(include_url=False, include_context=False)[:_MOST_PROBLEMS]
    ]


def _shorten(value: object) -> str:
    """The value in one line, shortened if it is large or nested deep."""
    try:
        text = _show.repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line of a terminal


def _parse_json(model: type[E], data: Any) -> E:
    strict = model.model_config.get("strict", True)
    text = data if isinstance(data, str | bytes | bytearray) else _json_text(model, data)
    _refuse_constants(model, text)
    return model.model_validate_json(text, strict=strict, by_name=True)


def _json_text(model: type[Event], data: Any) -> bytes:
    try:
        return to_json(data)
    except ValueError as error:
        raise EventInvalid(f"{model.__event_type__} is not valid: not JSON data: {error}"[:300]) from None


def _refuse_constants(model: type[Event], text: str | bytes | bytearray) -> None:
    """Refuse NaN and Infinity, which Python's parser accepts and JSON does not have; other texts cost nothing more."""
    named = ("NaN" in text or "Infinity" in text) if isinstance(text, str) else (b"NaN" in text or b"Infinity" in text)
    if not named:
        return
    try:
        from_json(text, allow_inf_nan=False)
    except ValueError as error:
        problem = {"field": "(whole)", "expected": f"Invalid JSON: {error}", "got": _shorten(text)}
        raise EventInvalid(f"{model.__event_type__} is not valid: not JSON: {error}"[:300], [problem]) from None


def _check_declaration(cls: type[Event]) -> None:
    name = cls.__event_type__
    if not (0 < len(name) <= _NAME_LENGTH) or not name.isprintable() or any(letter.isspace() for letter in name):
        raise PipelineInvalid(f"event type {name[:80]!r}: use 1 to {_NAME_LENGTH} printable characters without spaces")
    version: object = cls.__event_version__
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise PipelineInvalid(f"{name}: version is a positive integer, not {version!r}")
    if cls.__event_key__ is not None and cls.__event_key__ not in cls.model_fields:
        raise PipelineInvalid(f"{name}: key={cls.__event_key__!r} is not one of its fields")
    for field, info in cls.model_fields.items():
        if info.exclude and info.is_required():
            raise PipelineInvalid(f"{name}.{field} is required and exclude=True, so it could never be read back")


def _is_flat(cls: type[Event]) -> bool:
    """Whether msgpack can pack every field as it is, so that no dump is needed."""
    decorators = cls.__pydantic_decorators__
    if decorators.field_serializers or decorators.model_serializers or cls.model_config.get("extra") == "allow":
        return False
    return all(_is_plain_field(field) for field in cls.model_fields.values())


def _is_plain_field(field: FieldInfo) -> bool:
    return not field.exclude and _is_plain(field.annotation)


def _is_plain(annotation: Any) -> bool:
    """Whether the values of a type are scalars that msgpack has, or lists and dicts of them."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(value.__class__ in _PLAIN for value in inner)
    if origin in (Union, types.UnionType, list):
        return all(_is_plain(part) for part in inner)
    if origin is dict:
        return inner[0] in _PLAIN and _is_plain(inner[1])
    return annotation in _PLAIN
