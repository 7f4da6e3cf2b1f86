"""TaskExecutor: runs async steps in one event loop, a task for each delivery.

Rules: at most `concurrency` tasks at once. A cancelled task that does not end in its grace is stuck, and so is a step
that blocks the loop: the lane's thread sees both, since it runs no user code.
"""

import asyncio
import threading
from contextvars import Context
from typing import Any

from ...events.decide.inputs import Completion, CompletionKind
from .executor import Executor, Running, max_ahead
from .invoke import Invoker, Item
from .outbox import Outbox

__all__ = ["TaskExecutor"]


class TaskExecutor(Executor):
    """Runs coroutines and async generators, in the given loop or in a new one with a thread of its own."""

    def __init__(self, invoker: Invoker, outbox: Outbox, loop: asyncio.AbstractEventLoop | None = None) -> None:
        super().__init__(invoker, outbox)
        self._streams = invoker.step.style.endswith("stream")
        self._scheduled = False
        self._flushing = False
        self._thread: threading.Thread | None = None
        self.loop = loop or asyncio.new_event_loop()
        if loop is None:
            self._thread = threading.Thread(target=self._serve, name=f"step-{invoker.step.name}", daemon=True)
            self._thread.start()

    def report(self, completion: Completion) -> None:
        """Report what became of an attempt, together with what else ends in this turn of the loop."""
        self.outbox.put(completion)
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def submit(self, items: list[Item]) -> None:
        self.queue.extend(items)
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon_threadsafe(self._start_tasks)

    def nudge(self) -> None:
        """Tasks start their successors; there is nothing to add."""

    def interrupt(self, running: Running) -> bool:
        # In two hops: a task that is cancelled before its first step would end without a completion.
        self.loop.call_soon_threadsafe(self.loop.call_soon, self._cancel_task, running)
        return True

    def resume_stream(self, running: Running) -> None:
        self.loop.call_soon_threadsafe(self._wake, running)

    def close(self, grace_seconds: float) -> None:
        self.stopping = True
        self.hand_back()
        if self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._wind_down(grace_seconds), self.loop).result(grace_seconds + 10.0)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def _start_tasks(self) -> None:
        self._scheduled = False
        while len(self.running) < self.concurrency and (item := self.take()) is not None:
            now = self.monotonic()
            running = Running(item, now, now, credit=item[5])
            self.running[item[0]] = running
            attempt = self._stream(running) if self._streams else self._run(running)
            running.task = self.loop.create_task(attempt, context=Context())

    def _flush(self) -> None:
        self._flushing = False
        self.outbox.flush()

    def _ended(self) -> None:
        if self.queue and not self.stopping:
            self._start_tasks()

    async def _run(self, running: Running) -> None:
        item = running.item
        try:
            function, arguments = self.invoker.call(item, self.wall())
            result = await function(**arguments)
            duration_us = int((self.monotonic() - running.started) * 1e6)
            completion = self.invoker.done(item, result, duration_us)
        except BaseException as error:  # noqa: BLE001 - every end of an attempt is reported, cancellation included
            self.raised(running, error)
        else:
            self.finished(running, completion)
        self._ended()

    async def _stream(self, running: Running) -> None:
        try:
            await self._iterate(running)
        except BaseException as error:  # noqa: BLE001 - as in `_run`
            self.raised(running, error)
        else:
            duration_us = int((self.monotonic() - running.started) * 1e6)
            self.finished(running, self.invoker.streamed(running, duration_us))
        self._ended()

    async def _iterate(self, running: Running) -> None:
        running.wake = asyncio.Event()
        function, arguments = self.invoker.call(running.item, self.wall())
        index = -1
        async for event in function(**arguments):
            running.touched = self.monotonic()
            if event is None:
                continue
            index += 1
            running.emitted = index + 1
            output = self.invoker.output(event, many=True)
            self.outbox.add([CompletionKind.STREAM, running.item[0], index, [output]])
            ahead = max_ahead(output)
            while index - running.credit >= ahead:
                running.paused = True
                running.wake.clear()
                await running.wake.wait()
                running.touched = self.monotonic()
                running.paused = False

    def _cancel_task(self, running: Running) -> None:
        if running.task is not None:
            running.task.cancel()

    @staticmethod
    def _wake(running: Running) -> None:
        if running.wake is not None:
            running.wake.set()

    async def _wind_down(self, grace_seconds: float) -> None:
        tasks: list[Any] = [r.task for r in list(self.running.values()) if r.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
        await self.close_step()
