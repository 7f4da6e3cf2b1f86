"""The same engine in one process without Ray: the same core, the same loop, the same records, a clock that you turn.

Rules: product code, for users' tests and for ours. Everything happens in the caller's event loop, so a test is
deterministic as far as its steps are. Sync steps run in the loop itself and block it; their timeouts cannot be
enforced here. Messages between partition and workers are packed as they would be between processes.
"""

import asyncio
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ..cluster.clock import Clock
from ..cluster.log.open import open_log
from ..events.decide.core import Limits
from ..events.decide.inputs import Input, WorkerDown, WorkerUp
from ..events.errors import EnsueError
from ..events.model.codec import decode
from ..events.model.event import Event
from ..events.pipelines.pipeline import Pipeline
from ..events.pipelines.step import Step
from ..events.views.health_tree import TreeNode, node
from .client.engine_api import EngineApi
from .client.run_queries import earlier_events
from .partition.loop import Partition
from .partition.recovery import recover
from .transport.messages import Tag, unpack_message
from .worker.async_executor import TaskExecutor
from .worker.inline_executor import InlineExecutor
from .worker.invoke import Invoker
from .worker.outbox import Outbox
from .worker.seen_deliveries import SeenDeliveries
from .worker.step_logger import LogLine

__all__ = ["LocalEngine", "ManualClock"]

T = TypeVar("T")
E = TypeVar("E", bound=Event)
_START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
_WATCH_SECONDS = 0.02


