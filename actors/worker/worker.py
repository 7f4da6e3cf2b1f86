"""Worker: the process that runs one step's code under Ray; replicas of a step are more such processes.

Rules: the thread of the lane never runs user code, so a worker answers whatever its step does.
"""

import os
import resource
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...events.model.codec import pack
from ...events.model.context import Host
from ...events.model.event import Event
from ...events.model.registry import Registry
from ...events.pipelines.step import CallStyle, Step
from ..supervision.long_poll import CompletionLatch
from ..transport.messages import Tag
from .async_executor import TaskExecutor
from .executor import Executor
from .invoke import Invoker
from .outbox import Outbox
from .stdout_capture import forward_prints
from .step_logger import LogSink
from .thread_executor import ThreadExecutor
from .worker_core import WorkerCore

__all__ = ["Worker", "make_worker_core"]

_WATCH_SECONDS = 0.25
_NUDGE_SECONDS = 0.002
_ALIVE_SECONDS = 2.0
_STOP_GRACE_SECONDS = 30.0
_OWN_BYTES = 32 * 1024 * 1024
_OWN_THREADS = 12
_STACK_BYTES = 8 * 1024 * 1024


class Worker:
    """The lane, the control calls and the process around a `WorkerCore`.

    Threaded: `serve` holds one thread for life, the rest are control calls.
    """

    def __init__(self, worker: int, step: Step, models: list[type[Event]]) -> None:
        self._worker = worker
        self._bell = threading.Event()
        self._ring: Callable[[], None] = self._bell.set
        self._stopping = CompletionLatch()
        _limit_memory(step)
        self._core = make_worker_core(step, models, self._wake, on_stop=self._stopping.end)
        forward_prints(self._core.log, step.name)
        self._last_nudge = 0.0
        self._closed = False

    def _wake(self) -> None:
        self._ring()

    def hello(self) -> tuple[str, int]:
        """The Ray node that this worker is on, and its process id: it is ready."""
        import ray  # noqa: PLC0415 - only a worker that runs under Ray needs it

        return ray.get_runtime_context().get_node_id(), os.getpid()

    def serve(self, address: str) -> str:
        """Talk to the partition over a local socket until told to stop; returns why it ended."""
        from ..transport.zmq_lane import WorkerSocket  # noqa: PLC0415 - a worker on another node has no use for it

        outbox, executor = self._core.outbox, self._core.executor
        with WorkerSocket(address, self._worker) as socket:
            self._ring = socket.ring
            socket.greet(_hello(self._worker))
            outbox.send = socket.send
            sent = time.monotonic()
            while not self._stopping.over:
                for message in socket.receive(self._pause_seconds()):
                    self._core.handle(message)
                self._check_executor()
                now = time.monotonic()
                if outbox.flush():
                    sent = now
                elif now - sent > _ALIVE_SECONDS:
                    outbox.say(Tag.ALIVE, self._worker)
            executor.close(_STOP_GRACE_SECONDS)
            outbox.flush()
            outbox.send = None
        return "stopped"

    def deliver(self, message: bytes) -> None:
        """Take a message of a partition on another node."""
        self._core.handle(message)

    def collect(self, timeout_seconds: float) -> list[bytes]:
        """What this worker has to say to a partition on another node; waits until there is something."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._bell.clear()
            closed = self._closed
            messages = self._core.outbox.take()
            remaining = deadline - time.monotonic()
            if closed and not messages:  # the partition has all there was
                self._stopping.end()
            if messages or closed or remaining <= 0:
                return messages or [_alive(self._worker)]
            self._bell.wait(min(remaining, self._pause_seconds()))
            self._check_executor()

    def attend(self) -> str:
        """Return when this worker stops, or when another call attends: the caller also learns of its death."""
        return self._stopping.wait()

    def stop(self) -> None:
        """Wind down for a partition on another node; `attend` returns once `collect` has fetched what is left."""
        self._core.executor.close(_STOP_GRACE_SECONDS)
        self._closed = True
        self._bell.set()

    def _pause_seconds(self) -> float:
        return _NUDGE_SECONDS if self._core.executor.queue else _WATCH_SECONDS

    def _check_executor(self) -> None:
        executor = self._core.executor
        now = time.monotonic()
        if executor.queue and now - self._last_nudge >= _NUDGE_SECONDS:
            self._last_nudge = now
            executor.nudge()
        executor.watch()


def make_worker_core(
    step: Step, models: list[type[Event]], ring: Callable[[], None], *, on_stop: Callable[[], None] | None = None
) -> WorkerCore:
    """The core of a worker in a process of its own."""
    return WorkerCore(partial(_make_executor, step, models), ring, on_stop=on_stop)


def _make_executor(step: Step, models: list[type[Event]], host: Host, sink: LogSink, outbox: Outbox) -> Executor:
    """The executor that fits how the step is called."""
    invoker = Invoker(step, Registry(models), host, sink)
    if step.style in (CallStyle.ASYNC, CallStyle.ASYNC_STREAM):
        return TaskExecutor(invoker, outbox)
    return ThreadExecutor(invoker, outbox)


def _hello(worker: int) -> bytes:
    return pack([int(Tag.HELLO), [worker, os.getpid()]])


def _alive(worker: int) -> bytes:
    return pack([int(Tag.ALIVE), worker])


def _limit_memory(step: Step) -> None:
    """Give a step that claims memory that much beyond what the process has now: more is a `MemoryError`."""
    claimed = step.resources.memory_bytes
    if claimed is None:
        return
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    used = next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData")), 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    own = _OWN_BYTES + (_OWN_THREADS + step.concurrency) * _STACK_BYTES  # the kernel also counts stacks that stay empty
    resource.setrlimit(resource.RLIMIT_DATA, (used + own + claimed, hard))
