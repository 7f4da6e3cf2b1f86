"""Context: what a step may know of the delivery it is working on.

Rules: frozen; the same idempotency key on every attempt; everything that reaches out goes through the `Host`, which
the worker provides.
"""

from dataclasses import dataclass
from typing import Protocol, TypeVar

from .event import Event
from .failure import StepError

__all__ = ["Context", "Host", "StepLog"]

E = TypeVar("E", bound=Event)


class StepLog(Protocol):
    """The logger of a step: the standard levels, with fields as keyword arguments."""

    def debug(self, message: str, /, **fields: object) -> None:
        """Say what helps to find a fault."""
        ...

    def info(self, message: str, /, **fields: object) -> None:
        """Say what happens."""
        ...

    def warning(self, message: str, /, **fields: object) -> None:
        """Say what may become a fault."""
        ...

    def error(self, message: str, /, **fields: object) -> None:
        """Say what went wrong."""
        ...


class Host(Protocol):
    """What the worker does for a running step."""

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of the run, in the order of the log."""
        ...

    def progress(self, token: int, done: float, total: float) -> None:
        """Pass on how far the step is."""
        ...

    def heartbeat(self, token: int) -> None:
        """Renew the step's time."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """The delivery that a step is working on.

    run_id, event_id: ids as text (`event_id` is the event that completed the delivery). attempt: from 1.
    deadline: seconds since the epoch at which the attempt is over. idempotency_key: 32 hexadecimal digits, stable
    over retries and restarts: give it to the outside world. log: a logger that carries run, step and attempt. errors:
    the steps of this run that gave up before, oldest first, at most the newest 100.
    """

    run_id: str
    event_id: str
    step: str
    attempt: int
    deadline: float
    idempotency_key: str
    log: StepLog
    host: Host
    token: int
    raw_run_id: bytes
    errors: tuple[StepError, ...] = ()

    def events(self, model: type[E]) -> list[E]:
        """Earlier events of this type in this run, oldest first (read from the log)."""
        return self.host.earlier(self.raw_run_id, model)

    def progress(self, done: float, total: float) -> None:
        """Say how far this step is; it shows live and counts as a heartbeat."""
        self.host.progress(self.token, done, total)

    def heartbeat(self) -> None:
        """Say that this step is alive: its timeout starts anew."""
        self.host.heartbeat(self.token)
