"""The signature is the subscription: every valid form, and the error about every invalid one."""

# ruff: noqa: UP006, UP007, UP045 - users write `typing.List` and `typing.Optional` too
# pyright: reportDeprecated=none, reportUnknownArgumentType=none, reportMissingTypeArgument=none
# pyright: reportUnknownParameterType=none, reportMissingParameterType=none

from __future__ import annotations

import typing
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Annotated, Any

import pytest

from ensue.events.errors import PipelineInvalid
from ensue.events.model.context import Context
from ensue.events.model.event import Event
from ensue.events.pipelines.signature import Emission, Parameter, Signature, read_emission, read_signature

if typing.TYPE_CHECKING:
    from fractions import Fraction as Elsewhere


class A(Event): ...


class B(Event): ...


class C(Event): ...


def _read(function: Callable[..., Any]) -> Signature:
    return read_signature(function, "charge", {})


def _emission(hint: Any) -> Emission:
    return read_emission(hint, "step charge")


def test_one_event_in_and_one_out() -> None:
    async def charge(event: A) -> B: ...  # type: ignore[empty-body]

    assert _read(charge) == Signature(
        (Parameter("event", (A,), is_list=False),), None, Emission((B,), (), optional=False)
    )


def test_a_union_accepts_either_event() -> None:
    def charge(event: A | B) -> None: ...

    assert _read(charge).parameters == (Parameter("event", (A, B), is_list=False),)


def test_two_parameters_are_a_join_and_keep_their_order() -> None:
    def charge(second: B, /, first: A, *, third: C) -> None: ...

    assert [(p.name, p.models) for p in _read(charge).parameters] == [
        ("second", (B,)),
        ("first", (A,)),
        ("third", (C,)),
    ]


def test_a_list_receives_all_of_a_fan_out() -> None:
    def charge(events: list[A | B], more: typing.List[C]) -> None: ...

    assert _read(charge).parameters == (
        Parameter("events", (A, B), is_list=True),
        Parameter("more", (C,), is_list=True),
    )


def test_the_context_is_no_subscription() -> None:
    def charge(ctx: Context, event: A) -> None: ...

    assert (_read(charge).context, len(_read(charge).parameters)) == ("ctx", 1)


def test_annotations_may_carry_more_than_the_type() -> None:
    def charge(event: Annotated[A, "as placed"]) -> Annotated[B | None, "or nothing"]: ...

    assert _read(charge).parameters[0].models == (A,)
    assert _read(charge).emission == Emission((B,), (), optional=True)


def test_a_class_receives_what_its_call_receives() -> None:
    class Charge:
        def __call__(self, event: A, ctx: Context) -> B: ...  # type: ignore[empty-body]

    assert _read(Charge.__call__) == Signature(
        (Parameter("event", (A,), is_list=False),), "ctx", Emission((B,), (), False)
    )


def test_events_of_a_function_are_found_where_the_step_was_declared() -> None:
    class Local(Event): ...

    def charge(event: Local) -> None: ...

    assert read_signature(charge, "charge", locals()).parameters[0].models == (Local,)
    with pytest.raises(PipelineInvalid, match=r"step charge: an annotation cannot be resolved .*Local.*; import it"):
        _read(charge)


@pytest.mark.parametrize(
    ("hint", "single", "many", "optional"),
    [
        (None, (), (), True),
        (type(None), (), (), True),
        (A, (A,), (), False),
        (A | B, (A, B), (), False),
        (A | None, (A,), (), True),
        (typing.Optional[A], (A,), (), True),
        (typing.Union[A, B, None], (A, B), (), True),
        (list[A], (), (A,), False),
        (list[A | B], (), (A, B), False),
        (list[A] | B | None, (B,), (A,), True),
        (A | list[A], (A,), (A,), False),
        (Iterator[A], (), (A,), False),
        (Iterable[A], (), (A,), False),
        (Generator[A, None, None], (), (A,), False),
        (AsyncIterator[A | B], (), (A, B), False),
        (AsyncGenerator[A, None], (), (A,), False),
        (typing.Iterator[A], (), (A,), False),
    ],
)
def test_the_return_says_what_may_be_emitted(hint: Any, single: Any, many: Any, optional: bool) -> None:
    emission = _emission(hint)
    assert (emission.single, emission.many, emission.optional) == (single, many, optional)
    assert emission.models == tuple(dict.fromkeys(single + many))


@pytest.mark.parametrize(
    ("hint", "why"),
    [
        (int, "annotated int, which is not an Event"),
        (Event, "annotated Event, which is the base of all events"),
        (list, "annotated list, which does not say what it contains"),
        (typing.List, "which does not say what it contains"),
        (Iterator, "annotated Iterator, which does not say what it contains"),
        (typing.Iterator, "which does not say what it contains"),
        (dict[str, A], "which is not an Event"),
        (A | str, "annotated str, which is not an Event"),
        (list[int], "annotated int, which is not an Event"),
        (tuple[A, B], "which is not an Event"),
        (A(), "which is not an Event"),
    ],
)
def test_any_other_return_is_refused(hint: Any, why: str) -> None:
    with pytest.raises(
        PipelineInvalid, match=f"step charge: the return is {why}|step charge: the return .*{why}"
    ) as caught:
        _emission(hint)
    assert "write e.g." in str(caught.value)


def _no_annotation(event) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001


def _no_return(event: A): ...  # type: ignore[no-untyped-def]  # noqa: ANN202


def _no_event(ctx: Context) -> None: ...


def _two_contexts(event: A, ctx: Context, more: Context) -> None: ...


def _star(*events: A) -> None: ...


def _stars(**ctx: Context) -> None: ...


def _number(event: A, flag: bool = False) -> None: ...


def _any_event(event: Event) -> None: ...


def _optional(event: A | None) -> None: ...


def _bare_list(events: list) -> None: ...  # type: ignore[type-arg]


def _bare_typing_list(events: typing.List) -> None: ...  # type: ignore[type-arg]


def _nowhere(event: Elsewhere) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_no_annotation, "parameter 'event' has no annotation"),
        (_no_return, r"has no return annotation \(-> None for a sink\)"),
        (_no_event, "receives no event: give it a parameter"),
        (_two_contexts, "'ctx' and 'more' are both a Context: keep one"),
        (_star, r"\*events cannot be a subscription"),
        (_stars, r"\*ctx cannot be a subscription"),
        (_number, "parameter 'flag' is annotated bool, which is not an Event"),
        (_any_event, "parameter 'event' is annotated Event, which is the base of all events"),
        (_optional, "parameter 'event' is annotated NoneType, which is not an Event"),
        (_bare_list, "parameter 'events' is annotated list, which does not say what it contains"),
        (_bare_typing_list, "parameter 'events' .* which does not say what it contains"),
        (_nowhere, "an annotation cannot be resolved .*Elsewhere.*; import it"),
        (print, "no annotation|cannot|receives no event|cannot be a subscription"),
    ],
)
def test_any_other_signature_is_refused_and_the_step_is_named(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(PipelineInvalid, match=f"step charge.*({message})"):
        _read(function)


def test_an_annotation_that_is_not_python_is_refused() -> None:
    def charge(event: A) -> None: ...

    charge.__annotations__["event"] = "A |"
    with pytest.raises(PipelineInvalid, match="an annotation cannot be resolved"):
        _read(charge)


def test_an_object_that_can_be_called_is_no_step() -> None:
    class Caller:
        def __call__(self, event: A) -> None: ...

    with pytest.raises(PipelineInvalid, match="step charge is a Caller: a step is a function, or a class"):
        _read(Caller())
