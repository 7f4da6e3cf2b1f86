"""The errors that ensue raises: one base class, and names that say what is wrong.

Rules: a message is one or two sentences, what is wrong and what to do. HTTP statuses and exit codes are not here: the
gateway maps errors to them.
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
    """The base of all errors that ensue raises."""


class PipelineInvalid(EnsueError):
    """The declaration of a pipeline is invalid; its author has to fix it."""


class TargetInvalid(EnsueError):
    """A TARGET on the command line does not name a pipeline; the caller has to fix it."""


class EventInvalid(EnsueError):
    """The data of an event does not fit its model; the sender has to fix it.

    problems: one mapping for each invalid field: `field` (a dotted path), `expected` and `got`.
    """

    def __init__(self, message: str, problems: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class EventTypeUnknown(EventInvalid):
    """No event type of this name and version is registered here."""


class DeliveryConflict(EventInvalid):
    """The sender's id was used before with another body; the sender has to fix it."""


class CodecError(EnsueError):
    """Bytes that are not a message of ensue, or are over its limits."""


class GiveUp(EnsueError):
    """Raised by a step if no retry can help: the delivery fails at once, whatever its retry policy says."""


class Overloaded(EnsueError):
    """The engine is at its high-water mark, or is draining.

    retry_after_seconds: when to try again.
    """

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RunUnknown(EnsueError):
    """No run has this id."""


class RunFinished(EnsueError):
    """The run has finished: there is nothing to cancel."""


class RunCancelled(EnsueError):
    """The run was cancelled, so its dead letters cannot be redriven one by one."""


class RunPastPivot(EnsueError):
    """The run is past its pivot: it cannot be cancelled any more."""


class LetterUnknown(EnsueError):
    """No dead letter has this id, or the operation is not possible for it."""


class LetterClosed(EnsueError):
    """The dead letter was redriven or discarded before."""


class BreakerUnknown(EnsueError):
    """No circuit breaker has this name."""


class SignatureInvalid(EnsueError):
    """A webhook delivery is not genuine, or cannot be verified; the sender has to fix it."""


class SecretMissing(EnsueError):
    """A secret is missing, empty or not in the form of its scheme; the operator has to fix it."""


class AddressUnavailable(EnsueError):
    """The gateway cannot or must not listen at an address; the operator has to fix it."""


class LogUnavailable(EnsueError):
    """The log cannot be opened, read or written now (path, permission, full disk, I/O)."""


class LogForeign(LogUnavailable):
    """The store is another program's file."""


class LogNewer(LogUnavailable):
    """The store was written by a newer ensue than this one."""


class LogCorrupt(LogUnavailable):
    """The store has bytes that contradict its checksums or invariants."""


class StaleEpoch(EnsueError):
    """Another owner has taken over the log: this one must stop, and can commit nothing more."""


class RayUnavailable(EnsueError):
    """Ray could not be started or reached; the message has two lines: what happened, and what to do."""
