"""CloudEvents 1.0 over HTTP (binary, structured and batched), and ensue's own JSON form.

Rules: `id`, `source` and `type` are required and not empty. Data is JSON, also in binary mode without a content type;
an event without data, or whose data is null, has no fields. Unknown attributes are allowed, as the specification
demands. The extension attribute `partitionkey` is the key; the extension attribute `pipeline` names the pipeline if
several hear the type.
"""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import unquote

from ...events.errors import EventInvalid
from ..http.asgi import Headers
from ..http.body import parse_json
from .admission import check_id

__all__ = ["BATCH", "STRUCTURED", "IncomingEvent", "is_binary", "read_binary", "read_plain", "read_structured"]

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
_PREFIX = "ce-"
_PLAIN_FIELDS = frozenset({"type", "data", "id", "source", "key", "pipeline"})


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """An event as it was sent; its data is not validated against a model yet."""

    type: str
    data: Any
    id: str | None = None
    source: str = ""
    key: str | None = None
    pipeline: str | None = None


def is_binary(headers: Headers) -> bool:
    """Whether a request is a CloudEvent in binary mode."""
    return "ce-specversion" in headers or "ce-type" in headers


def read_binary(headers: Headers, data: Any) -> IncomingEvent:
    """A CloudEvent in binary mode: the attributes are headers, the data is the body. Raises `EventInvalid`."""
    attributes: dict[str, Any] = {}
    for name, values in headers.items():
        if name.startswith(_PREFIX):
            attributes[name.removeprefix(_PREFIX)] = _decode(name, values)
    if "datacontenttype" in attributes:
        raise _invalid("ce-datacontenttype", "no such header (use content-type)", str(attributes["datacontenttype"]))
    return _cloud_event(attributes, data)


def read_structured(value: Any) -> IncomingEvent:
    """A CloudEvent in structured mode, a JSON object. Raises `EventInvalid`."""
    attributes = _object(value)
    content_type = _text(attributes, "datacontenttype") or "application/json"
    if not content_type.partition(";")[0].strip().lower().endswith("json"):
        raise _invalid("datacontenttype", "JSON", content_type)
    if "data_base64" in attributes:
        return _cloud_event(attributes, _decoded_data(attributes))
    return _cloud_event(attributes, attributes.get("data"))


def read_plain(value: Any) -> IncomingEvent:
    """An event in ensue's own form: type, data and optional fields. Raises `EventInvalid`."""
    fields = _object(value)
    for name in fields:
        if name not in _PLAIN_FIELDS:
            raise _invalid(name, f"one of {', '.join(sorted(_PLAIN_FIELDS))}", repr(name[:60]))
    return IncomingEvent(
        _required(fields, "type"),
        fields.get("data", {}),
        _text(fields, "id"),
        _text(fields, "source") or "",
        _text(fields, "key"),
        _text(fields, "pipeline"),
    )


def _cloud_event(attributes: Mapping[str, Any], data: Any) -> IncomingEvent:
    version = attributes.get("specversion")
    if version != "1.0":
        raise _invalid("specversion", "'1.0'", repr(version))
    return IncomingEvent(
        _required(attributes, "type"),
        {} if data is None else data,
        _required(attributes, "id"),
        _required(attributes, "source"),
        _text(attributes, "partitionkey"),
        _text(attributes, "pipeline"),
    )


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _invalid("(whole)", "a JSON object", type(value).__name__)
    return cast("Mapping[str, Any]", value)  # names in JSON are always text


def _required(fields: Mapping[str, Any], name: str) -> str:
    value = _text(fields, name)
    if value is None:
        raise _invalid(name, "text", "nothing")
    return value


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _invalid(name, "text", repr(value)[:60])
    return check_id(value, name)


def _decode(name: str, values: list[str]) -> str:
    """The value of a header: percent-encoded UTF-8, in quotes or not."""
    if len(values) != 1 or not values[0].isascii():
        raise _invalid(
            name,
            "one value, with non-ASCII characters percent-encoded",
            "several values" if len(values) != 1 else "non-ASCII characters",
        )
    value = values[0].strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise _invalid(name, "percent-encoded UTF-8", value[:60]) from None


def _decoded_data(attributes: Mapping[str, Any]) -> Any:
    encoded = attributes["data_base64"]
    if "data" in attributes:
        raise _invalid("data_base64", "either data or data_base64", "both")
    try:
        data = b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except ValueError:
        data = None
    if data is None:
        raise _invalid("data_base64", "base64", repr(encoded)[:60])
    return parse_json(data)


def _invalid(field: str, expected: str, got: str) -> EventInvalid:
    fault = {"field": field, "expected": expected, "got": got}
    return EventInvalid(f"{field}: expected {expected}, got {got}.", [fault])
