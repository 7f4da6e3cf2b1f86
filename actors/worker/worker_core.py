"""WorkerCore: a worker without its lane, its clock and its threads: messages go in, messages come out.

Rules: it is the one core of the Ray worker, the local one and the simulated one. Its executor owns clock and threads.
It keeps nothing that matters: a worker may die at any time, and its deliveries go to another.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from ...events.model.codec import decode
from ...events.model.context import Host
from ...events.model.event import Event
from ..transport.messages import Tag, unpack_message
from .executor import Executor
from .invoke import Item
from .log_queries import Questions
from .outbox import Outbox
from .seen_deliveries import SeenDeliveries
from .step_logger import LogLine, LogSink

__all__ = ["ExecutorFactory", "WorkerCore"]

E = TypeVar("E", bound=Event)


class ExecutorFactory(Protocol):
    """Makes the executor of a worker, with the clock and the threads that it runs on."""

    def __call__(self, host: Host, sink: LogSink, outbox: Outbox) -> Executor:
        """The executor; `host` and `sink` are for the contexts of its steps."""
        ...


class WorkerCore:
    """Takes a partition's messages, runs deliveries, and answers. It is the `Host` of its step's contexts.

    ring: wakes the lane, which then takes what is in the outbox.
    on_stop: called when the partition tells the worker to stop.
    query: asks for earlier events of a run (run id, type); None asks the partition's node over the lane.
    """

    def __init__(
        self,
        make_executor: ExecutorFactory,
        ring: Callable[[], None],
        *,
        on_stop: Callable[[], None] | None = None,
        query: Callable[[bytes, str], list[Any]] | None = None,
    ) -> None:
        self.outbox = Outbox(ring)
        self.executor = make_executor(self, self.log, self.outbox)
        self._seen = SeenDeliveries()
        self.outbox.on_taken = self._seen.mark_answered
        self._lock = threading.Lock()  # a lane of Ray calls brings several messages at once
        self._questions = Questions(self.outbox.say)
        self._query = query or self._questions.ask
        self._on_stop = on_stop

    def handle(self, message: bytes) -> None:
        """Take a message of the partition."""
        tag, body = unpack_message(message)
        if tag == Tag.DELIVER:
            self._deliver(body)
        elif tag == Tag.CREDIT:
            self.executor.credit(body[0], body[1])
        elif tag == Tag.CANCEL:
            self.executor.cancel(body)
        elif tag == Tag.RECALL:
            self.executor.recall(body)
        elif tag == Tag.ANSWER:
            self._questions.take_answer(body)
        elif tag == Tag.INQUIRE:
            self._report_missing(body)
        elif tag == Tag.STOP and self._on_stop is not None:
            self._on_stop()

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of a run."""
        events = self._query(run_id, model.__event_type__)
        return [decode(model, data, version) for version, data in events]

    def progress(self, token: int, done: float, total: float) -> None:
        """Pass on how far a step is; that renews its time."""
        self.executor.heartbeat(token)
        self.outbox.say(Tag.PROGRESS, [token, done, total])

    def heartbeat(self, token: int) -> None:
        """Renew a step's time."""
        self.executor.heartbeat(token)

    def log(self, line: LogLine) -> None:
        """Pass on a line of a step's log."""
        self.outbox.say(Tag.LOG, line)

    def abandon(self) -> None:
        """Drop what is queued, and cancel the tasks that run, as the end of a process does."""
        self.executor.queue.clear()
        self.executor.stopping = True
        for running in list(self.executor.running.values()):
            if running.task is not None:
                running.task.cancel()

    def _deliver(self, items: list[Item]) -> None:
        with self._lock:
            fresh = self._seen.fresh(items)
        if fresh:
            self.executor.submit(fresh)
        if self.executor.stopping:
            self.executor.hand_back()

    def _report_missing(self, tokens: list[int]) -> None:
        with self._lock:
            missing = self._seen.missing(tokens)
        if missing:
            self.outbox.say(Tag.MISSING, missing)
