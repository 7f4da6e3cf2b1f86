"""LocalEngine: the engine in one process without Ray: the same decider, loop and records, and a clock that you turn.

Rules: it is product code, for users' tests and for ours. Everything happens in the caller's event loop, so a test is
deterministic as far as its steps are. Sync steps run in the loop itself and block it; their timeouts cannot be enforced
here. Messages between partition and workers are packed as they are between processes.
"""

import asyncio
import os
from os import PathLike
from typing import Any

from ..cluster.clock import Clock
from ..cluster.log.open import open_log
from ..events.decide.core import Limits
from ..events.errors import EnsueError
from ..events.pipelines.pipeline import Pipeline
from ..events.views.health_tree import TreeNode, node
from .client.engine_api import EngineApi
from .client.lifecycle import Phase
from .client.run_queries import earlier_events
from .partition.loop import Partition
from .partition.recovery import recover
from .transport.messages import Tag
from .worker.local_runtime import LocalRuntime
from .worker.step_logger import LogLine

__all__ = ["LocalEngine", "ManualClock"]

_START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


class ManualClock:
    """A clock that stands still until it is turned; it starts at 2026-01-01T00:00:00Z by default."""

    def __init__(self, start_us: int = _START_US) -> None:
        self._now_us = start_us

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return self._now_us

    def advance(self, seconds: float) -> None:
        """Turn the clock forward."""
        self._now_us += int(seconds * 1_000_000)


class LocalEngine(EngineApi):
    """An engine in this process, for tests: `async with LocalEngine(pipeline) as engine:`.

    store: `memory://`, a SQLite URL, or the path of a SQLite file.
    clock: by default one that stands still; `advance` turns it and lets happen what is then due.
    skip_time: while a caller waits for a result and nothing but a timer is ahead, the clock jumps to it.

    `log_lines` collects what steps said to `ctx.log`.
    """

    def __init__(
        self,
        *pipelines: Pipeline,
        store: str | PathLike[str] = "memory://",
        clock: Clock | None = None,
        skip_time: bool = True,
        limits: Limits | None = None,
    ) -> None:
        chosen = clock or ManualClock()
        advance = chosen.advance if skip_time and isinstance(chosen, ManualClock) else None
        self._runtime = LocalRuntime(chosen, advance)
        super().__init__(pipelines, store, chosen, backend=self._runtime, on_message=self._on_message)
        self._limits = limits
        self.log_lines: list[LogLine] = []

    async def start(self) -> None:
        """Open the log and resume what it holds. Raises `LogUnavailable`."""
        log = open_log(self.store)
        try:
            self._log.log = log
            self._log.take_over("local", lambda log: self._served.define_in(log, self._clock.now_us()))
            decider = recover(log, self._log.epoch, self._served.plans, self._limits).decider
        except BaseException:
            log.close()
            raise
        partition = Partition(
            decider, log, self._log.epoch, links=self._runtime, watcher=self._relay, clock=self._clock
        )
        self._runtime.connect(
            partition, query=self._earlier_events, is_awaited=self._is_awaited, on_failure=self._on_failure
        )
        self._lifecycle.loop = asyncio.get_running_loop()
        self._lifecycle.phase = Phase.READY
        self._runtime.start(list(self.pipelines.values()))

    async def stop(self) -> None:
        """Wait until running attempts have ended, and close the log."""
        if self._lifecycle.phase is Phase.FAILED:
            self._close()
        if self._lifecycle.phase is not Phase.READY:
            return
        self._lifecycle.phase = Phase.DRAINING
        await self._runtime.drain()
        try:
            if not self._runtime.has_failed:
                self._log.log.release(self._log.epoch)
        finally:
            self._close()

    def crash(self) -> None:
        """End as after `kill -9`: attempts do not finish, callers get no answer, and only the log remains."""
        self._runtime.abandon()
        self._close()

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and do what is due. Raises `EnsueError` if the clock is not a `ManualClock`."""
        clock = self._clock
        if not isinstance(clock, ManualClock):
            raise EnsueError("only a ManualClock can be moved: LocalEngine(pipeline, clock=ManualClock())")
        clock.advance(seconds)
        self._runtime.wake()

    def now_us(self) -> int:
        """The time on the engine's clock, in microseconds since the epoch."""
        return self._clock.now_us()

    def tree(self) -> TreeNode:
        """The steps; nothing is supervised here, since nothing of it can end alone."""
        pipelines = [
            node("pipeline", name, "up", children=[node("step", step, "up") for step in pipeline.steps])
            for name, pipeline in self.pipelines.items()
        ]
        phase = self._lifecycle.phase
        status = "up" if phase is Phase.READY else "failed" if phase is Phase.FAILED else "down"
        reason = "" if phase is Phase.READY else self.state()
        return node("engine", "engine", status, pid=os.getpid(), reason=reason, children=pipelines)

    async def restart_pipeline(self, name: str, *, who: str = "python") -> None:
        """Nothing to do: no pipeline is given up here. Raises `EnsueError` if no pipeline has this name."""
        del who
        self._served.check_served(name)

    async def idle(self) -> None:
        """Return when nothing can happen without an event from outside or a turn of the clock."""
        while self._runtime.is_busy:  # noqa: ASYNC110 - each pass lets one turn of the loop happen
            await asyncio.sleep(0)

    def _on_message(self, worker: int, tag: int, body: Any) -> None:
        del worker
        if tag == Tag.LOG:
            self.log_lines.append(body)

    def _earlier_events(self, run_id: bytes, type_: str) -> list[Any]:
        return earlier_events(self._log.reader, self._served.plans, run_id, type_)

    def _is_awaited(self) -> bool:
        return any(handle.is_awaited for handle in self._handles.all())

    def _on_failure(self, error: Exception) -> None:
        """A turn of the partition failed: fail all callers, since no run continues."""
        self._lifecycle.fail(error)
        self._fail_pending(error, runs=True)

    def _close(self) -> None:
        self._lifecycle.phase = Phase.STOPPED
        self._runtime.close()
        self._fail_pending(EnsueError("the engine has stopped"), runs=True)
        self._log.reader.close()
        self._log.log.close()
