"""RunHandle and Outcome: what a caller holds of a run, and how the run ended.

Rules: a handle belongs to the event loop of its caller. It knows its engine by `HandleSource` alone.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from ...events.ids import format_id
from ...events.model.event import Event
from ...events.model.failure import StepError
from ...events.model.registry import Registry
from ...events.state.run_status import Status
from ...events.state.state import RecordedError, Run

__all__ = ["HandleSource", "Outcome", "RunHandle", "outcome_of"]


class HandleSource(Protocol):
    """An engine as the handle of a run needs it."""

    async def finished_outcome(self, raw_id: bytes) -> "Outcome | None":
        """The outcome of a run from the log, or None while it is live."""
        ...

    def registry_of(self, pipeline: str) -> Registry:
        """The event types of a pipeline."""
        ...

    def result_awaited(self) -> None:
        """A caller begins to wait for a result."""
        ...

    async def cancel(self, run_id: bytes) -> None:
        """End the run."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    run_id: str
    status: str
    """`completed`, `failed`, `cancelled` or `compensated`."""
    events: list[Event]
    """The result events."""
    errors: list[StepError]
    """The steps that gave up, oldest first, also those whose failure another step handled."""

    @property
    def ok(self) -> bool:
        """Whether the run completed."""
        return self.status == Status.COMPLETED.wire

    @property
    def event(self) -> Event | None:
        """The last result event; None if there is none."""
        return self.events[-1] if self.events else None


class RunHandle:
    """A run that was started; await `result()` for its outcome."""

    __slots__ = ("__weakref__", "_engine", "_error", "_outcome", "_waiting", "duplicate", "raw_id")

    def __init__(self, engine: HandleSource, raw_id: bytes, *, duplicate: bool = False) -> None:
        self._engine = engine
        self._outcome: tuple[Run, Status] | None = None
        self._error: BaseException | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self.raw_id = raw_id
        self.duplicate = duplicate

    @property
    def id(self) -> str:
        """The run's id."""
        return format_id(self.raw_id)

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    async def result(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109 - the public interface
        """The outcome, once the run is over. Raises `TimeoutError` after `timeout` seconds; the run continues."""
        if self._outcome is None:
            logged = await self._engine.finished_outcome(self.raw_id) if self.duplicate else None
            if logged is not None:
                return logged
        if self._outcome is None:
            await self._wait(timeout)
        assert self._outcome is not None  # noqa: S101 - `finish` set it before it ended the wait
        return outcome_of(*self._outcome, self._engine.registry_of(self._outcome[0].plan.pipeline))

    async def _wait(self, timeout_seconds: float | None) -> None:
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        timer = None
        if timeout_seconds is not None:
            timer = loop.call_later(timeout_seconds, self._time_out, waiting, timeout_seconds)
        self._waiting.append(waiting)
        self._engine.result_awaited()
        try:
            await waiting
        finally:
            self._waiting.remove(waiting)
            if timer is not None:
                timer.cancel()

    def _time_out(self, waiting: asyncio.Future[None], timeout_seconds: float) -> None:
        if not waiting.done():
            waiting.set_exception(TimeoutError(f"run {self.id} is not over after {timeout_seconds:g} s; it continues"))

    @property
    def is_over(self) -> bool:
        """Whether the outcome is known."""
        return self._outcome is not None

    @property
    def has_failed(self) -> bool:
        """Whether the engine ended before the run did; only a new handle learns what follows after the next start."""
        return self._error is not None

    @property
    def is_awaited(self) -> bool:
        """Whether a caller waits for the result."""
        return any(not waiting.done() for waiting in self._waiting)

    async def cancel(self) -> None:
        """End the run: none of its steps starts any more. Raises as `Engine.cancel` does."""
        await self._engine.cancel(self.raw_id)

    def finish(self, run: Run, status: Status) -> None:
        """The run has ended; called in the event loop."""
        self._outcome = (run, status)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def fail(self, error: BaseException) -> None:
        """The engine can no longer tell how the run ends."""
        self._error = error
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(error)


def outcome_of(run: Run, status: Status, registry: Registry) -> Outcome:
    """The outcome of a run that has ended."""
    events = [registry.decode(ref.type, ref.version, ref.data) for ref in run.results or ()]
    errors = [_error_of(fault) for fault in run.errors or ()]
    return Outcome(format_id(run.run_id), status.wire, events, errors)


def _error_of(fault: RecordedError) -> StepError:
    kind, error, message, trace = fault.failure
    event_id = format_id(fault.event_id) if fault.event_id else ""
    return StepError(fault.step, str(kind), error, message, trace, fault.attempts, event_id, fault.handled)
