"""What the gateway needs of an engine, and nothing more: `ensue.actors.engine.Engine` and its twin both fit.

Rules: `accept` returns after the durable commit; whoever waits for it may be cancelled, and the commit may still land.
A reader is for any thread. `state`, `breakers` and `tree` answer at once, in whatever state the engine is. What an
operator does names who did it, for the audit.
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
    """What became of dead letters that were decided on together."""

    @property
    def redriven(self) -> int:
        """How many were redriven, or discarded."""
        ...

    @property
    def refused(self) -> Sequence[tuple[str, str]]:
        """Those that could not be: id and why."""
        ...


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
        """`new`, `starting`, `ready`, `recovering: ` and from what, `draining`, `stopped`, or `failed: ` and why."""
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

    async def cancel(self, run_id: bytes, *, who: str = ...) -> None:
        """End a run and undo it; `RunUnknown`, `RunFinished` where it is over, `RunPastPivot` where it only goes on."""
        ...

    async def retry(self, run_id: bytes, *, who: str = ...) -> object:
        """Bring a run back that failed or was cancelled; `RunUnknown`."""
        ...

    def reader(self) -> Reader:
        """A new reader of the log."""
        ...

    async def redrive(self, letter_id: bytes, *, data: Mapping[str, Any] | None = None, who: str = ...) -> object:
        """Run a dead letter again, with `data` in place of its event's.

        `LetterUnknown`, `LetterClosed`, `RunCancelled`, `EventInvalid`.
        """
        ...

    async def discard(self, letter_id: bytes, *, who: str = ...) -> None:
        """Let a dead letter go; `LetterUnknown`, `LetterClosed`."""
        ...

    async def redrive_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = ...) -> Decided:
        """Run all of these dead letters again, `limit` at most."""
        ...

    async def discard_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = ...) -> Decided:
        """Let all of these dead letters go, `limit` at most."""
        ...

    def breakers(self) -> Sequence[BreakerView]:
        """Every circuit breaker as it is now."""
        ...

    async def force_breaker(
        self, name: str, *, opens: bool, seconds: float | None = None, who: str = ...
    ) -> BreakerView:
        """Open a breaker (for so many seconds, or until it is closed) or close it; `BreakerUnknown`."""
        ...

    def tree(self) -> Mapping[str, Any]:
        """The tree of supervision: name, kind, status, pid, restarts, since, reason, children."""
        ...

    async def restart_pipeline(self, name: str, *, who: str = ...) -> None:
        """Begin anew with a pipeline that was given up, its restart history forgotten."""
        ...


class ServedEngine(EnginePort, Protocol):
    """An engine that `serve` starts and stops: entering it starts it, leaving it drains and closes it.

    on_ray_started: what it calls each time it has started or joined a Ray, which takes this process's signals.
    """

    on_ray_started: Callable[[], None]

    async def __aenter__(self) -> Any:
        """Start, without holding the loop up."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        """Drain and close."""
        ...


def takes_events(state: str) -> bool:
    """Whether an engine in this state takes events in: while it recovers they are kept until its workers are back."""
    return state == "ready" or state.startswith("recovering")
