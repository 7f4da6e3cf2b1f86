"""Backend: what the callers' side of an engine needs of the side that runs its partition."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from ...events.decide.inputs import Input
from ...events.policies.breaker import BreakerView

__all__ = ["Backend"]

T = TypeVar("T")


class Backend(Protocol):
    """A partition, in a thread of its own or in the callers' event loop."""

    def post_all(self, entries: Sequence[Input]) -> None:
        """Tell the partition; called in the event loop."""
        ...

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call something in the event loop, from the thread that turns the partition."""
        ...

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that reads the disk."""
        ...

    def breakers(self) -> list[BreakerView]:
        """The circuit breakers, by name; none before the engine has read its log."""
        ...

    def result_awaited(self) -> None:
        """A caller begins to wait for a result."""
        ...
