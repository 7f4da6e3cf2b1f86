"""The engine as the gateway sees it: a Protocol that `ensue.actors.engine.Engine` and `LocalEngine` satisfy.

Rules: `accept` returns after the durable commit; a caller that is cancelled while it waits may still find the event
committed. A reader may be used from any thread. `state`, `breakers` and `tree` answer at once, in every state of the
engine. An operator's action takes the name of the caller (`who`), which the audit keeps.
"""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol

from ..cluster.log.protocol import DeadFilter, Reader
from ..events.decide.inputs import Accepted
from ..events.model.event import Event
from ..events.pipelines.pipeline import Pipeline
from ..events.policies.breaker import BreakerView

__all__ = ["Decided", "EnginePort", "ServedEngine", "takes_events"]


class Decided(Protocol):
    """The outcome of redriving or discarding many dead letters."""

    @property
    def redriven(self) -> int:
        """The number of dead letters that were redriven or discarded."""
        ...

    @property
    def refused(self) -> Sequence[tuple[str, str]]:
        """Those that were refused: id and reason."""
        ...


class EnginePort(Protocol):
    """The methods of an engine that the gateway calls."""

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The pipelines that the engine runs, by name."""
        ...

    @property
    def durability(self) -> str:
        """The durability of an accepted event: `full`, `relaxed` or `memory`."""
        ...

    def versions(self) -> Mapping[str, str]:
        """The version of each pipeline (a hash), by name."""
        ...

    def state(self) -> str:
        """`new`, `starting`, `ready`, `recovering: REASON`, `draining`, `stopped` or `failed: REASON`."""
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
        """Commit an event from outside.

        (source, sender_id) is the deduplication key, and `digest` identifies the content that was sent. Without `key`
        the event's own key is used.

        Raises `DeliveryConflict` if the id came with another digest before, `Overloaded` at the high-water mark and
        while the engine drains, `LogUnavailable` if the log cannot be written.
        """
        ...

    async def cancel(self, run_id: bytes, *, who: str = ...) -> None:
        """End a run and compensate its steps.

        Raises `RunUnknown`, `RunFinished` if the run has ended, `RunPastPivot` if it is past its pivot.
        """
        ...

    async def retry(self, run_id: bytes, *, who: str = ...) -> object:
        """Resume a run that failed or was cancelled. Raises `RunUnknown`."""
        ...

    def reader(self) -> Reader:
        """A new reader of the log."""
        ...

    async def redrive(self, letter_id: bytes, *, data: Mapping[str, Any] | None = None, who: str = ...) -> object:
        """Run a dead letter again, with `data` instead of the data of its event.

        Raises `LetterUnknown`, `LetterClosed`, `RunCancelled` or `EventInvalid`.
        """
        ...

    async def discard(self, letter_id: bytes, *, who: str = ...) -> None:
        """Discard a dead letter. Raises `LetterUnknown` or `LetterClosed`."""
        ...

    async def redrive_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = ...) -> Decided:
        """Run the matching dead letters again, at most `limit` of them."""
        ...

    async def discard_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = ...) -> Decided:
        """Discard the matching dead letters, at most `limit` of them."""
        ...

    def breakers(self) -> Sequence[BreakerView]:
        """All circuit breakers, in their present state."""
        ...

    async def force_breaker(
        self, name: str, *, opens: bool, seconds: float | None = None, who: str = ...
    ) -> BreakerView:
        """Open a breaker, for `seconds` or until it is closed, or close it.

        Raises `BreakerUnknown`.
        """
        ...

    def tree(self) -> Mapping[str, Any]:
        """The supervision tree: name, kind, status, pid, restarts, since, reason, children."""
        ...

    async def restart_pipeline(self, name: str, *, who: str = ...) -> None:
        """Restart a pipeline that has failed, and reset its restart history."""
        ...


class ServedEngine(EnginePort, Protocol):
    """An engine that `serve` starts and stops: entering it starts it, leaving it drains and closes it."""

    on_ray_started: Callable[[], None]
    """Called each time the engine has started or joined a Ray cluster, which replaces the signal handlers."""

    async def __aenter__(self) -> Any:
        """Start, without blocking the event loop."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        """Drain and close."""
        ...


def takes_events(state: str) -> bool:
    """Whether an engine in this state accepts events. While it recovers, they wait for its workers."""
    return state == "ready" or state.startswith("recovering")
