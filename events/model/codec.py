"""The codec: msgpack for everything that crosses a process border or is stored in the log.

Rules: a fresh decoder for each message, no extension types, every size and depth bounded; an event is packed as the
map of its fields, by their names in Python, and validated by its own model when it is read. Anything else is a
`CodecError` in one sentence.

Types that msgpack does not have are stored as text (dates, UUIDs, Decimals) or as a list (sets, in a fixed order), and
the field's type restores them. So a field that is `datetime | str` is read back as text: avoid such unions.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import msgpack
from pydantic import Secret, SecretBytes, SecretStr, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from ..errors import CodecError, EventInvalid
from .event import Event, describe_problems

__all__ = ["MAX_DEPTH", "MAX_EVENT_BYTES", "MAX_MESSAGE_BYTES", "decode", "encode", "is_deeper", "pack", "unpack"]

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The largest event, packed. Store larger content elsewhere, and put its address into the event."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""The largest message between processes and the largest entry of the log."""
MAX_DEPTH = 64
"""How deep lists and maps may be nested."""

E = TypeVar("E", bound=Event)
Container = dict[Any, Any] | list[Any] | tuple[Any, ...] | set[Any] | frozenset[Any] | deque[Any]
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_pack = cast("Callable[..., bytes]", msgpack.packb)
_unpack = cast("Callable[..., Any]", msgpack.unpackb)


def pack(value: Any) -> bytes:
    """Plain data as msgpack."""
    return _pack(value)


def unpack(data: bytes, limit_bytes: int = MAX_MESSAGE_BYTES) -> Any:
    """The plain data of a msgpack message.

    Raises: `CodecError` if it is not msgpack, or over the limits.
    """
    if len(data) > limit_bytes:
        raise CodecError(f"message of {len(data):,} bytes is over the limit of {limit_bytes:,}")
    try:
        return _unpack(data, strict_map_key=False, ext_hook=_refuse_extension)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, MemoryError) as error:
        raise CodecError(f"not a msgpack message: {type(error).__name__} {error}"[:200]) from None


def encode(event: Event) -> bytes:
    """An event as msgpack.

    Raises: `CodecError` if it is too large, nested too deep, or has a value that cannot be stored.
    """
    try:
        data = _pack(event.__dict__ if event.__event_flat__ else _dump(event), default=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError, PydanticSerializationError) as error:
        raise CodecError(f"{event.__event_type__} cannot be stored: {error}"[:300]) from None
    if len(data) > MAX_EVENT_BYTES:
        msg = f"{event.__event_type__} has {len(data):,} bytes, over the limit of {MAX_EVENT_BYTES:,}"
        raise CodecError(f"{msg}: store the content elsewhere and put its address into the event")
    return data


def decode(model: type[E], data: bytes, version: int) -> E:
    """The event in `data`, upcast from `version` to the version of the model, and validated.

    Raises: `CodecError` if the bytes are not a map, are nested too deep, or have a version without an upcaster;
        `EventInvalid` if the model refuses them.
    """
    content = unpack(data, MAX_EVENT_BYTES)
    if not isinstance(content, dict):
        raise CodecError(f"{model.__event_type__}: expected a map of fields, got {type(content).__name__}")
    fields = cast("dict[str, Any]", content)
    if not model.__event_flat__:
        _check_depth(fields, model.__event_type__)
    if version != model.__event_version__:
        fields = _upcast(model, fields, version)
    try:
        return cast("E", model.__pydantic_validator__.validate_python(fields, by_alias=False, by_name=True))
    except ValidationError as error:
        problems = describe_problems(error)
        first = f"{problems[0]['field']}: {problems[0]['expected']}, got {problems[0]['got']}"
        raise EventInvalid(f"{model.__event_type__} in the log does not fit its model: {first}", problems) from None
    except Exception as error:  # noqa: BLE001 - a validator is user code; one bad event must not stop the loop
        msg = f"{model.__event_type__} cannot be read: its validator raised {type(error).__name__}: {error}"
        raise CodecError(msg[:300]) from None


def _plain(value: Any) -> Any:
    """The plain form of a value of a type that msgpack does not have."""
    if isinstance(value, Secret | SecretStr | SecretBytes):
        raise TypeError("a secret does not belong in a log; put its name into the event")
    if isinstance(value, set | frozenset):
        return _listed(cast("Iterable[Any]", value))
    if isinstance(value, deque):
        return list(cast("Iterable[Any]", value))
    return to_jsonable_python(value)


def _listed(items: Iterable[Any]) -> list[Any]:
    """The items of a set in the order of their bytes; inner sets come first, so that none is packed repeatedly."""
    return sorted((_without_sets(item) for item in items), key=_in_order)


def _without_sets(item: Any) -> Any:
    if isinstance(item, frozenset):
        return _listed(cast("Iterable[Any]", item))
    if isinstance(item, tuple):
        return [_without_sets(part) for part in cast("Iterable[Any]", item)]
    return item


def _in_order(value: Any) -> bytes:
    return _pack(value, default=_plain)


def _refuse_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"extension type {code}")


def _dump(event: Event) -> dict[str, Any]:
    fields = event.model_dump(by_alias=False, exclude_computed_fields=True)
    _check_depth(fields, event.__event_type__)
    return fields


def is_deeper(fields: dict[str, Any], levels: int, name: str = "an event") -> bool:
    """Whether lists and maps are nested deeper than `levels`; the map of the fields counts as one."""
    level: list[Container] = [fields]
    for _ in range(levels):
        level = [inner for outer in level for inner in _children(outer, name)]
        if not level:
            return False
    return True


def _check_depth(fields: dict[str, Any], name: str) -> None:
    if is_deeper(fields, MAX_DEPTH, name):
        raise CodecError(f"{name} is nested deeper than {MAX_DEPTH} levels")


def _children(value: Container, name: str) -> list[Container]:
    items: Iterable[Any] = value
    if isinstance(value, dict):
        items = value.values()
        if any(key.__class__ not in _SCALARS and _is_container(key) for key in value):
            raise CodecError(
                f"{name}: a key of a dict is a list or tuple, which cannot be read back: use text as the key"
            )
    return [item for item in items if isinstance(item, _CONTAINERS)]


def _is_container(key: object) -> bool:
    """Whether a key of a dict is stored as a list or a map, as an enum is whose value is a tuple."""
    try:
        return isinstance(key if isinstance(key, _CONTAINERS) else _plain(key), _CONTAINERS)
    except PydanticSerializationError:
        return False  # packing it says more


def _upcast(model: type[Event], fields: dict[str, Any], version: int) -> dict[str, Any]:
    for step in range(version, model.__event_version__):
        upcaster = model.__event_upcasters__.get(step)
        if upcaster is None:
            stored = f"{model.__event_type__} version {version} is in the log"
            msg = f"{stored}, and no upcaster leads from {step} to {step + 1}"
            raise CodecError(f"{msg}: add @{model.__name__}.upcaster(from_version={step})")
        try:
            fields = upcaster(fields)
        except Exception as error:  # noqa: BLE001 - user code, as above
            msg = f"{model.__event_type__}: the upcaster from version {step} raised {type(error).__name__}: {error}"
            raise CodecError(msg[:300]) from None
    if version > model.__event_version__:
        msg = f"{model.__event_type__} version {version} is newer than this code's version {model.__event_version__}"
        raise CodecError(msg)
    return fields
