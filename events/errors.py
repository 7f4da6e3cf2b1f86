"""Every error that ensue raises on purpose: one root, and names that say whose fault it is.

A message is one or two sentences: what is wrong, then what to do. No error here knows of HTTP or of exit codes;
the gateway's `problems.py` maps them.
"""

__all__ = [
    "AddressUnavailable",
    "BreakerUnknown",
    "CodecError",
    "DeliveryConflict",
    "EnsueError",
    "EventInvalid",
    "EventTypeUnknown",
    "GiveUp",
    "LetterClosed",
    "LetterUnknown",
    "LogCorrupt",
    "LogForeign",
    "LogNewer",
    "LogUnavailable",
    "Overloaded",
    "PipelineInvalid",
    "RayUnavailable",
    "RunCancelled",
    "RunFinished",
    "RunPastPivot",
    "RunUnknown",
    "SecretMissing",
    "SignatureInvalid",
    "StaleEpoch",
    "TargetInvalid",
]


class EnsueError(Exception):
    """The root of every error that ensue raises on purpose."""


class PipelineInvalid(EnsueError):
    """A pipeline is declared wrongly: the author of the pipeline mends it."""


class TargetInvalid(EnsueError):
    """A TARGET on the command line names no pipeline: the caller mends it."""


class EventInvalid(EnsueError):
    """The data of an event does not fit its model: the sender mends it.

    `problems` holds one mapping a fault: `field` (dotted path), `expected` (what was asked for) and `got`.
    """

    def __init__(self, message: str, problems: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class EventTypeUnknown(EventInvalid):
    """No event type of this name and version is registered here."""


class DeliveryConflict(EventInvalid):
    """The sender's id was used before for another body: the sender mends it."""


class CodecError(EnsueError):
    """Bytes that are no ensue message, or a message over the limits."""


class GiveUp(EnsueError):
    """Raised by a step to say that no retry can help: the delivery fails at once, whatever the retry policy."""


class Overloaded(EnsueError):
    """The engine is at its high-water mark or is draining; `retry_after_seconds` says when to come back."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RunUnknown(EnsueError):
    """No run has this id."""


class RunFinished(EnsueError):
    """The run is over already: there is nothing left to cancel."""


class RunCancelled(EnsueError):
    """The run was cancelled: none of its dead letters is run again by itself."""


class RunPastPivot(EnsueError):
    """The run is past its point of no return: it cannot be cancelled any more."""


class LetterUnknown(EnsueError):
    """No dead letter has this id, or what was asked cannot be done to it."""


class LetterClosed(EnsueError):
    """The dead letter is settled already: it was redriven or discarded."""


class BreakerUnknown(EnsueError):
    """No circuit breaker has this name."""


class SignatureInvalid(EnsueError):
    """A delivery that is not genuine, or that nobody can tell to be: the sender mends it."""


class SecretMissing(EnsueError):
    """A secret is not set, empty or not in the form that its scheme asks for: the operator mends it."""


class AddressUnavailable(EnsueError):
    """The gateway cannot or must not listen at an address: the operator mends it."""


class LogUnavailable(EnsueError):
    """The log cannot be opened, read or written now (path, permission, full disk, I/O)."""


class LogForeign(LogUnavailable):
    """The store is another program's file."""


class LogNewer(LogUnavailable):
    """The store was written by a newer ensue than this one."""


class LogCorrupt(LogUnavailable):
    """The store holds bytes that its own checksums or invariants deny."""


class StaleEpoch(EnsueError):
    """Another owner has taken the log over: this one must stop and commit nothing more."""


class RayUnavailable(EnsueError):
    """Ray could not be started or reached; the message has two lines: what happened, and what to do."""
