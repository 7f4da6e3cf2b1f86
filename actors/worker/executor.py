"""Executor: runs the deliveries of one worker, many at once, so that no slow one holds back a fast one.

Rules: an executor owns the threads or the event loop that user code runs in; the lane's thread never runs user code.
Results go to the outbox as they come. An attempt over its time is cancelled. One that cannot be cancelled is reported
as stuck: then only the end of the process helps.
"""

import inspect
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from ...events.decide.inputs import Completion, CompletionKind
from .invoke import Invoker, Item
from .outbox import Outbox
from .retry_decision import message_of

__all__ = ["Executor", "Running", "max_ahead"]

STREAM_AHEAD = 256
"""How many events a generator may be ahead of the log."""
_AHEAD_BYTES = 8 * 1024 * 1024
_REPEAT_SECONDS = 5.0
"""A worker that is stuck repeats its report until its process is killed."""
_MAX_STALLS = 3
_CANCEL_GRACE_SECONDS = 5.0
"""How long a cancelled attempt may go on; then its process ends, if it holds up nobody else's work by that."""


def max_ahead(output: list[Any]) -> int:
    """How many events like this one a generator may be ahead of the log: few if they are large."""
    return min(STREAM_AHEAD, max(1, _AHEAD_BYTES // (len(output[2]) + 1)))


@dataclass(slots=True, eq=False)
class Running:
    """An attempt that is running."""

    item: Item
    started: float
    """Monotonic seconds."""
    touched: float
    """When the step last made progress (monotonic seconds)."""
    task: Any = None
    """The task of an async step."""
    credit: int = 0
    """How many of a generator's events are in the log."""
    cancelled: bool = False
    cancelled_at: float = inf
    """When its run was cancelled (monotonic seconds)."""
    overdue: bool = False
    reported: bool = False
    """Whether it was reported as stuck."""
    wake: Any = None
    """Wakes a generator that waits for credit."""
    paused: bool = False
    """Whether a generator waits for credit, which is not its own time."""
    emitted: int = 0
    """How many events a generator has emitted."""
    stalled: int = 0
    """How many credits in a row brought a waiting generator no further."""

    @property
    def unwanted(self) -> bool:
        """Whether it should stop at the next chance."""
        return self.cancelled or self.overdue


class Executor(ABC):
    """What all executors share: the queue, the attempts that run, and the clock on them."""

    def __init__(self, invoker: Invoker, outbox: Outbox) -> None:
        self.invoker = invoker
        self.outbox = outbox
        self.queue: deque[Item] = deque()
        self.running: dict[int, Running] = {}
        self._stuck: dict[int, float] = {}
        self.concurrency = invoker.step.concurrency
        self.timeout_seconds = invoker.step.timeout_seconds
        self.stopping = False
        self.wall: Callable[[], float] = time.time
        self.monotonic: Callable[[], float] = time.monotonic

    @property
    def is_stuck(self) -> bool:
        """Whether an attempt could not be stopped: the process has to end."""
        return bool(self._stuck)

    @abstractmethod
    def submit(self, items: list[Item]) -> None:
        """Take deliveries; returns at once."""

    @abstractmethod
    def nudge(self) -> None:
        """Called by the lane's thread about every 2 ms while something is queued."""

    @abstractmethod
    def interrupt(self, running: Running) -> bool:
        """Try to stop an attempt; False if it cannot be stopped."""

    @abstractmethod
    def resume_stream(self, running: Running) -> None:
        """A generator got credit: continue it."""

    @abstractmethod
    def close(self, grace_seconds: float) -> None:
        """Hand back what is queued, give what runs its grace, then call the step's own `close`."""

    def credit(self, token: int, upto: int) -> None:
        """A generator's events up to this index are in the log.

        A generator that waits and gets the same credit again and again has lost an event on the way. It is handed
        back, and its next attempt begins where the log ends.
        """
        running = self.running.get(token)
        if running is None:
            return
        running.stalled = running.stalled + 1 if running.paused and upto <= running.credit else 0
        running.credit = max(running.credit, upto)
        if running.stalled >= _MAX_STALLS:
            running.cancelled = True
            self.interrupt(running)
        self.resume_stream(running)

    def cancel(self, tokens: list[int]) -> None:
        """Stop working on deliveries of a run that is over."""
        self.recall(tokens)
        for token in tokens:
            running = self.running.get(token)
            if running is not None:
                running.cancelled = True
                running.cancelled_at = min(running.cancelled_at, self.monotonic())
                self.interrupt(running)

    def recall(self, tokens: list[int]) -> None:
        """Hand back those of these deliveries that have not begun."""
        unwanted = set(tokens)
        for item in [item for item in list(self.queue) if item[0] in unwanted]:
            try:
                self.queue.remove(item)
            except ValueError:
                continue  # it began just now
            self.outbox.add([CompletionKind.RELEASE, item[0]])

    def heartbeat(self, token: int) -> None:
        """Renew the time of an attempt."""
        running = self.running.get(token)
        if running is not None:
            running.touched = self.monotonic()

    def watch(self) -> None:
        """Deal with attempts that are over their time; called by the lane's thread now and then."""
        now = self.monotonic()
        for running in list(self.running.values()):
            over = now - running.touched - self.timeout_seconds
            if self._outstays(running, now):
                running.reported = True
                self._stuck[running.item[0]] = -inf
                continue
            if over < 0 or running.reported or (running.paused and not running.cancelled):
                continue
            if not running.overdue:
                running.overdue = True
                if self.interrupt(running):
                    continue
            if over >= self._grace_seconds(running):
                running.reported = True
                self._stuck[running.item[0]] = -inf
        for token, told in self._stuck.items():
            if now - told >= _REPEAT_SECONDS:  # the lane may lose it, and this attempt reports nothing else
                self._stuck[token] = now
                self.outbox.add([CompletionKind.STUCK, token])

    def _outstays(self, running: Running, now: float) -> bool:
        """Whether a cancelled attempt does not end, and no attempt that is wanted shares its process."""
        late = now - running.cancelled_at >= _CANCEL_GRACE_SECONDS and not running.reported
        return late and all(other.cancelled for other in list(self.running.values()))

    def _grace_seconds(self, running: Running) -> float:
        return 5.0 if running.task is not None else 0.0

    def hand_back(self) -> None:
        """Hand back everything that is queued."""
        while (item := self.take()) is not None:
            self.outbox.add([CompletionKind.RELEASE, item[0]])

    def take(self) -> Item | None:
        """The first of the queue; None if it is empty."""
        try:
            return self.queue.popleft()
        except IndexError:
            return None

    def report(self, completion: Completion) -> None:
        """Report what became of an attempt."""
        self.outbox.add(completion)

    def finished(self, running: Running, completion: Completion) -> None:
        """An attempt ended."""
        self.running.pop(running.item[0], None)
        if running.reported:
            return  # its process is being killed
        if running.cancelled and (completion[0] != CompletionKind.DONE or running.wake is not None):
            completion = [CompletionKind.RELEASE, running.item[0]]
        self.report(completion)

    def raised(self, running: Running, error: BaseException) -> None:
        """An attempt ended with an exception."""
        if running.overdue:
            text = f"did not return within {self.timeout_seconds:g} s"
            error = _caused(TimeoutError(text), error)
        elif not isinstance(error, Exception):  # SystemExit in a step ends the attempt, not the worker
            error = _caused(RuntimeError(f"the step raised {type(error).__name__}: {message_of(error)}"), error)
        self.finished(running, self.invoker.failed(running.item, error, int(self.wall() * 1e6)))

    async def close_step(self) -> None:
        """Call the step's own `close`, sync or async; what it raises is only logged: results are still to be sent."""
        close = getattr(self.invoker.code, "close", None)
        if not self.invoker.step.is_class or close is None:
            return
        try:
            outcome = close()
            if inspect.isawaitable(outcome):
                await outcome
        except Exception as error:  # noqa: BLE001 - the author's code
            self.invoker.log(f"close() raised {type(error).__name__}: {message_of(error)}")


def _caused(error: Exception, cause: BaseException) -> Exception:
    """The error with its cause, so that its trace shows where the step was."""
    error.__cause__ = cause
    return error
