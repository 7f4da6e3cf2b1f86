"""PendingReplies: the futures of callers that wait for the partition to answer.

Rules: every future is answered, or fails when the engine does. Futures belong to the callers' event loop.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

from ...events.decide.commands import Answer
from ...events.decide.inputs import Emit, Input
from ...events.errors import Overloaded
from .backend import Backend
from .lifecycle import Lifecycle

__all__ = ["Bundle", "PendingReplies"]


class PendingReplies:
    """What callers wait for, from the input that they posted to the answer."""

    def __init__(self, backend: Backend, lifecycle: Lifecycle) -> None:
        self._backend = backend
        self._lifecycle = lifecycle
        self._pending: set[asyncio.Future[Any]] = set()

    def future(self) -> asyncio.Future[Any]:
        """A future in the callers' event loop. Raises `EnsueError` if this is another one, or before the start."""
        return self._lifecycle.callers_loop().create_future()

    def post(self, entry: Input, future: asyncio.Future[Any]) -> None:
        """Post an input whose reply this future is. Raises `Overloaded` if the engine takes nothing now."""
        self._lifecycle.check_takes_events()
        self._pending.add(future)
        self._backend.post_all([entry])

    async def post_bundle(self, entries: list[Emit]) -> list[Emit]:
        """Post events together and wait for all answers; returns those that were refused at the high-water mark."""
        bundle = Bundle(entries, asyncio.get_running_loop().create_future())
        self._lifecycle.check_takes_events()
        self._pending.add(bundle.future)
        self._backend.post_all(entries)
        await bundle.future
        return bundle.refused

    def settle(self, answers: list[Answer]) -> None:
        """Give callers their answers."""
        for reply, value in answers:
            if type(reply) is tuple:
                self._settle_bundled(*cast("tuple[Bundle, Emit]", reply), value)
            else:
                self._settle_one(reply, value)

    def fail(self, error: Exception) -> None:
        """Fail everything that waits."""
        pending, self._pending = self._pending, set()
        for future in pending:
            if not future.done():
                future.set_exception(error)

    def _settle_one(self, reply: asyncio.Future[Any], value: object) -> None:
        self._pending.discard(reply)
        if reply.done():
            return
        if isinstance(value, Exception):
            reply.set_exception(value)
        else:
            reply.set_result(value)

    def _settle_bundled(self, bundle: "Bundle", entry: Emit, value: object) -> None:
        if bundle.take(entry, value):
            self._pending.discard(bundle.future)


class Bundle:
    """Events that are emitted together, and one future for the answers to all of them."""

    __slots__ = ("_left", "future", "refused")

    def __init__(self, entries: Sequence[Emit], future: asyncio.Future[None]) -> None:
        self.future = future
        self.refused: list[Emit] = []
        self._left = len(entries)
        for entry in entries:
            entry.reply = (self, entry)

    def take(self, entry: Emit, value: object) -> bool:
        """Take the answer to one of them; True if it was the last."""
        self._left -= 1
        if isinstance(value, Overloaded):
            self.refused.append(entry)
        elif isinstance(value, Exception) and not self.future.done():
            self.future.set_exception(value)
        if self._left == 0 and not self.future.done():
            self.future.set_result(None)
        return self._left == 0
