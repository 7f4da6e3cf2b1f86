"""The form of a step's code: function, method, class or decorated function, and how a worker has to call it.

Rules: a generator function, an `async def` and a plain function whose return annotation is a stream are told apart
where they are declared. A decorated function counts as what its innermost function is, if the decorator used
`functools.wraps`; only a plain function around an `async def` stays plain, since it may run the coroutine itself.
"""

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from typing import Any, get_args, get_origin

from ..errors import PipelineInvalid
from .step import CallStyle

__all__ = ["call_style", "function_of"]

_SYNC_STREAMS = (Iterator, Iterable, Generator)
_ASYNC_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


def function_of(code: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function whose signature counts: that of a class is its `__call__`.

    Raises: `PipelineInvalid` if it is a class without one, or a method that nothing is bound to.
    """
    if isinstance(code, staticmethod):
        return code.__func__
    if isinstance(code, classmethod):
        raise PipelineInvalid(f"step {name} is a class method: add it after the class, pipeline.step(TheClass.{name})")
    if not isinstance(code, type):
        _check_bound(code, name)
        return code
    if "__call__" not in code.__dict__ and not any("__call__" in base.__dict__ for base in code.__mro__[:-1]):
        raise PipelineInvalid(f"step class {name} has no __call__: write `def __call__(self, event: ...) -> ...`")
    return code.__call__


def call_style(function: Callable[..., Any], returned: Any, name: str) -> CallStyle:
    """How a worker has to call a step's function; `returned` is its resolved return annotation.

    Raises: `PipelineInvalid` if it is an `async def` that returns an async stream instead of yielding.
    """
    inner = inspect.unwrap(function)
    streams = _streams_in(returned)
    own = _style_of(function)
    if own is CallStyle.ASYNC and inner is function and streams & set(_ASYNC_STREAMS):
        raise PipelineInvalid(f"step {name} is an `async def` that yields nothing: yield its events, or drop `async`")
    if own is not CallStyle.SYNC:
        return own
    wrapped = _style_of(inner)
    if wrapped is CallStyle.SYNC and streams:
        return CallStyle.ASYNC_STREAM if streams & set(_ASYNC_STREAMS) else CallStyle.SYNC_STREAM
    return CallStyle.SYNC if wrapped is CallStyle.ASYNC else wrapped


def _style_of(function: Callable[..., Any]) -> CallStyle:
    """How a function is called that nothing wraps."""
    if inspect.isasyncgenfunction(function):
        return CallStyle.ASYNC_STREAM
    if inspect.isgeneratorfunction(function):
        return CallStyle.SYNC_STREAM
    return CallStyle.ASYNC if inspect.iscoroutinefunction(function) else CallStyle.SYNC


def _check_bound(code: Callable[..., Any], name: str) -> None:
    """A function of a class body has a `self` that nobody would pass."""
    if not inspect.isfunction(code):
        return
    first = next(iter(inspect.signature(code).parameters.values()), None)
    if first is not None and first.name in ("self", "cls") and first.annotation is first.empty:
        raise PipelineInvalid(
            f"step {name} is a method, and nothing would pass its {first.name!r}: add the bound method of an object, "
            f"pipeline.step(service.{name}), or write a class with __call__"
        )


def _streams_in(returned: Any) -> set[Any]:
    """The streams that a return annotation names, alone or beside None; beside an event it is no stream."""
    known = {*_SYNC_STREAMS, *_ASYNC_STREAMS}
    if get_origin(returned) in known:
        return {get_origin(returned)}
    origins = {get_origin(part) for part in get_args(returned) if part is not type(None)}
    return origins if origins <= known else set()
