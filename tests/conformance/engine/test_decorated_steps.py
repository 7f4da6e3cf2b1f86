"""Steps that are decorated, take their event by position only, or return a stream: the same on all engines."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from ensue import Event, Pipeline

from ..engines import Rig, by_value

by_value(__name__)


class Asked(Event):
    n: int


class Answered(Event):
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


async def coroutine(event: Asked) -> Answered:
    await asyncio.sleep(0)
    return Answered(n=event.n)


async def async_stream(event: Asked) -> AsyncIterator[Answered]:
    yield Answered(n=event.n)


def by_position(event: Asked, /) -> Answered:
    return Answered(n=event.n)


def expression(event: Asked) -> Iterator[Answered]:
    return (Answered(n=event.n) for _ in range(1))


class Service:
    def method(self, event: Asked) -> Answered:
        return Answered(n=event.n)


async def test_they_answer_like_plain_steps(rig: Rig) -> None:
    codes = [passed_on(coroutine), blocking(coroutine), passed_on(async_stream), by_position, expression]
    pipeline = Pipeline("decorated")
    for index, code in enumerate([*codes, Service().method]):
        pipeline.step(name=f"step-{index}")(code)
    outcome = await rig.run(pipeline, Asked(n=7))
    assert (outcome.status, outcome.events) == ("completed", [Answered(n=7)] * 6), outcome.errors
