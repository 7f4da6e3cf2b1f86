"""Bytes and back: msgpack for everything that crosses a process border or rests in the log.

Rules: a fresh decoder for each message, no extension types, every size and depth bounded; an event is packed as the
map of its fields and checked by its own model on the way back. What does not fit is a `CodecError` in one sentence.
"""

from typing import Any, TypeVar

import msgpack
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from .errors import CodecError, EventInvalid
from .event import Event, describe_problems

__all__ = ["MAX_DEPTH", "MAX_EVENT_BYTES", "MAX_MESSAGE_BYTES", "decode", "encode", "pack", "unpack"]

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The largest event, packed. A larger thing belongs in a store of its own, with its address in the event."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message between processes and the largest entry of the log."""
MAX_DEPTH = 64
"""How deep lists and maps may be nested."""

E = TypeVar("E", bound=Event)
_pack = msgpack.packb
_unpack = msgpack.unpackb


def pack(value: Any) -> bytes:
    """Plain data as msgpack."""
    return _pack(value)  # type: ignore[no-any-return]


def unpack(data: bytes, limit_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """The plain data of a msgpack message; `CodecError` where it is none or over the limits."""
    if len(data) > limit_bytes:
        raise CodecError(f"message of {len(data):,} bytes is over the limit of {limit_bytes:,}")
    try:
        return _unpack(data, strict_map_key=False)
    except (ValueError, msgpack.UnpackException, UnicodeDecodeError, RecursionError) as error:
        raise CodecError(f"not a msgpack message: {type(error).__name__} {error}"[:200]) from None


def encode(event: Event) -> bytes:
    """An event as msgpack; `CodecError` where it is too large, too deep or holds what has no plain form."""
    try:
        data: bytes = (
            _pack(event.__dict__) if event.__event_flat__ else _pack(_dump(event), default=to_jsonable_python)
        )
    except (TypeError, ValueError, OverflowError, RecursionError, PydanticSerializationError) as error:
        raise CodecError(f"{event.__event_type__} cannot be stored: {error}"[:300]) from None
    if len(data) > MAX_EVENT_BYTES:
        msg = f"{event.__event_type__} has {len(data):,} bytes, over the limit of {MAX_EVENT_BYTES:,}"
        raise CodecError(f"{msg}: store the content elsewhere and put its address into the event")
    return data


def decode(model: type[E], data: bytes, version: int) -> E:
    """The event in `data`, lifted from `version` to the model's own by its upcasters, and validated.

    `CodecError` where the bytes are no map or too deep or the version is unknown, `EventInvalid` where the model
    refuses them.
    """
    fields = unpack(data, MAX_EVENT_BYTES)
    if not isinstance(fields, dict):
        raise CodecError(f"{model.__event_type__}: expected a map of fields, got {type(fields).__name__}")
    if not model.__event_flat__:
        _check_depth(fields, model.__event_type__)
    if version != model.__event_version__:
        fields = _upcast(model, fields, version)
    try:
        return model.__pydantic_validator__.validate_python(fields)  # type: ignore[return-value]
    except ValidationError as error:
        problems = describe_problems(error)
        raise EventInvalid(f"{model.__event_type__} in the log does not fit its model: {problems[0]}", problems) from None


def _dump(event: Event) -> dict[str, Any]:
    fields = event.model_dump()
    _check_depth(fields, event.__event_type__)
    return fields


def _check_depth(fields: dict[str, Any], name: str) -> None:
    level: list[Any] = [fields]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
    raise CodecError(f"{name} is nested deeper than {MAX_DEPTH} levels")


def _children(value: Any) -> list[Any]:
    items = value.values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, dict | list | tuple)]


def _upcast(model: type[Event], fields: dict[str, Any], version: int) -> dict[str, Any]:
    for step in range(version, model.__event_version__):
        upcaster = model.__event_upcasters__.get(step)
        if upcaster is None:
            msg = f"{model.__event_type__} version {version} is in the log, and no upcaster leads from {step} to {step + 1}"
            raise CodecError(f"{msg}: add @{model.__name__}.upcaster(from_version={step})")
        fields = upcaster(fields)
    if version > model.__event_version__:
        msg = f"{model.__event_type__} version {version} is newer than this code's version {model.__event_version__}"
        raise CodecError(msg)
    return fields
