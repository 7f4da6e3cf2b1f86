"""Worker: the Ray actor that runs one step's code. One process, one step; replicas are more of it.

Rules: the thread of the lane never runs user code, so a worker answers whatever its step does. A worker keeps nothing:
it may die at any time, and the partition gives its deliveries to another.
"""

import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ...events.model.codec import decode, pack
from ...events.model.event import Event
from ...events.model.registry import Registry
from ...events.pipelines.step import CallStyle, Step
from ..supervision.long_poll import CompletionLatch
from ..transport.messages import Tag, unpack_message
from .async_executor import TaskExecutor
from .executor import Executor
from .invoke import Invoker, Item
from .log_queries import Questions
from .outbox import Outbox
from .seen_deliveries import SeenDeliveries
from .stdout_capture import forward_prints
from .step_logger import LogLine
from .thread_executor import ThreadExecutor

__all__ = ["Worker", "WorkerCore", "make_executor"]

E = TypeVar("E", bound=Event)
_WATCH_SECONDS = 0.25
_NUDGE_SECONDS = 0.002
_ALIVE_SECONDS = 2.0
_STOP_GRACE_SECONDS = 30.0
_OWN_BYTES = 32 * 1024 * 1024
_OWN_THREADS = 12
_STACK_BYTES = 8 * 1024 * 1024


class WorkerCore:
    """A worker without its lane: messages go in, messages come out. It is the `Host` of its step's contexts."""

    def __init__(self, step: Step, models: list[type[Event]], ring: Callable[[], None]) -> None:
        _limit_memory(step)
        self.outbox = Outbox(ring)
        self.executor = make_executor(Invoker(step, Registry(models), self, self.log), self.outbox)
        self.stopping = CompletionLatch()
        self._seen = SeenDeliveries()
        self.outbox.leaving = self._seen.answered
        self._hearing = threading.Lock()  # a lane of Ray calls brings several messages at once
        self._questions = Questions(self.outbox.say)

    def hear(self, message: bytes) -> None:
        """Take a message of the partition."""
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self._delivered(body)
        elif tag == Tag.CREDIT:
            self.executor.credit(body[0], body[1])
        elif tag == Tag.CANCEL:
            self.executor.cancel(body)
        elif tag == Tag.RECALL:
            self.executor.recall(body)
        elif tag == Tag.ANSWER:
            self._questions.answered(body)
        elif tag == Tag.INQUIRE:
            self._inquired(body)
        elif tag == Tag.STOP:
            self.stopping.end()

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run, asked of the partition's node."""
        found = self._questions.ask(run_id, model.__event_type__)
        return [decode(model, data, version) for version, data in found]

    def progress(self, token: int, done: float, total: float) -> None:
        """Pass on how far a step is."""
        self.executor.heartbeat(token)
        self.outbox.say(Tag.PROGRESS, [token, done, total])

    def heartbeat(self, token: int) -> None:
        """Renew a step's time."""
        self.executor.heartbeat(token)

    def _delivered(self, items: list[Item]) -> None:
        with self._hearing:
            fresh = self._seen.fresh(items)
        if fresh:
            self.executor.submit(fresh)
        if self.executor.stopping:
            self.executor.hand_back()

    def _inquired(self, tokens: list[int]) -> None:
        with self._hearing:
            missing = self._seen.missing(tokens)
        if missing:
            self.outbox.say(Tag.MISSING, missing)

    def log(self, line: LogLine) -> None:
        """Pass on what a step says."""
        self.outbox.say(Tag.LOG, line)


class Worker:
    """The Ray actor around a `WorkerCore`. Threaded: `serve` holds one thread for life, the rest are control calls."""

    def __init__(self, worker: int, step: Step, models: list[type[Event]]) -> None:
        self._worker = worker
        self._bell = threading.Event()
        self._ring: Callable[[], None] = self._bell.set
        self._core = WorkerCore(step, models, self._wake)
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
            spoke = time.monotonic()
            while not self._core.stopping.over:
                for message in socket.receive(self._pause_seconds()):
                    self._core.hear(message)
                self._tend()
                now = time.monotonic()
                if outbox.flush():
                    spoke = now
                elif now - spoke > _ALIVE_SECONDS:
                    outbox.say(Tag.ALIVE, self._worker)
            executor.close(_STOP_GRACE_SECONDS)
            outbox.flush()
            outbox.send = None
        return "stopped"

    def deliver(self, message: bytes) -> None:
        """Take a message of a partition on another node."""
        self._core.hear(message)

    def collect(self, timeout_seconds: float) -> list[bytes]:
        """What this worker has to say to a partition on another node; waits until there is something."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            self._bell.clear()
            closed = self._closed
            messages = self._core.outbox.take()
            remaining = deadline - time.monotonic()
            if closed and not messages:  # whoever asks has all there was
                self._core.stopping.end()
            if messages or closed or remaining <= 0:
                return messages or [_alive(self._worker)]
            self._bell.wait(min(remaining, self._pause_seconds()))
            self._tend()

    def attend(self) -> str:
        """Return when this worker stops, or when somebody else asks: whoever waits on it learns of its death."""
        return self._core.stopping.wait()

    def stop(self) -> None:
        """Wind down for a partition on another node; `attend` returns when `collect` has fetched what is left to say."""
        self._core.executor.close(_STOP_GRACE_SECONDS)
        self._closed = True
        self._bell.set()

    def _pause_seconds(self) -> float:
        return _NUDGE_SECONDS if self._core.executor.queue else _WATCH_SECONDS

    def _tend(self) -> None:
        executor = self._core.executor
        now = time.monotonic()
        if executor.queue and now - self._last_nudge >= _NUDGE_SECONDS:
            self._last_nudge = now
            executor.nudge()
        executor.watch()


def make_executor(invoker: Invoker, outbox: Outbox) -> Executor:
    """The executor that fits how the step is called."""
    if invoker.step.style in (CallStyle.ASYNC, CallStyle.ASYNC_STREAM):
        return TaskExecutor(invoker, outbox)
    return ThreadExecutor(invoker, outbox)


def _hello(worker: int) -> bytes:
    return pack([int(Tag.HELLO), [worker, os.getpid()]])


def _alive(worker: int) -> bytes:
    return pack([int(Tag.ALIVE), worker])


def _limit_memory(step: Step) -> None:
    """Let a step that claims memory have that much beyond what the process has now: more is a `MemoryError`."""
    claimed = step.resources.memory_bytes
    if claimed is None:
        return
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    used = next((int(line.split()[1]) * 1024 for line in status if line.startswith("VmData")), 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    own = _OWN_BYTES + (_OWN_THREADS + step.concurrency) * _STACK_BYTES  # the kernel counts stacks that nobody fills
    resource.setrlimit(resource.RLIMIT_DATA, (used + own + claimed, hard))
