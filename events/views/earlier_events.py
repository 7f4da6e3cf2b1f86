"""Earlier events: the events of one type in a run so far, as `ctx.events` gives them to its steps.

Rules: they stand in the order in which they were emitted. A replacement event stands in the place of the one that it
replaced; if several steps took that one, each step's own replacement stands there.
"""

from collections.abc import Iterable
from typing import Any

from ..state.records import EventRecord, Record, RedrivenRecord

__all__ = ["Packed", "earlier"]

Packed = list[Any]
"""An event as a worker gets it: [version, data]."""
_AS_EMITTED = 0
"""In the place of a delivery: no operator has replaced the event."""


def earlier(records: Iterable[Record], type_: str) -> list[Packed]:
    """The events of a type among the records of a run, oldest first."""
    places: dict[bytes, dict[int, Packed]] = {}
    first: dict[bytes, bytes] = {}
    for record in records:
        if isinstance(record, EventRecord) and record.type == type_:
            places[record.event_id] = {_AS_EMITTED: [record.version, record.data]}
        elif isinstance(record, RedrivenRecord) and record.type == type_ and record.event_id is not None:
            place = places.setdefault(_original(record, record.event_id, first), {})
            place.pop(_AS_EMITTED, None)
            place[record.delivery] = [record.version, record.data]
    return [packed for place in places.values() for packed in place.values()]


def _original(record: RedrivenRecord, event_id: bytes, first: dict[bytes, bytes]) -> bytes:
    """The id of the event whose place a replacement takes, however often it was replaced."""
    replaced = record.replaced or event_id
    first[event_id] = original = first.get(replaced, replaced)
    return original
