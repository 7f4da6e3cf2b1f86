"""EngineApi: the public methods of an engine, the same under Ray and in one process.

Rules: what an `await` here returns is committed. This class holds no logic: it passes each call on to the part that
does it, and the parts know each other only as far as they were given to each other.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import Any, Self

from ...cluster.clock import Clock, IdSource
from ...cluster.log.open import store_url
from ...cluster.log.protocol import DeadFilter, Reader
from ...events.decide.inputs import Accepted
from ...events.model.event import Event
from ...events.model.registry import Registry
from ...events.pipelines.check import Finding
from ...events.pipelines.pipeline import Pipeline
from ...events.policies.breaker import BreakerView
from ..partition.owned_log import OwnedLog
from .admission import EngineAdmission
from .backend import Backend
from .caller_relay import CallerRelay
from .event_submission import EventSubmission
from .handle_table import HandleTable
from .handles import Outcome, RunHandle, outcome_of
from .lifecycle import Lifecycle
from .operator_api import OperatorApi, Redriven, raw_id
from .replies import PendingReplies
from .run_queries import finished_run
from .served_pipelines import ServedPipelines

__all__ = ["EngineApi"]


class EngineApi(ABC):
    """What callers can do with an engine. `Engine` runs steps under Ray, `LocalEngine` in this process.

    on_ray_started: called in the event loop each time this process has started or joined a Ray, also when a lost one
    was replaced. Ray takes the process's signals; the callback can take them back.
    """

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        store: str | PathLike[str],
        clock: Clock,
        *,
        backend: Backend,
        on_message: Callable[[int, int, Any], None],
    ) -> None:
        self.store = store_url(store)
        self.on_ray_started: Callable[[], None] = lambda: None
        self._served = ServedPipelines(tuple(pipelines))
        self._clock = clock
        self._backend = backend
        self._lifecycle = Lifecycle()
        self._log = OwnedLog(self.store)
        ids = IdSource(clock)
        self._handles = HandleTable(self)
        self._replies = PendingReplies(backend, self._lifecycle)
        self._relay = CallerRelay(backend, self._handles, self._replies, on_message)
        admission = EngineAdmission(self._served.by_name, ids)
        self._submission = EventSubmission(admission, self._replies, self._handles, self._lifecycle)
        self._operators = OperatorApi(
            self._served, self._log, ids, backend=backend, replies=self._replies, handles=self._handles
        )

    @abstractmethod
    async def start(self) -> None:
        """Open the log, resume what it holds, and get ready."""

    @abstractmethod
    async def stop(self) -> None:
        """Accept nothing more, let what runs finish, and end."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # -- what it is --------------------------------------------------------------------------------------------------

    @property
    def pipelines(self) -> Mapping[str, Pipeline]:
        """The pipelines by name."""
        return self._served.by_name

    @property
    def durability(self) -> str:
        """What survives when an event is accepted: `full` a power cut, `relaxed` a crash, `memory` nothing."""
        return self._log.log.durability

    @property
    def progress(self) -> dict[tuple[bytes, str], tuple[float, float]]:
        """How far the steps of live runs say they are: (run id, step) to (done, total)."""
        return self._relay.progress

    def state(self) -> str:
        """`new`, `starting`, `ready`, `recovering: ...`, `draining`, `stopped`, or `failed: ...`, with the reason."""
        return str(self._lifecycle)

    def versions(self) -> Mapping[str, str]:
        """The version of each pipeline."""
        return dict(self._served.versions)

    def findings(self) -> dict[str, list[Finding]]:
        """What the checks say of each pipeline."""
        return {name: pipeline.check() for name, pipeline in self.pipelines.items()}

    def registry_of(self, pipeline: str) -> Registry:
        """The event types of a pipeline."""
        return self.pipelines[pipeline].registry

    def reader(self) -> Reader:
        """A reader of the log, for queries."""
        return self._log.log.reader()

    # -- events and runs ---------------------------------------------------------------------------------------------

    async def emit(self, event: Event, *, pipeline: str | None = None, key: str | None = None) -> RunHandle:
        """Start a run; returns when the event is committed. Waits while the engine is at its high-water mark.

        Raises `EventTypeUnknown`, `EventInvalid`, `LogUnavailable`, and `Overloaded` if the engine is stopping.
        """
        return await self._submission.emit(event, pipeline, key)

    async def emit_many(self, events: Iterable[Event], *, pipeline: str | None = None) -> list[RunHandle]:
        """Start a run for each event, in one go: the cheapest way to start many. Waits and raises as `emit` does."""
        return await self._submission.emit_many(events, pipeline)

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
        """Accept an event for a gateway: `source` and `sender_id` tell a repeated one, `digest` an altered one.

        Raises `DeliveryConflict`, `Overloaded`, `LogUnavailable`.
        """
        return await self._submission.accept(
            pipeline, event, key=key, source=source, sender_id=sender_id, digest=digest
        )

    async def run(self, run_id: bytes | str) -> RunHandle:
        """The handle of a run that was started before. Raises `RunUnknown`."""
        raw = raw_id(run_id)
        await self._operators.known_run(raw)
        handle = self._handles.get(raw)
        return self._handles.new(raw, duplicate=True) if handle is None or handle.has_failed else handle

    async def finished_outcome(self, raw_id: bytes) -> Outcome | None:
        """The outcome of a run from the log, or None while it is live. Raises `RunUnknown`."""
        found = await self._backend.read(finished_run, self._log.reader, self._served.plans, raw_id)
        return None if found is None else outcome_of(*found, self.registry_of(found[0].plan.pipeline))

    def result_awaited(self) -> None:
        """A caller begins to wait for a result."""
        self._backend.result_awaited()

    # -- operators ---------------------------------------------------------------------------------------------------

    async def cancel(self, run_id: bytes | str, *, who: str = "python") -> None:
        """End a run. If its steps have compensations, those run now, and the run ends `compensated`.

        A run that needs a migration ends `cancelled` without its compensations, whose code is not loaded.

        who: names the operator, for the audit. Raises `RunUnknown`, `RunFinished` if it is over, `RunPastPivot`.
        """
        await self._operators.cancel(run_id, who)

    async def retry(self, run_id: bytes | str, *, who: str = "python") -> RunHandle:
        """Retry what failed of a run that failed or was cancelled. Raises `RunUnknown`, `RunFinished`."""
        return await self._operators.retry(run_id, who)

    async def redrive(
        self, letter_id: bytes | str, *, data: Mapping[str, Any] | None = None, who: str = "python"
    ) -> RunHandle:
        """Run a dead letter again: the same event, or a copy of it with other `data` (its fields).

        Raises `LetterUnknown`, `LetterClosed`, `RunCancelled`, and `EventInvalid` if the data does not fit the event's
        type.
        """
        return await self._operators.redrive(letter_id, data, who)

    async def discard(self, letter_id: bytes | str, *, who: str = "python") -> None:
        """Discard a dead letter; for a blocked compensation this says that it is settled. Raises as `redrive` does."""
        await self._operators.discard(letter_id, who)

    async def redrive_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        """Run these dead letters again, at most the newest `limit`.

        The oldest of them come first, so that the events of a key keep their order.
        """
        return await self._operators.redrive_all(wanted, limit, who)

    async def discard_all(self, wanted: DeadFilter, *, limit: int | None = None, who: str = "python") -> Redriven:
        """Discard these dead letters, at most the newest `limit`.

        Blocked compensations are left out unless `wanted` names their step: to discard one says that it is settled.
        """
        return await self._operators.discard_all(wanted, limit, who)

    def breakers(self) -> list[BreakerView]:
        """The circuit breakers of all steps and dependencies, by name; none before the engine has read its log."""
        return self._backend.breakers()

    async def force_breaker(
        self, name: str, *, opens: bool, seconds: float | None = None, who: str = "python"
    ) -> BreakerView:
        """Open a breaker (for `seconds`, at most a year, or until it is closed), or close it.

        Raises `BreakerUnknown`, or `EnsueError` if the time is invalid.
        """
        return await self._operators.force_breaker(name, opens=opens, seconds=seconds, who=who)

    # -- for the engines ---------------------------------------------------------------------------------------------

    def _fail_pending(self, error: Exception, *, runs: bool) -> None:
        """Fail callers that wait for an answer; with `runs` also those that wait for a result."""
        self._replies.fail(error)
        if runs:
            self._handles.fail(error)
