"""What the function of a webhook returns, as events: one, several, or none.

Rules: several come as a list, a generator or another iterable, plain or async; each of their events is accepted for
itself, under the sender's id with its number.
"""

from collections.abc import AsyncIterable, Awaitable, Iterable, Sequence
from typing import Any, TypeGuard

from ...events.decide.inputs import Accepted
from ...events.model.event import Event
from .admission import render

__all__ = ["WebhookResult", "is_pending", "numbered", "render_list", "result_of", "undeclared"]

WebhookResult = Event | list[Event] | None


def is_pending(returned: Any) -> bool:
    """Whether what a function returned has to be waited for."""
    return isinstance(returned, Awaitable | AsyncIterable)


async def result_of(returned: Any) -> Any:
    """What a function returned, with coroutines awaited and streams collected; an empty list counts as None."""
    if isinstance(returned, Awaitable):
        returned = await _awaited(returned)
    if _is_async_stream(returned):
        returned = [event async for event in returned]
    elif _is_stream(returned) and not isinstance(returned, Event | str | bytes):
        returned = list(returned)
    if isinstance(returned, list):
        return [event for event in _items(returned) if event is not None] or None
    return returned


def undeclared(result: Any, models: tuple[type[Event], ...]) -> str | None:
    """The name of a class that the return annotation does not name; None if there is none."""
    listed = _items(result) if isinstance(result, list) else [] if result is None else [result]
    return next((type(event).__name__ for event in listed if type(event) not in models), None)


def numbered(sender_id: str | None, count: int) -> list[str | None]:
    """The ids of the events of one delivery: the sender's with `#1`, `#2`, ..."""
    return [None if sender_id is None else f"{sender_id}#{number}" for number in range(1, count + 1)]


def render_list(accepted: Sequence[Accepted]) -> bytes:
    """The JSON answer to several events of one delivery: that of the first, and `events` with all."""
    first = render(accepted[0]).removesuffix(b"}")
    return b'%b,"events":[%b]}' % (first, b",".join(map(render, accepted)))


async def _awaited(returned: Any) -> Any:
    return await returned


def _items(listed: Any) -> list[Any]:
    return list(listed)


def _is_stream(value: Any) -> TypeGuard[Iterable[Any]]:
    return isinstance(value, Iterable)


def _is_async_stream(value: Any) -> TypeGuard[AsyncIterable[Any]]:
    return isinstance(value, AsyncIterable)
