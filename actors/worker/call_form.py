"""Call forms: functions that are not called as they stand: positional-only parameters, and decorated functions.

Rules: a function that is what its style says is called directly, without a wrapper. The others are adapted once, when
their worker starts. A plain function that returns a coroutine has it run to its end in an event loop of this process,
while its own thread waits.
"""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeGuard

from ...events.model.event import Event
from ...events.pipelines.step import CallStyle

__all__ = ["adapted", "listed", "settled"]

Function = Callable[..., Any]


def adapted(function: Function, style: CallStyle) -> Function:
    """The function as executors call it: with arguments by name, and with the kind of result that its style has."""
    plain = _by_name(function)
    if style is CallStyle.SYNC_STREAM and not inspect.isgeneratorfunction(function):
        return _then(plain, lambda result: _iterable(_finished(result)))
    if style is CallStyle.ASYNC_STREAM and not inspect.isasyncgenfunction(function):
        return _then(plain, _async_iterable)
    if style is CallStyle.ASYNC and inspect.unwrap(function) is not function:
        return _then(plain, _collected)
    return plain


def settled(result: Any) -> Any:
    """What a plain function gives: the result of a coroutine that it returned, the items of an iterable."""
    return listed(_finished(result))


def listed(result: Any) -> Any:
    """The items of an iterable of events; anything else as it is."""
    return list(result) if _is_listable(result) else result


def _finished(result: Any) -> Any:
    if inspect.isawaitable(result):
        return asyncio.run_coroutine_threadsafe(_awaited(result), _loop()).result()
    return result


def _then(function: Function, adapt: Callable[[Any], Any]) -> Function:
    def call(**arguments: Any) -> Any:
        return adapt(function(**arguments))

    return call


def _by_name(function: Function) -> Function:
    """The function, callable with all arguments by name."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if not names:
        return function

    def call(**arguments: Any) -> Any:
        positional = [arguments.pop(name) for name in names]
        return function(*positional, **arguments)

    return call


def _iterable(result: Any) -> Iterable[Any]:
    if result is None:
        return ()
    return (result,) if isinstance(result, Event) else result


def _async_iterable(result: Any) -> AsyncIterable[Any]:
    return result if _is_async_iterable(result) else _iterated(result)


async def _iterated(result: Any) -> AsyncIterator[Any]:
    if inspect.isawaitable(result):
        result = await result
    if _is_async_iterable(result):
        async for event in result:
            yield event
    else:
        for event in _iterable(result):
            yield event


async def _collected(result: Awaitable[Any]) -> Any:
    value = await result
    return [event async for event in value] if _is_async_iterable(value) else value


def _is_listable(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable) and not isinstance(value, Event | str | bytes | Mapping)


def _is_async_iterable(value: Any) -> TypeGuard[AsyncIterable[Any]]:
    return isinstance(value, AsyncIterable)


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


_gate = threading.Lock()
_running: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """The event loop for coroutines that plain functions return, started when the first one does."""
    with _gate:
        if not _running:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="returned-coroutines", daemon=True).start()
            _running.append(loop)
    return _running[0]
