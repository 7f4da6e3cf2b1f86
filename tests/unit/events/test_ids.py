"""Ids sort by time, are derived deterministically, and are parsed from their text and from no other text."""

import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.events.errors import EnsueError
from ensue.events.ids import derived_id, format_id, idempotency_key, parse_id, time_ms_of, uuid7

times = st.integers(0, 2**48 - 1)
noise = st.binary(min_size=10, max_size=10)
ids = st.builds(uuid7, times, noise)
names = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())
Emission = tuple[bytes, str, int]
emissions = st.tuples(ids, names, st.integers(0, 10_000))


@settings(max_examples=25)
@given(times, noise)
def test_it_is_a_uuid_of_version_7_that_carries_its_time(time_ms: int, randomness: bytes) -> None:
    read = uuid.UUID(bytes=uuid7(time_ms, randomness))
    assert (read.version, read.variant) == (7, uuid.RFC_4122)
    assert time_ms_of(read.bytes) == time_ms


@settings(max_examples=25)
@given(times, times, noise, noise)
def test_ids_and_their_texts_sort_by_time(one: int, other: int, a: bytes, b: bytes) -> None:
    first, second = uuid7(one, a), uuid7(other, b)
    if one != other:
        assert (first < second) == (one < other)
    assert (format_id(first) < format_id(second)) == (first < second)


@settings(max_examples=25)
@given(ids)
def test_the_text_is_the_usual_one_and_reads_back(identifier: bytes) -> None:
    text = format_id(identifier)
    assert text == str(uuid.UUID(bytes=identifier))
    assert parse_id(text) == parse_id(text.upper()) == identifier


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no id",
        "01890a5dac96774bbcceb302099a8057",
        "0189-0a5dac96-774b-bcce-b302099a8057",
        " 1890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5dac96774bbcceb302099a8057    ",
        "01890a5d-ac96-774b-bcce-b302099a80577",
        "g1890a5d-ac96-774b-bcce-b302099a8057",
        "x" * 100_000,
    ],
)
def test_text_that_is_not_an_id_is_refused(text: str) -> None:
    with pytest.raises(EnsueError, match="is not an id: expected 36 characters") as caught:
        parse_id(text)
    assert len(str(caught.value)) < 200


@settings(max_examples=25)
@given(ids, names, st.integers(0, 10_000))
def test_a_derived_id_is_the_same_again_and_has_the_time_of_its_cause(cause: bytes, step: str, index: int) -> None:
    derived = derived_id(cause, step, index)
    assert derived == derived_id(cause, step, index)
    assert uuid.UUID(bytes=derived).version == 7
    assert time_ms_of(derived) == time_ms_of(cause)


@settings(max_examples=25)
@given(emissions, emissions)
def test_another_cause_step_or_index_gives_another_id(one: Emission, other: Emission) -> None:
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


def test_a_step_whose_name_ends_in_a_digit_does_not_borrow_from_the_index() -> None:
    cause = uuid7(1, bytes(10))
    assert derived_id(cause, "step1", 1) != derived_id(cause, "step", 11)


@settings(max_examples=25)
@given(ids, names, st.binary(min_size=16, max_size=48))
def test_an_idempotency_key_is_32_digits_and_depends_on_run_step_and_inputs(
    run: bytes, step: str, inputs: bytes
) -> None:
    key = idempotency_key(run, step, inputs)
    assert key == idempotency_key(run, step, inputs)
    assert len(key) == 32
    assert int(key, 16) >= 0
    others = {idempotency_key(bytes(16), step, inputs), idempotency_key(run, f"{step}x", inputs)}
    assert key not in others | {idempotency_key(run, step, inputs + b"x")}
