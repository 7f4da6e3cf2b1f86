"""Event: a named, versioned, typed fact, as a frozen pydantic model.

Rules: an event never changes; its wire name and version belong to the class; unknown fields are refused; a type
grows by adding fields with defaults, and a break is a new version with an upcaster from the old one.
"""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import EventInvalid, PipelineInvalid

__all__ = ["Event", "Upcaster", "describe_problems", "key_of", "parse_event"]

type_ = type
E = TypeVar("E", bound="Event")
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})


class Event(BaseModel):
    """The base of every event.

    `class Charged(Event, type="orders.charged", version=2, key="order_id")`: `type` is the wire name (the class name
    by default), `version` a positive integer, `key` the field whose value orders the handling: events of one type
    with the same key are handled one at a time by a step, in the order of the log.
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
        cls.__event_type__ = type or cls.__name__
        cls.__event_version__ = version
        cls.__event_key__ = key
        cls.__event_upcasters__ = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        _check_declaration(cls)
        cls.__event_flat__ = _is_flat(cls)

    @classmethod
    def upcaster(cls, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Register a function that turns the data of `from_version` into that of the next version."""
        if not 1 <= from_version < cls.__event_version__:
            msg = f"{cls.__event_type__} is at version {cls.__event_version__}: upcast from 1 to {cls.__event_version__ - 1}"
            raise PipelineInvalid(msg)

        def register(function: Upcaster) -> Upcaster:
            cls.__event_upcasters__[from_version] = function
            return function

        return register


def parse_event(model: type[E], data: Any, *, json: bool = False) -> E:
    """Validate data from outside; `EventInvalid` names each field at fault and what was expected.

    `data` is a mapping, or with `json=True` the JSON text or bytes of one.
    """
    try:
        return model.model_validate_json(data) if json else model.model_validate(data)
    except ValidationError as error:
        problems = describe_problems(error)
        summary = "; ".join(f"{p['field']}: {p['expected']}, got {p['got']}" for p in problems[:5])
        raise EventInvalid(f"{model.__event_type__} is not valid: {summary}", problems) from None


def key_of(event: Event) -> str | None:
    """The value of the event's key field as text, or None where its type has no key."""
    field = event.__event_key__
    return None if field is None else str(getattr(event, field))


def describe_problems(error: ValidationError) -> list[dict[str, str]]:
    """The faults of a validation, one mapping each: field (dotted path), expected, got."""
    return [
        {
            "field": ".".join(str(part) for part in fault["loc"]) or "(whole)",
            "expected": fault["msg"],
            "got": _shorten(fault.get("input")),
        }
        for fault in error.errors(include_url=False)
    ]


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004 - one line of a terminal


def _check_declaration(cls: type_[Event]) -> None:
    if cls.__event_version__ < 1:
        raise PipelineInvalid(f"{cls.__event_type__}: version is a positive integer, not {cls.__event_version__}")
    if cls.__event_key__ is not None and cls.__event_key__ not in cls.model_fields:
        raise PipelineInvalid(f"{cls.__event_type__}: key={cls.__event_key__!r} is none of its fields")


def _is_flat(cls: type_[Event]) -> bool:
    """Whether every field is a plain scalar that packs as it stands, so that no dump is needed."""
    decorators = cls.__pydantic_decorators__
    if decorators.field_serializers or decorators.model_serializers or decorators.computed_fields:
        return False
    return all(
        set(getattr(field.annotation, "__args__", (field.annotation,))) <= _PLAIN and not field.exclude
        for field in cls.model_fields.values()
    )
