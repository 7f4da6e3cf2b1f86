"""LocalWorker: a worker in the callers' event loop; it takes and gives packed messages, as between processes.

Rules: sync steps run in the loop itself and block it.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from ...events.model.context import Host
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from .async_executor import TaskExecutor
from .executor import Executor
from .inline_executor import InlineExecutor
from .invoke import Invoker
from .outbox import Outbox
from .step_logger import LogSink
from .worker_core import WorkerCore

__all__ = ["LocalWorker"]

_STOP_GRACE_SECONDS = 30.0


class LocalWorker:
    """One worker of one step.

    send: takes the messages of the worker. query: earlier events of a run. wall: the time, in seconds since the epoch.
    """

    def __init__(
        self,
        number: int,
        pipeline: Pipeline,
        step: Step,
        *,
        send: Callable[[int, list[bytes]], None],
        query: Callable[[bytes, str], list[Any]],
        wall: Callable[[], float],
    ) -> None:
        self.number = number
        self.pipeline = pipeline
        self.step = step
        self._send = send
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._abandoned = False
        self._core = WorkerCore(self._make_executor, self._ring, query=query)
        self._executor, self._outbox = self._core.executor, self._core.outbox
        self.handle = self._core.handle

    @property
    def is_busy(self) -> bool:
        """Whether something runs, is queued or is not sent yet."""
        executor = self._executor
        return bool(executor.queue or executor.running or self._outbox.is_waiting)

    def watch(self) -> None:
        """Cancel attempts that have run out of time."""
        self._executor.watch()

    async def wind_down(self) -> None:
        """Hand back what is queued, wait for running attempts, and close the step."""
        executor = self._executor
        executor.stopping = True
        executor.hand_back()
        tasks: list[Any] = [r.task for r in list(executor.running.values()) if r.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_GRACE_SECONDS)
        await executor.close_step()
        self._flush()

    def abandon(self) -> None:
        """Send no more messages."""
        self._abandoned = True
        self._core.abandon()

    def _make_executor(self, host: Host, sink: LogSink, outbox: Outbox) -> Executor:
        make = TaskExecutor if self.step.style.startswith("async") else InlineExecutor
        executor = make(Invoker(self.step, self.pipeline.registry, host, sink), outbox, self._loop)
        executor.wall = self._wall
        return executor

    def _ring(self) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._flush)
        else:  # a step may report its progress from a thread of its own
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        messages = self._outbox.take()
        if messages and not self._abandoned:
            self._send(self.number, messages)