class ManualClock:
    """A clock that stands still until it is turned. `now_seconds` starts at 2026-01-01T00:00:00Z by default."""

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

    store: `memory://` or a SQLite URL. clock: by default one that stands still; `advance` turns it and lets happen
    what then happens. While a caller waits for a result and nothing but a timer is ahead, the clock jumps to it,
    unless `skip_time` is False. `log_lines` collects what steps said to `ctx.log`.
    """

    def __init__(
        self,
        *pipelines: Pipeline,
        store: str = "memory://",
        clock: Clock | None = None,
        skip_time: bool = True,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(pipelines, store, clock or ManualClock())
        self._skip_time = skip_time
        self._limits = limits
        self._workers: dict[int, LocalWorker] = {}
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._numbers = itertools.count(1)
        self._scheduled = False
        self._watch: asyncio.TimerHandle | None = None
        self.log_lines: list[LogLine] = []

    async def start(self) -> None:
        """Open the log and resume what it holds."""
        self._loop = asyncio.get_running_loop()
        log = open_log(self.store)
        try:
            self._epoch = self._take_over(log, "local")
            decider = recover(log, self._epoch, self._plans, self._limits).decider
        except BaseException:
            log.close()
            raise
        self._partition = Partition(decider, log, self._epoch, links=self, watcher=self, clock=self._clock)
        for pipeline in self.pipelines.values():
            for step in pipeline.steps.values():
                for _ in range(step.replicas):
                    self._add_worker(pipeline, step)
        self._state = "ready"
        self._partition.resume()
        self.wake()

    async def stop(self) -> None:
        """Let what is running come to its end, and close the log."""
        if self._state.startswith("failed"):
            self._close()
        if self._state != "ready":
            return
        self._state = "draining"
        self._partition.decider.draining = True
        for worker in self._workers.values():
            await worker.wind_down()
        self._turn()
        try:
            if not self._state.startswith("failed"):
                self._log.release(self._epoch)
        finally:
            self._close()

    def crash(self) -> None:
        """End as `kill -9` would: nothing is finished, nothing is said; the log is all that is left."""
        for worker in self._workers.values():
            worker.abandon()
        self._close()

    def advance(self, seconds: float) -> None:
        """Turn the clock, and let happen what is then due."""
        clock = self._clock
        if not isinstance(clock, ManualClock):
            raise EnsueError("only a ManualClock can be turned")
        clock.advance(seconds)
        self.wake()

    def now_us(self) -> int:
        """The time on the engine's clock."""
        return self._clock.now_us()

    def tree(self) -> TreeNode:
        """The steps and their workers; nobody supervises them here, since nothing of it can end alone."""
        pipelines = [
            node("pipeline", name, "up", children=[node("step", step, "up") for step in pipeline.steps])
            for name, pipeline in self.pipelines.items()
        ]
        status = "up" if self._state == "ready" else "failed" if self._state.startswith("failed") else "down"
        reason = "" if self._state == "ready" else self._state
        return node("engine", "engine", status, pid=os.getpid(), reason=reason, children=pipelines)

    async def restart_pipeline(self, name: str, *, who: str = "python") -> None:
        """Nothing to do: a pipeline is never given up here."""
        del who
        if name not in self.pipelines:
            raise EnsueError(f"no pipeline {name!r} is served here")

    async def idle(self) -> None:
        """Return when nothing can happen without an event from outside or a turn of the clock."""
        while self._busy():  # noqa: ASYNC110 - each pass lets one turn of the loop happen
            await asyncio.sleep(0)

    # -- Links: how the partition reaches the workers ------------------------------------------------------------------

    def send(self, worker: int, message: bytes) -> None:
        """Pass a message on to a worker."""
        target = self._workers.get(worker)
        if target is not None:
            target.hear(message)
        self._watch_soon()

    def receive(self) -> list[tuple[int, bytes]]:
        """What workers have sent."""
        messages = list(self._arrived)
        self._arrived.clear()
        return messages

    def end(self, worker: int, reason: str) -> None:
        """A step that cannot be interrupted ran out of time: its task is abandoned, and a new worker takes over."""
        old = self._workers.pop(worker)
        old.abandon()
        self._partition.post(WorkerDown(worker, reason, expected=True))
        self._add_worker(old.pipeline, old.step)

    def wait(self, timeout_seconds: float | None) -> None:
        """The event loop waits; the partition never does here."""

    def wake(self) -> None:
        """Turn the partition soon."""
        if not self._scheduled and self._state == "ready":
            self._scheduled = True
            self._loop.call_soon(self._turn)

    # -- Watcher ------------------------------------------------------------------------------------------------------

    def hear(self, worker: int, tag: int, body: Any) -> None:
        """What a worker says besides completions."""
        if tag == Tag.LOG:
            self.log_lines.append(body)
        elif tag == Tag.PROGRESS:
            self._note_progress(worker, body)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _post_all(self, entries: Sequence[Input]) -> None:
        self._partition.post_all(entries)
        self.wake()

    async def _aside(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)

    def _add_worker(self, pipeline: Pipeline, step: Step) -> None:
        number = next(self._numbers)
        self._workers[number] = LocalWorker(number, pipeline, step, self)
        self._partition.post(WorkerUp(number, pipeline.name, step.name, step.concurrency))
        self.wake()

    def arrived(self, worker: int, messages: list[bytes]) -> None:
        """A worker has something to say."""
        self._arrived.extend((worker, message) for message in messages)
        self.wake()

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run."""
        found = earlier_events(self._reader, self._plans, run_id, model.__event_type__)
        return [decode(model, data, version) for version, data in found]

    def _turn(self) -> None:
        self._scheduled = False
        if self._state not in ("ready", "draining"):
            return
        try:
            self._partition.turn()
        except Exception as error:  # noqa: BLE001 - whatever it is, callers must hear of it
            self._state = f"failed: {error}"
            self._fail_waiting(error)
            for handle in list(self._handles.values()):
                handle.fail(error)
            return
        if not self._busy():
            self._skip()

    def _busy(self) -> bool:
        return (
            self._scheduled
            or bool(self._arrived)
            or self._partition.has_inputs
            or any(worker.busy for worker in self._workers.values())
        )

    def _skip(self) -> None:
        """Nothing but a timer is ahead: go there, where somebody waits for a result."""
        clock, due_us = self._clock, self._partition.due_us
        awaited = any(handle.is_awaited for handle in list(self._handles.values()))
        if due_us is not None and awaited and self._skip_time and isinstance(clock, ManualClock):
            clock.advance(max(0, due_us - clock.now_us()) / 1e6 + 1e-6)
            self.wake()

    def _settle_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon(callback, *arguments)

    def result_awaited(self) -> None:
        """A caller began to wait for a result."""
        self.wake()
        self._loop.call_soon(self._skip_if_idle)

    def _skip_if_idle(self) -> None:
        if self._state == "ready" and not self._busy():
            self._skip()

    def _watch_soon(self) -> None:
        if self._watch is None and self._state == "ready":
            self._watch = self._loop.call_later(_WATCH_SECONDS, self._watch_workers)

    def _watch_workers(self) -> None:
        self._watch = None
        for worker in list(self._workers.values()):
            worker.executor.watch()
        if any(worker.busy for worker in self._workers.values()):
            self._watch_soon()

    def _close(self) -> None:
        self._state = "stopped"
        if self._watch is not None:
            self._watch.cancel()
        self._fail_waiting(EnsueError("the engine has stopped"))
        self._reader.close()
        self._log.close()


class LocalWorker:
    """A worker in the caller's event loop: it hears packed messages and answers with packed messages."""

    def __init__(self, number: int, pipeline: Pipeline, step: Step, engine: LocalEngine) -> None:
        self.number = number
        self.pipeline = pipeline
        self.step = step
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._seen = SeenDeliveries()
        self.outbox = Outbox(self._ring)
        self.outbox.leaving = self._seen.answered
        invoker = Invoker(step, pipeline.registry, self, lambda line: self.outbox.say(Tag.LOG, line))
        make = TaskExecutor if step.style.startswith("async") else InlineExecutor
        self.executor = make(invoker, self.outbox, self._loop)
        self.executor.wall = lambda: engine.now_us() / 1e6
        self._abandoned = False

    @property
    def busy(self) -> bool:
        """Whether it has something to do."""
        return bool(self.executor.queue or self.executor.running or self.outbox.is_waiting)

    def hear(self, message: bytes) -> None:
        """Take a message of the partition."""
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            fresh = self._seen.fresh(body)
            if fresh:
                self.executor.submit(fresh)
        elif tag == Tag.CREDIT:
            self.executor.credit(body[0], body[1])
        elif tag == Tag.CANCEL:
            self.executor.cancel(body)
        elif tag == Tag.RECALL:
            self.executor.recall(body)
        elif tag == Tag.INQUIRE:
            missing = self._seen.missing(body)
            if missing:
                self.outbox.say(Tag.MISSING, missing)

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run."""
        return self._engine.earlier(run_id, model)

    def progress(self, token: int, done: float, total: float) -> None:
        """Pass on how far a step is."""
        self.executor.heartbeat(token)
        self.outbox.say(Tag.PROGRESS, [token, done, total])

    def heartbeat(self, token: int) -> None:
        """Renew a step's time."""
        self.executor.heartbeat(token)

    async def wind_down(self) -> None:
        """Hand back what is queued, wait for what runs, and close the step."""
        self.executor.stopping = True
        self.executor.hand_back()
        tasks: list[Any] = [r.task for r in list(self.executor.running.values()) if r.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=30.0)
        await self.executor.close_step()
        self._flush()

    def abandon(self) -> None:
        """Say nothing any more."""
        self._abandoned = True
        self.executor.queue.clear()
        for running in list(self.executor.running.values()):
            if running.task is not None:
                running.task.cancel()

    def _ring(self) -> None:
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._flush)
        else:  # a step may report its progress from a thread of its own
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        messages = self.outbox.take()
        if messages and not self._abandoned:
            self._engine.arrived(self.number, messages)
