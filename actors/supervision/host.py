"""SupervisorHost: the supervisors of one keeper, each with a mailbox of its own, run by one thread.

Rules: an exception in a supervisor ends that supervisor alone. Its parent is told, and decides whether and when
another takes its place; messages wait in the mailbox until then. What the next one needs is kept here and not in the
supervisor: its restart history, and the records of its workers, which go on running.
"""

import itertools
import logging
import queue
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ...cluster.clock import SystemClock
from ...cluster.processes import ProcessHandle, ProcessWatcher
from ...cluster.ray.exit_reasons import first_line
from ...events.supervision.restart_history import RestartHistory
from . import orders
from .supervised_worker import SupervisedWorker

__all__ = ["HostedSupervisor", "RootCrashed", "SupervisorHost"]

logger = logging.getLogger("ensue.supervisor")


class RootCrashed(Exception):
    """The root supervisor raised an exception; nothing in the keeper is above it."""


class HostedSupervisor(ABC):
    """A supervisor inside the keeper: it gets messages one at a time, and a call when its timer is due."""

    def __init__(self, path: str, host: "SupervisorHost") -> None:
        self.path: Final = path
        self._host = host

    @abstractmethod
    def handle(self, message: Any) -> None:
        """Process one message of its mailbox."""

    @abstractmethod
    def check(self) -> None:
        """Do what is due; also called after each message."""

    @abstractmethod
    def next_check_seconds(self) -> float:
        """How long it can wait until the next check."""

    def seconds_until(self, due_us: int | None) -> float:
        """The seconds until a start at this time of day; a minute if none is planned, or the engine stops."""
        if due_us is None or self._host.is_stopping:
            return 60.0
        return max(0.0, (due_us - self._host.now_us()) / 1e6)


class SupervisorHost:
    """Delivers messages, runs timers, and tells a parent when its child crashes. `report` tells the engine."""

    def __init__(self, spec: orders.KeeperSpec, report: Callable[[orders.Report], None]) -> None:
        self.spec = spec
        self.is_stopping = False
        """No worker and no supervisor is replaced any more."""
        self.histories: dict[str, RestartHistory] = {}
        self.workers: defaultdict[str, dict[int, SupervisedWorker]] = defaultdict(dict)
        """The workers of each step, by slot."""
        self.watcher = ProcessWatcher()
        self.report = report
        self.now = time.monotonic()
        """The monotonic time of the current `run`."""
        self.start_numbers = itertools.count(1)
        self._clock = SystemClock()
        self._inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._supervisors: dict[str, HostedSupervisor] = {}
        self._mailboxes: dict[str, deque[Any]] = {}
        self._due: dict[str, float] = {}
        """When each supervisor is to be checked, in monotonic seconds."""

    # -- for supervisors -----------------------------------------------------------------------------------------------

    def start(self, supervisor: HostedSupervisor) -> None:
        """Start a supervisor, also in the place of one that crashed.

        It starts all that it has, so orders to start or stop that its predecessor did not get to are dropped.
        """
        self._supervisors[supervisor.path] = supervisor
        self._due[supervisor.path] = self.now
        mail = self._mailboxes.get(supervisor.path, ())
        kept = (message for message in mail if not isinstance(message, orders.StartStep | orders.StopStep))
        self._mailboxes[supervisor.path] = deque([orders.Begin(), *kept])
        if supervisor.path != orders.ROOT:
            self.report(orders.SupervisorStarted(supervisor.path))

    def remove(self, path: str) -> None:
        """End a supervisor, with its mailbox and history."""
        self._supervisors.pop(path, None)
        self._due.pop(path, None)
        self._mailboxes.pop(path, None)
        self.histories.pop(path, None)

    def is_running(self, path: str) -> bool:
        """Whether this supervisor is there, and has not crashed."""
        return path in self._supervisors

    def post(self, path: str, message: Any) -> None:
        """Put a message into a mailbox; dropped if there never was such a supervisor, or it was removed."""
        mailbox = self._mailboxes.get(path)
        if mailbox is not None:
            mailbox.append(message)

    def ask(self, path: str, answered: Callable[[BaseException | None, Any], Any], reference: Any) -> None:
        """Have the outcome of a Ray call put into a mailbox, as the message that `answered` makes of it."""

        def told(outcome: Any) -> None:
            error = outcome.exception()
            self.post_from_thread(path, answered(error, None if error else outcome.result()))

        reference.future().add_done_callback(told)

    def watch(self, path: str, process: ProcessHandle) -> None:
        """Have the end of a process put into a mailbox."""
        self.watcher.watch(process, lambda: self.post(path, orders.ProcessEnded(process.pid)))

    def remember(self, path: str, history: RestartHistory) -> None:
        """Keep what a supervisor needs after a restart, here and in the engine."""
        self.histories[path] = history
        self.report(orders.HistoryChanged(path, history))

    def now_us(self) -> int:
        """The time of day, in microseconds."""
        return self._clock.now_us()

    # -- for the keeper ------------------------------------------------------------------------------------------------

    def post_from_thread(self, path: str, message: Any) -> None:
        """As `post`, from any thread."""
        self._inbox.put((path, message))
        self.watcher.wake()

    def run(self, now: float) -> None:
        """Deliver all messages and do what is due. Raises `RootCrashed`."""
        self.now = now
        while not self._inbox.empty():
            self.post(*self._inbox.get())
        for supervisor in [self._supervisors[path] for path, due in self._due.items() if due <= now]:
            self._guard(supervisor, supervisor.check, "a timer")
        while (waiting := self._next_mail()) is not None:
            supervisor, message = waiting
            self._guard(supervisor, partial(supervisor.handle, message), message)
            self._guard(supervisor, supervisor.check, "a timer")

    def next_check_seconds(self, now: float, limit: float) -> float:
        """How long the thread may sleep: until the first timer is due, at most `limit`."""
        return max(0.0, min([limit, *(due - now for due in self._due.values())]))

    def _next_mail(self) -> tuple[HostedSupervisor, Any] | None:
        for path, mailbox in self._mailboxes.items():
            if mailbox and path in self._supervisors:
                return self._supervisors[path], mailbox.popleft()
        return None

    def _guard(self, supervisor: HostedSupervisor, work: Callable[[], None], cause: object) -> None:
        if self._supervisors.get(supervisor.path) is not supervisor:
            return
        try:
            work()
            self._due[supervisor.path] = self.now + supervisor.next_check_seconds()
        except Exception as error:
            logger.exception("the supervisor of %s crashed on %.500r", supervisor.path, cause)
            if supervisor.path == orders.ROOT:
                raise RootCrashed(first_line(error)) from error
            del self._supervisors[supervisor.path], self._due[supervisor.path]
            self.post(_parent_of(supervisor.path), orders.SupervisorCrashed(supervisor.path, first_line(error)))


def _parent_of(path: str) -> str:
    pipeline, _, step = path.partition("/")
    return pipeline if step else orders.ROOT
