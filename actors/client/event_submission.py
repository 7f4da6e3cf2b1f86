"""EventSubmission: the way of callers' events into an engine.

Rules: what an `await` here returns is committed. `emit` and `emit_many` wait at the high-water mark; `accept` is for
gateways, and refuses there.
"""

import asyncio
from collections.abc import Iterable

from ...events.decide.inputs import Accepted
from ...events.errors import Overloaded
from ...events.model.event import Event
from .admission import EngineAdmission
from .handle_table import HandleTable
from .handles import RunHandle
from .lifecycle import Lifecycle, Phase
from .replies import PendingReplies

__all__ = ["EventSubmission"]


class EventSubmission:
    """Emits events, one or many, and accepts those of a gateway."""

    def __init__(
        self, admission: EngineAdmission, replies: PendingReplies, handles: HandleTable, lifecycle: Lifecycle
    ) -> None:
        self._admission = admission
        self._replies = replies
        self._handles = handles
        self._lifecycle = lifecycle

    async def emit(self, event: Event, pipeline: str | None, key: str | None) -> RunHandle:
        """Start a run."""
        loop = self._lifecycle.callers_loop()
        entry = self._admission.emit(event, pipeline, key=key)
        handle = self._handles.new(entry.run_id)
        while True:
            entry.reply = future = loop.create_future()
            self._replies.post(entry, future)
            try:
                await future
            except Overloaded as error:
                await self._pause(error)
            else:
                return handle

    async def emit_many(self, events: Iterable[Event], pipeline: str | None) -> list[RunHandle]:
        """Start a run for each event."""
        self._lifecycle.callers_loop()
        entries = [self._admission.emit(event, pipeline) for event in events]
        handles = [self._handles.new(entry.run_id) for entry in entries]
        while entries:
            entries = await self._replies.post_bundle(entries)
            if entries:
                await self._pause(Overloaded("the engine is at its high-water mark"))
        return handles

    async def accept(
        self, pipeline: str, event: Event, *, key: str | None, source: str, sender_id: str | None, digest: bytes
    ) -> Accepted:
        """Accept an event for a gateway."""
        future: asyncio.Future[Accepted] = self._lifecycle.callers_loop().create_future()
        entry = self._admission.emit(
            event, pipeline, key=key, source=source, sender_id=sender_id, digest=digest, reply=future
        )
        self._replies.post(entry, future)
        return await future

    async def _pause(self, error: Overloaded) -> None:
        """Wait before an event is offered again; raises the error if the engine takes no more events."""
        if self._lifecycle.phase is not Phase.READY:
            raise error
        await asyncio.sleep(error.retry_after_seconds)
