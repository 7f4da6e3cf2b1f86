"""SupervisorActor: what the supervisors that are Ray actors have in common: one thread that does everything, told by messages.

Rules: only that thread touches state; the methods that Ray calls put a message into its queue. What has to be told to
the engine is kept until the engine says that it has it, so a lost answer loses nothing. A supervisor whose engine is
gone, or silent for too long, ends its workers and then itself: it is detached, and nobody else would.
"""

import logging
import os
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from ...cluster.processes import ProcessMark, is_gone
from ...cluster.ray.session import ray_module
from .long_poll import CompletionLatch

__all__ = ["NAMESPACE", "Reports", "SupervisionTimeouts", "SupervisorActor", "send", "start_actor"]

logger = logging.getLogger("ensue.supervisor")
NAMESPACE = "ensue"
_CONCURRENCY = 8
_MAIL = "mail"
"""Messages have a thread of their own, or one could overtake another."""
_ENGINE_LOOK_SECONDS = 0.5


class SupervisionTimeouts(NamedTuple):
    """How long what is borne, in seconds.

    start: a worker that does not come up. ping: between two pings; three that are not answered are too many.
    silence: an engine that is not heard of.
    """

    start_seconds: float = 60.0
    ping_seconds: float = 10.0 / 3
    silence_seconds: float = 30.0


class Reports(NamedTuple):
    """What happened: `upto` is to be given with the next call, and all of `items` is then forgotten."""

    upto: int
    items: list[Any]
    standing: Any


class SupervisorActor(ABC):
    """A supervisor's thread, its mailbox and its reports."""

    def __init__(self, engine: ProcessMark, patience: SupervisionTimeouts) -> None:
        self._engine = engine
        self._patience = patience
        self._mail: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        self._reports: list[Any] = []
        self._reported = 0
        self._news = threading.Condition()
        self._standing: Any = None
        self._shown: Any = None
        self._heard = time.monotonic()
        self._looked = 0.0
        self._life = CompletionLatch()
        threading.Thread(target=self._serve, name="ensue-supervisor", daemon=True).start()

    # -- what Ray calls ------------------------------------------------------------------------------------------------

    def pid(self) -> int:
        """Its process: it is there."""
        return os.getpid()

    def ping(self) -> bool:
        """It answers."""
        return True

    def attend(self) -> str:
        """Return when it ends, or when somebody else asks; whoever waits on this learns of its death."""
        return self._life.wait()

    def reports(self, upto: int, wait_seconds: float) -> Reports:
        """What happened after `upto`; waits until there is something. It also says that the engine is there."""
        self._heard = time.monotonic()
        with self._news:
            del self._reports[: max(0, len(self._reports) - (self._reported - upto))]
            self._news.wait_for(lambda: self._reports or self._standing != self._shown, wait_seconds)
            self._heard = time.monotonic()
            self._shown = self._standing
            return Reports(self._reported, list(self._reports), self._standing)

    def tell(self, *message: Any) -> None:
        """A message for its thread."""
        self._mail.put(message)

    # -- for those who build on it -------------------------------------------------------------------------------------

    @abstractmethod
    def _orders(self) -> Mapping[str, Callable[..., None]]:
        """What each kind of message has done. That of an outcome is told its key, the error or None, and the value."""

    @abstractmethod
    def _tend(self, now: float) -> None:
        """What is done after every message and at least as often as `_pause_seconds` says."""

    @abstractmethod
    def _pause_seconds(self) -> float:
        """How long the thread may sleep."""

    @abstractmethod
    def _abandon(self) -> None:
        """The engine is gone: end all children, and see that they are gone."""

    def _report(self, *items: Any) -> None:
        with self._news:
            self._reports.extend(items)
            self._reported += len(items)
            self._news.notify_all()

    def _show(self, standing: Any) -> None:
        """How it stands now."""
        with self._news:
            self._standing = standing
            self._news.notify_all()

    def _ask(self, what: str, key: Any, reference: Any) -> None:
        """Have the outcome of a call put into the mailbox as (what, key, error or None, value)."""

        def told(outcome: Any) -> None:
            error = outcome.exception()
            self._mail.put((what, key, error, None if error else outcome.result()))

        reference.future().add_done_callback(told)

    def _serve(self) -> None:
        orders = {**self._orders(), "leave": self._give_up}
        while not self._life.over:
            message = self._next()
            if message:
                self._try(f"see to {message[0]!r}", partial(self._carry_out, orders, message))
            now = time.monotonic()
            self._try("look after its children", partial(self._tend, now))
            self._watch_engine(now)

    @staticmethod
    def _carry_out(orders: Mapping[str, Callable[..., None]], message: tuple[Any, ...]) -> None:
        orders[message[0]](*message[1:])

    def _next(self) -> tuple[Any, ...]:
        """The next message; empty where none comes in time."""
        try:
            return self._mail.get(timeout=self._pause_seconds())
        except queue.Empty:
            return ()

    def _try(self, what: str, work: Callable[[], None]) -> None:
        """One bad item never ends the loop."""
        try:
            work()
        except Exception:
            logger.exception("a supervisor could not %s", what)

    def _watch_engine(self, now: float) -> None:
        if now - self._looked < _ENGINE_LOOK_SECONDS:
            return
        stood_still = now - self._looked > self._patience.silence_seconds / 2 and self._looked > 0
        self._looked = now
        if stood_still:  # it was us who heard nothing
            self._heard = now
        if is_gone(self._engine) or now - self._heard > self._patience.silence_seconds:
            self._give_up()

    def _give_up(self) -> None:
        """Its engine is gone, or another one has taken its place."""
        self._try("end its children", self._abandon)
        self._leave()

    def _leave(self) -> None:
        """End this process: as an actor that is detached, nobody ends it for us."""
        self._life.end()
        ray_module().kill(ray_module().get_runtime_context().current_actor, no_restart=True)


def start_actor(kind: type[SupervisorActor], name: str, node: str, *arguments: Any) -> Any:
    """Start a supervisor on a node of Ray: detached, so that whoever starts it does not take it along."""
    ray = ray_module()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415 - ray loads late

    options: dict[str, Any] = {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "max_concurrency": _CONCURRENCY,
        "concurrency_groups": {_MAIL: 1},
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id=node, soft=False),
    }
    return ray.remote(**options)(kind).remote(*arguments)


def send(actor: Any, *message: Any) -> None:
    """A message for a supervisor; those of one sender arrive in their order."""
    actor.tell.options(concurrency_group=_MAIL).remote(*message)
