"""The events of a type in a run so far: an edited one stands in the place of the one that it replaced."""

from typing import Any

from ensue.events.state.records import EventRecord, Record, RecordKind, RedrivenRecord
from ensue.events.views.earlier_events import earlier

A, B, C, D = (bytes([n]) * 16 for n in range(1, 5))


def _event(event_id: bytes, name: str = "Order") -> Record:
    return EventRecord(RecordKind.EVENT, event_id, name, 1, b"came " + event_id[:1], None, b"", 0, 0, 100, False)


def _edit(delivery: int, event_id: bytes | None, *replaces: bytes | None) -> Record:
    fields: list[Any] = [None] * 5 if event_id is None else [event_id, "Order", 2, b"edited " + event_id[:1], None]
    return RedrivenRecord(RecordKind.REDRIVEN, delivery, 200, "ann", *fields, *replaces)


def test_events_are_told_in_the_order_in_which_they_came() -> None:
    assert earlier([_event(A), _event(B, "Other"), _event(C)], "Order") == [[1, b"came \x01"], [1, b"came \x03"]]


def test_an_edited_event_stands_in_the_place_of_the_one_it_replaced() -> None:
    assert earlier([_event(A), _event(B), _edit(1, C, A)], "Order") == [[2, b"edited \x03"], [1, b"came \x02"]]


def test_an_event_that_was_edited_twice_stands_there_once() -> None:
    assert earlier([_event(A), _event(B), _edit(1, C, A), _edit(1, D, C)], "Order") == [
        [2, b"edited \x04"],
        [1, b"came \x02"],
    ]


def test_an_event_that_two_steps_took_and_had_edited_stands_there_for_each() -> None:
    assert earlier([_event(A), _edit(1, C, A), _edit(2, D, A)], "Order") == [[2, b"edited \x03"], [2, b"edited \x04"]]


def test_a_redrive_without_another_event_changes_nothing() -> None:
    assert earlier([_event(A), _edit(1, None, None)], "Order") == [[1, b"came \x01"]]


def test_an_edit_that_does_not_say_what_it_replaced_is_added() -> None:
    assert earlier([_event(A), _edit(1, C)], "Order") == [[1, b"came \x01"], [2, b"edited \x03"]]
