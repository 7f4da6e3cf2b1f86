"""InlineExecutor: runs sync steps in the event loop itself, one call after another, for engines in one process."""

import asyncio
import time
from contextvars import Context

from ...events.decide.inputs import CompletionKind
from .executor import Executor, Running
from .invoke import Invoker, Item
from .outbox import Outbox

__all__ = ["InlineExecutor"]


class InlineExecutor(Executor):
    """Runs sync functions and generators in the loop: deterministic, and blocking."""

    def __init__(self, invoker: Invoker, outbox: Outbox, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(invoker, outbox)
        self._loop = loop
        self._streams = invoker.step.style.endswith("stream")

    def submit(self, items: list[Item]) -> None:
        self.queue.extend(items)
        self._loop.call_soon(self._next)

    def nudge(self) -> None:
        """Each call schedules the next; there is nothing to add."""

    def interrupt(self, running: Running) -> bool:
        """A call cannot be interrupted; the result of one that is cancelled is dropped."""
        return running.cancelled

    def resume_stream(self, running: Running) -> None:
        """A generator never waits: the loop cannot go on before it ends."""

    def close(self, grace_seconds: float) -> None:  # noqa: ARG002 - nothing runs between two calls
        self.stopping = True
        self.hand_back()

    def _next(self) -> None:
        if not self.queue or self.stopping:
            return
        item = self.queue.popleft()
        now = time.monotonic()
        running = Running(item, now, now)
        self.running[item[0]] = running
        asyncio._set_running_loop(None)  # noqa: SLF001 - a plain function sees no event loop, as in a worker's thread
        try:
            Context().run(self._run, running)
        except BaseException as error:  # noqa: BLE001 - every end of an attempt is reported
            self.raised(running, error)
        finally:
            asyncio._set_running_loop(self._loop)  # noqa: SLF001 - as above
        self._loop.call_soon(self._next)

    def _run(self, running: Running) -> None:
        item = running.item
        function, arguments = self.invoker.call(item, self.wall())
        result = function(**arguments)
        if self._streams:
            for index, event in enumerate(e for e in result if e is not None):
                running.emitted = index + 1
                self.outbox.add([CompletionKind.STREAM, item[0], index, [self.invoker.output(event, many=True)]])
            result_of = self.invoker.streamed(running, _since(running))
        else:
            result_of = self.invoker.done(item, result, _since(running))
        self.finished(running, result_of)


def _since(running: Running) -> int:
    return int((time.monotonic() - running.started) * 1e6)
