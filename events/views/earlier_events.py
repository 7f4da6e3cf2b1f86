"""Earlier: the events of one type in a run so far, as its steps are told of them.

Rules: they stand in the order in which they came. An event that an operator put in the place of another stands in its
place, not beside it; where several steps took the other, each step's own stands there.
"""

from collections.abc import Iterable
from typing import Any

from ..state.records import Record, RecordKind, added

__all__ = ["Packed", "earlier"]

Packed = list[Any]
"""An event as it is told: [version, data]."""
_CAME = 0
"""The delivery of what nobody edited."""


def earlier(records: Iterable[Record], type_: str) -> list[Packed]:
    """The events of a type among the records of a run, oldest first."""
    places: dict[bytes, dict[int, Packed]] = {}
    first: dict[bytes, bytes] = {}
    for record in records:
        if record[0] == RecordKind.EVENT and record[2] == type_:
            places[record[1]] = {_CAME: [record[3], record[4]]}
        elif record[0] == RecordKind.REDRIVEN and record[5] == type_:
            original = _original(record, first)
            place = places.setdefault(original, {})
            place.pop(_CAME, None)
            place[record[1]] = [record[6], record[7]]
    return [packed for place in places.values() for packed in place.values()]


def _original(record: Record, first: dict[bytes, bytes]) -> bytes:
    """The id of the event in whose place this one stands, however often it was edited; its own where none is named."""
    replaced: bytes = added(record, 9, record[4])
    first[record[4]] = original = first.get(replaced, replaced)
    return original
