"""ThreadedBackend: the callers' event loop and the thread of a partition, connected in both directions.

Rules: all that callers emit in one turn of their event loop becomes one batch. Inputs that come before there is a
partition are kept for the first one.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ...cluster.clock import Clock
from ...events.decide.inputs import Input
from ...events.policies.breaker import BreakerView
from ..partition.loop import Partition

__all__ = ["ThreadedBackend"]

T = TypeVar("T")


class ThreadedBackend:
    """The `Backend` of an engine whose partition has a thread of its own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._partition: Partition | None = None
        self._outgoing: list[Input] = []
        self._early: list[Input] = []
        self._gate = threading.Lock()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """An engine starts: callers live in this event loop, and there is no partition yet."""
        self._loop = loop
        self._partition = None
        self._outgoing, self._early = [], []

    def connect(self, partition: Partition) -> None:
        """Send inputs to this partition from now on, those that were kept first; from any thread."""
        with self._gate:
            early, self._early = self._early, []
            partition.post_all(early)
            self._partition = partition

    def post(self, entry: Input) -> None:
        """Tell the partition; from any thread."""
        self._deliver([entry])

    def post_all(self, entries: Sequence[Input]) -> None:
        """Tell the partition, together with what else is posted in this turn of the event loop."""
        if not self._outgoing:
            self._event_loop.call_soon(self._flush)
        self._outgoing.extend(entries)

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Call something in the event loop; from any thread."""
        self._event_loop.call_soon_threadsafe(callback, *arguments)

    async def read(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call something that reads the disk, in a thread."""
        return await asyncio.to_thread(function, *arguments)

    def breakers(self) -> list[BreakerView]:
        """The circuit breakers as the partition last published them."""
        partition = self._partition
        return [] if partition is None else partition.breakers(self._clock.now_us())

    def result_awaited(self) -> None:
        """Nothing to do: the partition turns by itself."""

    @property
    def _event_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None  # noqa: S101 - `open` set it before anything was emitted
        return self._loop

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        self._deliver(outgoing)

    def _deliver(self, entries: list[Input]) -> None:
        partition = self._partition
        if partition is None:
            with self._gate:
                if self._partition is None:
                    self._early += entries
                    return
                partition = self._partition
        partition.post_all(entries)
