"""HTTP problems (RFC 9457): the only file that maps errors to HTTP statuses.

Rules: each kind of problem is a row of the table. An error of ensue finds its row by its class, the nearest ancestor
first; a refusal of the gateway names its row. The body says what is wrong and what to do, and nothing about the code:
an unexpected error is a bare 500, and logged. Every 401 has the same body, whatever was wrong and whether or not the
endpoint exists. Every 503 has `Retry-After`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import to_json

from ...events import errors
from ...events.model.event import describe_problems

__all__ = [
    "INTERNAL",
    "MEDIA_TYPE",
    "PROBLEMS",
    "UNAUTHORIZED",
    "Problem",
    "ProblemKind",
    "Refused",
    "problem_of",
    "refuse",
]

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = 1.0
_FAULT_FIELDS = ("field", "expected", "got")


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem, a row of the table: the last part of the type URI, the title, the status."""

    name: str
    title: str
    status: int

    @property
    def uri(self) -> str:
        """The `type` of the problem document."""
        return f"urn:ensue:problem:{self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A response that is an error."""

    kind: ProblemKind
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def status(self) -> int:
        return self.kind.status

    def body(self) -> bytes:
        """The problem document, as JSON."""
        content: dict[str, object] = {
            "type": self.kind.uri,
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": _writable(self.detail),
        }
        if self.errors:
            faults = [error.items() for error in self.errors]
            content["errors"] = [{name: _writable(text) for name, text in fault} for fault in faults]
        return to_json(content)


class Refused(Exception):
    """Raised inside the gateway to answer with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def _kinds(*rows: tuple[str, str, int]) -> dict[str, ProblemKind]:
    return {name: ProblemKind(name, title, status) for name, title, status in rows}


PROBLEMS = _kinds(
    ("body-unreadable", "The body is not valid JSON", 400),
    ("body-too-deep", "The body is nested too deeply", 400),
    ("host-unknown", "The host is not allowed", 400),
    ("request-invalid", "The request is not valid", 400),
    ("unauthorized", "The delivery is not authenticated", 401),
    ("cross-site", "The request comes from another site", 403),
    ("not-found", "There is no such path", 404),
    ("run-unknown", "There is no such run", 404),
    ("pipeline-unknown", "There is no such pipeline", 404),
    ("letter-unknown", "There is no such dead letter", 404),
    ("breaker-unknown", "There is no such breaker", 404),
    ("method-not-allowed", "The method is not allowed for this path", 405),
    ("body-timeout", "The body did not arrive in time", 408),
    ("run-finished", "The run has ended", 409),
    ("run-past-pivot", "The run is past its pivot", 409),
    ("letter-closed", "The dead letter is already settled", 409),
    ("conflict", "The request is not possible in this state", 409),
    ("body-too-large", "The body is too large", 413),
    ("content-type", "This content type is not accepted", 415),
    ("content-encoding", "Compressed bodies are not accepted", 415),
    ("event-invalid", "The event is not valid", 422),
    ("event-type-unknown", "The event type is unknown", 422),
    ("pipeline-ambiguous", "Several pipelines hear this event", 422),
    ("parameter-invalid", "A parameter is not valid", 422),
    ("delivery-conflict", "The id was used before with other content", 422),
    ("head-too-large", "The headers are too large", 431),
    ("internal", "The server failed", 500),
    ("not-ready", "The engine is not ready", 503),
    ("overloaded", "The engine is overloaded", 503),
    ("log-unavailable", "The log is not available", 503),
    ("webhook-timeout", "The function of the webhook took too long", 503),
    ("deadline", "The commit took too long", 503),
)

_BY_ERROR: dict[type[BaseException], str] = {
    errors.SignatureInvalid: "unauthorized",
    errors.EventTypeUnknown: "event-type-unknown",
    errors.DeliveryConflict: "delivery-conflict",
    errors.EventInvalid: "event-invalid",
    errors.CodecError: "event-invalid",
    ValidationError: "event-invalid",
    errors.RunUnknown: "run-unknown",
    errors.RunFinished: "run-finished",
    errors.RunPastPivot: "run-past-pivot",
    errors.LetterUnknown: "letter-unknown",
    errors.LetterClosed: "letter-closed",
    errors.BreakerUnknown: "breaker-unknown",
    errors.Overloaded: "overloaded",
    errors.LogUnavailable: "log-unavailable",
    errors.StaleEpoch: "log-unavailable",
    errors.EnsueError: "conflict",
    TimeoutError: "deadline",
}
_DETAILS = {
    "deadline": "The event was not committed in time. Send it again with the same id: it is accepted only once.",
    "unauthorized": "The signature is missing or invalid.",
}

UNAUTHORIZED = Problem(PROBLEMS["unauthorized"], _DETAILS["unauthorized"])
INTERNAL = Problem(PROBLEMS["internal"], "The request failed. The reason is in the log of the server.")


def refuse(name: str, detail: str, *faults: Mapping[str, str], retry_after_seconds: float | None = None) -> Refused:
    """The exception that makes the gateway answer with this kind of problem."""
    return Refused(_problem(name, detail, faults, retry_after_seconds))


def problem_of(error: BaseException) -> Problem | None:
    """The problem for an error, or None if the error is unexpected."""
    if isinstance(error, Refused):
        return error.problem
    name = next((_BY_ERROR[cls] for cls in type(error).__mro__ if cls in _BY_ERROR), None)
    if name is None:
        return None
    detail = _DETAILS.get(name) or _describe(error)
    return _problem(name, detail, _faults(error), getattr(error, "retry_after_seconds", None))


def _problem(name: str, detail: str, faults: Sequence[Mapping[str, str]], retry_after_seconds: float | None) -> Problem:
    kind = PROBLEMS[name]
    if kind.status == 503:  # noqa: PLR2004 - the status is the row
        seconds = _RETRY_SECONDS if retry_after_seconds is None else retry_after_seconds
        return Problem(kind, detail, faults, ((b"retry-after", b"%d" % max(1, math.ceil(seconds))),))
    return Problem(kind, detail, faults)


def _writable(text: str) -> str:
    """A text without lone surrogates, which JSON in UTF-8 cannot hold: they are written as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _faults(error: BaseException) -> Sequence[Mapping[str, str]]:
    """The fields at fault. An `EventInvalid` may come from users' code, so its entries are brought into our form."""
    if isinstance(error, ValidationError):
        return describe_problems(error)
    problems = error.problems if isinstance(error, errors.EventInvalid) else ()
    return [{name: str(problem.get(name, "")) for name in _FAULT_FIELDS} for problem in problems]


def _describe(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        faults = describe_problems(error)
        return f"{error.title} is not valid: " + "; ".join(f"{f['field']}: {f['expected']}" for f in faults[:5])
    return str(error)
