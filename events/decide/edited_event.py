"""Edited event: the event that replaces that of a dead letter, from an operator's data.

Rules: it fits the model of the event that it replaces, and has an id of its own. It keeps the key of that event. If
that key was the value of the event's key field, the new event's key field gives the new key.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import CodecError, EventInvalid
from ..model.codec import decode, encode
from ..model.event import Event, key_of, parse_event
from ..state.records import EventRecord, Record, RedrivenRecord

__all__ = ["OriginalEvent", "ReplacementEvent", "instead", "keyed", "replaced"]


class OriginalEvent(NamedTuple):
    """The event that a delivery has, as the log has it."""

    version: int
    data: bytes
    key: str | None


class ReplacementEvent(NamedTuple):
    """The event that replaces it. fields: as in `Redrive.edited`, with the key of its own key field."""

    model: type[Event]
    fields: list[Any]


def instead(model: type[Event], data: Mapping[str, Any], event_id: bytes) -> ReplacementEvent:
    """The event of an operator's data.

    Raises:
        EventInvalid: the data does not fit the model.
        CodecError: the event cannot be stored.
    """
    event = parse_event(model, dict(data), json=True)
    return ReplacementEvent(
        model, [event_id, model.__event_type__, model.__event_version__, encode(event), key_of(event)]
    )


def replaced(records: Iterable[Record], delivery: int, event_id: bytes) -> OriginalEvent | None:
    """The event of a delivery: the last replacement that it got, else the event of this id."""
    found: OriginalEvent | None = None
    for record in records:
        if isinstance(record, EventRecord) and record.event_id == event_id:
            found = OriginalEvent(record.version, record.data, record.key)
        elif isinstance(record, RedrivenRecord) and record.delivery == delivery and record.event_id is not None:
            found = OriginalEvent(record.version or 0, record.data or b"", record.key)
    return found


def keyed(edit: ReplacementEvent, old: OriginalEvent | None) -> list[Any]:
    """The fields of the new event, with the key that its delivery gets."""
    if old is None or (edit.model.__event_key__ is not None and old.key == _own_key(edit.model, old)):
        return edit.fields
    return [*edit.fields[:-1], old.key]


def _own_key(model: type[Event], old: OriginalEvent) -> str | None:
    """The value of the event's key field; None if the event cannot be decoded."""
    try:
        return key_of(decode(model, old.data, old.version))
    except (CodecError, EventInvalid):
        return None
