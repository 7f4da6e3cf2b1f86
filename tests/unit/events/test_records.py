"""The records of the log: their types, the constructors of new ones, and what is read of older and newer versions."""

from collections.abc import Callable
from inspect import signature
from typing import Any, get_args

import pytest

from ensue.events.errors import CodecError
from ensue.events.model.codec import pack
from ensue.events.state import new_records
from ensue.events.state.apply import APPLY
from ensue.events.state.records import (
    EventRecord,
    FailedRecord,
    NewRecord,
    Record,
    RecordKind,
    RedrivenRecord,
    RevivedRecord,
    UnknownRecord,
    pack_records,
    unpack_records,
)

CONSTRUCTORS: dict[str, Callable[..., NewRecord]] = {
    name.removesuffix("_record"): getattr(new_records, name) for name in new_records.__all__
}
TYPES: dict[str, Any] = {
    type_.__name__.removesuffix("Record").lower(): type_ for type_ in get_args(Record) if type_ is not UnknownRecord
}


def test_each_kind_has_a_type_a_constructor_and_a_transition() -> None:
    kinds = {kind.name.lower() for kind in RecordKind}
    assert kinds == TYPES.keys() == CONSTRUCTORS.keys()
    assert len(APPLY) == len(RecordKind)
    assert sorted(RecordKind) == list(range(len(RecordKind)))


@pytest.mark.parametrize("name", sorted(CONSTRUCTORS))
def test_a_constructor_puts_the_fields_where_the_type_reads_them(name: str) -> None:
    parameters = [parameter.rstrip("_") for parameter in signature(CONSTRUCTORS[name]).parameters]
    assert ["kind", *parameters] == list(TYPES[name]._fields)
    written = CONSTRUCTORS[name](*parameters)
    assert written == (RecordKind[name.upper()], *parameters)
    [read] = unpack_records(pack_records([written]))
    assert type(read) is TYPES[name]
    assert read == written


def test_a_field_that_was_added_later_has_its_default_in_older_records() -> None:
    older = [
        (RecordKind.EVENT, b"id", "Order", 1, b"data", None, b"", 0, 0, 5),
        (RecordKind.FAILED, 1, 1, "transient", "E", "m", "t", 5, None),
        (RecordKind.REVIVED, 5),
        (RecordKind.REDRIVEN, 1, 5, "ann", None, None, None, None, None),
    ]
    event, failed, revived, redriven = unpack_records(pack_records(older))
    assert isinstance(event, EventRecord)
    assert event.many is False
    assert isinstance(failed, FailedRecord)
    assert (failed.step, failed.handled) == ("", False)
    assert isinstance(revived, RevivedRecord)
    assert revived.discarded == []
    assert isinstance(redriven, RedrivenRecord)
    assert (redriven.replaced, redriven.discarded) == (None, [])


def test_fields_and_kinds_of_a_newer_version_are_skipped() -> None:
    newer = [(RecordKind.REVIVED, 5, [2], "more"), (99, "new", 1)]
    assert unpack_records(pack_records(newer)) == [(RecordKind.REVIVED, 5, [2]), UnknownRecord(99, ("new", 1))]


@pytest.mark.parametrize("body", [b"\xc1", pack(7), pack([7]), pack([[]]), pack([[1, 2]]), pack({1: 2})])
def test_bytes_that_are_not_records_are_a_codec_error(body: bytes) -> None:
    with pytest.raises(CodecError):
        unpack_records(body)
