"""Context: what a step is told about the delivery that it works on.

Rules: it is frozen; the idempotency key is the same on every attempt; every call goes through the `Host`, which the
worker provides.
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
        """Log what helps to debug."""
        ...

    def info(self, message: str, /, **fields: object) -> None:
        """Log a normal event."""
        ...

    def warning(self, message: str, /, **fields: object) -> None:
        """Log what may become an error."""
        ...

    def error(self, message: str, /, **fields: object) -> None:
        """Log an error."""
        ...


class Host(Protocol):
    """The worker, as a running step sees it."""

    def earlier(self, run_id: bytes, model: type[E]) -> list[E]:
        """Earlier events of the run, in the order of the log."""
        ...

    def progress(self, token: int, done: float, total: float) -> None:
        """Report how far the step is."""
        ...

    def heartbeat(self, token: int) -> None:
        """Restart the timeout of the attempt."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """The delivery that a step works on.

    run_id: the run's id, as text.
    event_id: the id of the event that completed the delivery, as text.
    step: the step's name.
    attempt: the number of this attempt, from 1.
    deadline: when this attempt times out, in seconds since the epoch.
    idempotency_key: 32 hexadecimal digits, the same on every retry and after a restart: pass it to other services.
    log: a logger whose lines carry the run, the step and the attempt.
    errors: the steps of this run that gave up before, oldest first, at most the newest 100.
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
        """Earlier events of this type in this run, oldest first; they are read from the log."""
        return self.host.earlier(self.raw_run_id, model)

    def progress(self, done: float, total: float) -> None:
        """Report how far this step is: it is shown live, and counts as a heartbeat."""
        self.host.progress(self.token, done, total)

    def heartbeat(self) -> None:
        """Report that this step is alive: its timeout starts again."""
        self.host.heartbeat(self.token)
