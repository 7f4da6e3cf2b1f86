"""Editing: the event that an operator puts in the place of a dead letter's own.

Rules: it fits the model of the event that it replaces, and has an id of its own. It keeps the key that its event came
with, whoever gave it; only where that was what the event's own key field said, the field of the new one says it now.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import CodecError, EventInvalid
from ..model.codec import decode, encode
from ..model.event import Event, key_of, parse_event
from ..state.records import Record, RecordKind

__all__ = ["OriginalEvent", "ReplacementEvent", "instead", "keyed", "replaced"]


class OriginalEvent(NamedTuple):
    """The event that a delivery has, as the log has it."""

    version: int
    data: bytes
    key: str | None


class ReplacementEvent(NamedTuple):
    """The event that takes its place; `fields` are what a `Redrive` says of it, with the key that it names itself."""

    model: type[Event]
    fields: list[Any]


def instead(model: type[Event], data: Mapping[str, Any], event_id: bytes) -> ReplacementEvent:
    """The event of an operator's data. `EventInvalid` where it does not fit, `CodecError` where it cannot be stored."""
    event = parse_event(model, dict(data), json=True)
    return ReplacementEvent(
        model, [event_id, model.__event_type__, model.__event_version__, encode(event), key_of(event)]
    )


def replaced(records: Iterable[Record], delivery: int, event_id: bytes) -> OriginalEvent | None:
    """The event of a delivery: the last that was put into it, else the one of this id."""
    found: OriginalEvent | None = None
    for record in records:
        if record[0] == RecordKind.EVENT and record[1] == event_id:
            found = OriginalEvent(record[3], record[4], record[5])
        elif record[0] == RecordKind.REDRIVEN and record[1] == delivery and record[4] is not None:
            found = OriginalEvent(record[6], record[7], record[8])
    return found


def keyed(edit: ReplacementEvent, old: OriginalEvent | None) -> list[Any]:
    """The fields of the new event with the key that it is handled by."""
    if old is None or (edit.model.__event_key__ is not None and old.key == _own_key(edit.model, old)):
        return edit.fields
    return [*edit.fields[:-1], old.key]


def _own_key(model: type[Event], old: OriginalEvent) -> str | None:
    """What the event's key field says; None where it cannot be read."""
    try:
        return key_of(decode(model, old.data, old.version))
    except (CodecError, EventInvalid):
        return None
