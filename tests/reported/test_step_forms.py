"""A step that Python allows (positional-only, a method, decorated, returning a generator) failed when it was called."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from ensue import Context, Event, Pipeline
from ensue.actors.local import LocalEngine
from ensue.events.errors import PipelineInvalid


class A(Event):
    n: int


class B(Event):
    n: int


def passed_on(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*positional: Any, **named: Any) -> Any:
        return function(*positional, **named)

    return wrapper


def blocking(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*positional: Any, **named: Any) -> Any:
        return asyncio.run(function(*positional, **named))

    return wrapper


def awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*positional: Any, **named: Any) -> Any:
        return await function(*positional, **named)

    return wrapper


def positional_only(event: A, /) -> B:
    return B(n=event.n)


def positional_and_named(event: A, /, ctx: Context) -> B:
    return B(n=event.n + ctx.attempt - 1)


async def positional_async(event: A, /) -> B:
    return B(n=event.n)


async def positional_stream(event: A, /) -> AsyncIterator[B]:
    yield B(n=event.n)


class Service:
    def __init__(self, add: int) -> None:
        self.add = add

    def method(self, event: A) -> B:
        return B(n=event.n + self.add)

    async def async_method(self, event: A) -> B:
        return B(n=event.n + self.add)

    @classmethod
    def class_method(cls, event: A) -> B:
        return B(n=event.n)

    @staticmethod
    async def static_method(event: A) -> B:
        return B(n=event.n)


class WithCall:
    def __call__(self, event: A, /) -> B:
        return B(n=event.n)


async def coroutine(event: A) -> B:
    await asyncio.sleep(0)
    return B(n=event.n)


def generator(event: A) -> Iterator[B]:
    yield B(n=event.n)


async def async_generator(event: A) -> AsyncIterator[B]:
    yield B(n=event.n)


def returns_expression(event: A) -> Iterator[B]:
    return (B(n=event.n) for _ in range(1))


def returns_map(event: A) -> Iterable[B]:
    return map(B.model_validate, [{"n": event.n}])


def returns_expression_as_list(event: A) -> list[B]:
    return (B(n=event.n) for _ in range(1))  # type: ignore[return-value]


def returns_stream_or_none(event: A) -> Iterator[B] | None:
    return (B(n=event.n) for _ in range(1)) if event.n else None


async def async_returns_expression(event: A) -> Iterator[B]:
    return (B(n=event.n) for _ in range(1))


def returns_async_stream(event: A) -> AsyncIterator[B]:
    return async_generator(event)


def returns_coroutine(event: A) -> B:
    return coroutine(event)  # type: ignore[return-value]


FORMS = [
    positional_only,
    positional_and_named,
    positional_async,
    positional_stream,
    Service(0).method,
    Service(0).async_method,
    Service.class_method,
    Service.static_method,
    WithCall,
    returns_expression,
    returns_map,
    returns_expression_as_list,
    returns_stream_or_none,
    async_returns_expression,
    returns_async_stream,
    returns_coroutine,
    passed_on(coroutine),
    passed_on(generator),
    passed_on(async_generator),
    passed_on(passed_on(coroutine)),
    passed_on(positional_only),
    blocking(coroutine),
    awaiting(coroutine),
    functools.lru_cache(positional_only),
]


@pytest.mark.parametrize("code", FORMS, ids=lambda code: str(getattr(code, "__qualname__", code)))
async def test_each_form_of_a_step_works(code: Callable[..., Any]) -> None:
    pipeline = Pipeline("forms")
    pipeline.step(name="form")(code)
    async with LocalEngine(pipeline) as engine:
        outcome = await (await engine.emit(A(n=7))).result()
    assert (outcome.status, outcome.events) == ("completed", [B(n=7)]), outcome.errors


def test_a_static_method_may_be_decorated_in_its_class() -> None:
    pipeline = Pipeline("forms")

    class Steps:
        @pipeline.step
        @staticmethod
        async def charge(event: A) -> B:
            return B(n=event.n)

    assert pipeline.steps["charge"].style == "async"
    assert Steps is not None


def test_what_cannot_be_called_is_refused_where_it_is_declared() -> None:
    pipeline = Pipeline("forms")

    async def no_stream(event: A) -> AsyncIterator[B]:
        return async_generator(event)

    with pytest.raises(PipelineInvalid, match="is a method, and nothing would pass its 'self'"):
        pipeline.step(Service.method)
    with pytest.raises(PipelineInvalid, match="is a class method"):
        pipeline.step(name="it")(Service.__dict__["class_method"])
    with pytest.raises(PipelineInvalid, match="yields nothing: yield its events, or drop `async`"):
        pipeline.step(no_stream)
    assert not pipeline.steps


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"retry": "3"}, "retry='3': write a Retry, or a number of attempts"),
    ({"retry": True}, "retry=True: write a Retry"),
    ({"retry": 2.5}, "retry=2.5: write a Retry"),
    ({"timeout": None}, "timeout_seconds is None: write a number of seconds"),
    ({"timeout": "30"}, "timeout_seconds is '30'"),
    ({"replicas": 2.0}, "replicas is 2.0: write a whole number"),
    ({"replicas": None}, "replicas is None"),
    ({"concurrency": "4"}, "concurrency is '4'"),
    ({"supervision": None}, "supervision=None: write a Supervision, or leave it out"),
    ({"breaker": None}, "breaker=None: write a Breaker"),
    ({"breaker": 5}, "breaker=5"),
    ({"pivot": "no"}, "pivot='no'"),
    ({"resources": ["tpu"]}, "resources="),
    ({"num_cpus": None}, "num_cpus is None"),
    ({"name": 5}, "step name 5: write text"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=lambda value: str(value)[:40])
def test_an_option_of_the_wrong_kind_is_refused_where_it_is_declared(options: dict[str, Any], message: str) -> None:
    pipeline = Pipeline("options")
    with pytest.raises(PipelineInvalid, match=message):
        pipeline.step(**options)(coroutine)
    assert not pipeline.steps
