"""What the gateway needs of an engine, and nothing more: `ensue.actors.engine.Engine` and its twin both fit.

Rules: `accept` returns after the durable commit; whoever waits for it may be cancelled, and the commit may still land.
A reader is for any thread. `state` is asked on every request, so it answers without waiting.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from ..cluster.log import Reader
from ..events.event import Event
from ..events.inputs import Accepted
from ..events.pipeline import Pipeline

__all__ = ["EnginePort", "ServedEngine"]


class EnginePort(Protocol):
    """An engine as the gateway sees it."""

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The pipelines that it runs, by name."""
        ...

    @property
    def durability(self) -> str:
        """What an accepted event survives: `full`, `relaxed` or `memory`."""
        ...

    def versions(self) -> Mapping[str, str]:
        """The version (a hash) of each pipeline, by its name."""
        ...

    def state(self) -> str:
        """`new`, `starting`, `ready`, `draining`, `stopped`, or `failed: ` and why."""
        ...

    async def accept(
        self,
        pipeline: str,
        event: Event,
        *,
        key: str | None = None,
        source: str = "",
        sender_id: str | None = None,
        digest: bytes = b"",
    ) -> Accepted:
        """Commit an event from outside; (source, sender_id) is the dedup key, digest that of what was sent.

        key: None is the event's own.

        `DeliveryConflict` where the id came with another digest before, `Overloaded` at the high-water mark and while
        draining, `LogUnavailable` where the log cannot be written.
        """
        ...

    async def cancel(self, run_id: bytes) -> None:
        """End a run; `RunUnknown`, or `RunFinished` where it is over."""
        ...

    async def retry(self, run_id: bytes) -> object:
        """Bring a run back that failed or was cancelled; `RunUnknown`."""
        ...

    def reader(self) -> Reader:
        """A new reader of the log."""
        ...


class ServedEngine(EnginePort, Protocol):
    """An engine that `serve` starts and stops: entering it starts it, leaving it drains and closes it."""

    async def __aenter__(self) -> Any:
        """Start, without holding the loop up."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        """Drain and close."""
        ...
