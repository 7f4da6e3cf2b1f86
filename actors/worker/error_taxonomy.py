"""Error taxonomy: the class of an exception, as a table.

Rules: the first row that fits decides. No client library is imported: their errors are known by name, or by what they
carry (an HTTP status, an SQLSTATE, an error number). An exception that fits no row itself has the class of its cause
(`raise ... from`, an `orig` or `reason`, a group's members), so a wrapper hides nothing; only data that does not fit a
model is taken from the outermost exception alone. What fits no row is retried but tells nothing of the service that was
called, so no breaker counts it.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from pydantic import ValidationError

from ...events.errors import CodecError, EventInvalid, GiveUp, LogUnavailable, Overloaded
from ...events.model.failure import FailureKind

__all__ = ["ROWS", "TaxonomyRow", "attribute", "causes", "members", "row_of"]

_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)
_RETRYABLE_STATUS = frozenset({408, 425, 429})
_STATUS_PATHS = (
    "response.status_code",
    "response.status",
    "response.ResponseMetadata.HTTPStatusCode",
    "status_code",
    "status",
    "code",
)
_AWS_THROTTLES = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Error codes that may come with a 400 and that the retry modes of AWS's SDKs try again."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_ROUTE = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH})
_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_NO_MEMORY, _SQLITE_FULL = 5, 6, 7, 13
_SQLSTATES = ("40001", "40P01", "08", "57P0")
"""Serialization failure, deadlock, connection exceptions, shutdowns."""
_TIMEOUTS = frozenset(
    {
        "httpx.TimeoutException",
        "requests.Timeout",
        "urllib3.TimeoutError",
        "redis.TimeoutError",
        "botocore.ReadTimeoutError",
        "botocore.ConnectTimeoutError",
    }
)
_CONNECTIONS = frozenset(
    {
        "httpx.NetworkError",
        "httpx.RemoteProtocolError",
        "httpx.ProxyError",
        "requests.ConnectionError",
        "requests.ChunkedEncodingError",
        "urllib3.NewConnectionError",
        "urllib3.ProtocolError",
        "aiohttp.ClientConnectionError",
        "aiohttp.ClientPayloadError",
        "http.IncompleteRead",
        "asyncio.IncompleteReadError",
        "socket.gaierror",
        "redis.ConnectionError",
        "botocore.EndpointConnectionError",
        "botocore.ConnectionClosedError",
    }
)
_DATABASES = frozenset({"psycopg.OperationalError", "psycopg2.OperationalError"})
_EXHAUSTED = frozenset({"apsw.FullError", "apsw.NoMemError", "torch.OutOfMemoryError", "ray.OutOfMemoryError"})
_LOST = frozenset({"ray.RayActorError", "ray.WorkerCrashedError", "ray.NodeDiedError", "ray.ObjectLostError"})
_MAX_CAUSES = 16

Test = Callable[[BaseException], bool]


class TaxonomyRow(NamedTuple):
    """A class of failure."""

    words: str
    """The class in words, for the docs."""
    kind: FailureKind
    fits: Test
    """Whether an exception belongs to it."""
    inner: bool = True
    """Whether the cause of another exception counts too."""


def attribute(error: BaseException, path: str) -> Any:
    """The value at a dotted path of attributes and keys; None if there is none or reading it raises."""
    value: Any = error
    try:
        for name in path.split("."):
            value = _member(value, name)
    except BaseException:  # noqa: BLE001 - a property of an error may raise anything, SystemExit included
        return None
    return value


def _member(value: Any, name: str) -> Any:
    return value.get(name) if _is_mapping(value) else getattr(value, name, None)


def _is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, then what it was raised from, wraps or groups, nearest first."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _MAX_CAUSES:
        this = waiting.pop(0)
        if id(this) in seen:
            continue
        seen.add(id(this))
        yield this
        inner: tuple[Any, ...] = (this.__cause__, attribute(this, "orig"), attribute(this, "reason"))
        if isinstance(this, BaseExceptionGroup):
            inner += cast("tuple[Any, ...]", this.exceptions)
        waiting += [one for one in inner if isinstance(one, BaseException)]


def members(error: BaseException) -> list[BaseException]:
    """The exceptions in a group and in its groups; of another exception, itself."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        this = waiting.pop()
        if isinstance(this, BaseExceptionGroup):
            waiting += reversed(cast("tuple[BaseException, ...]", this.exceptions))
        else:
            found.append(this)
    return found


def row_of(error: BaseException) -> TaxonomyRow | None:
    """The row of an exception: its own, or that of its nearest cause that has one. In a group, a `GiveUp` decides."""
    for one in causes(error):
        if any(isinstance(member, GiveUp) for member in members(one)):
            return ROWS[0]
        for row in ROWS:
            if (row.inner or one is error) and row.fits(one):
                return row
    return None


def _is(*kinds: type[BaseException]) -> Test:
    return lambda error: isinstance(error, kinds)


def _is_named(names: frozenset[str]) -> Test:
    """Whether the class, or one that it derives from, has one of these names, by package and class."""
    return lambda error: any(_name(kind) in names for kind in type(error).__mro__)


def _name(kind: type) -> str:
    """The name of a class with its package, whichever module of the package defines it."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _has_number(numbers: frozenset[int]) -> Test:
    return lambda error: isinstance(error, OSError) and error.errno in numbers


def _has_sqlite_code(*codes: int) -> Test:
    def fits(error: BaseException) -> bool:
        code = attribute(error, "sqlite_errorcode")
        return isinstance(code, int) and code & 0xFF in codes

    return fits


def _http_status(error: BaseException) -> int:
    """The status of an HTTP error, 0 for other errors; the first attribute that is there decides."""
    for path in _STATUS_PATHS:
        status = attribute(error, path)
        if isinstance(status, int) and not isinstance(status, bool):
            return status
    return 0


def _is_retryable_status(error: BaseException) -> bool:
    status = _http_status(error)
    return status in _RETRYABLE_STATUS or status in _SERVER_ERRORS


def _is_throttled_by_aws(error: BaseException) -> bool:
    return attribute(error, "response.Error.Code") in _AWS_THROTTLES


def _is_client_error(error: BaseException) -> bool:
    return _http_status(error) in _CLIENT_ERRORS


def _sqlstate(error: BaseException) -> str:
    state = attribute(error, "sqlstate") or attribute(error, "pgcode")
    return state if isinstance(state, str) else ""


def _may_pass_in_postgres(error: BaseException) -> bool:
    return _sqlstate(error).startswith(_SQLSTATES)


def _lost_a_database(error: BaseException) -> bool:
    return not _sqlstate(error) and _is_named(_DATABASES)(error)


def _any(*tests: Test) -> Test:
    return lambda error: any(test(error) for test in tests)


_PERMANENT, _RESOURCE = FailureKind.PERMANENT, FailureKind.RESOURCE
_TIMEOUT, _TRANSIENT, _UNKNOWN = FailureKind.TIMEOUT, FailureKind.TRANSIENT, FailureKind.UNKNOWN

ROWS = (
    TaxonomyRow("`GiveUp`", _PERMANENT, _is(GiveUp)),
    TaxonomyRow(
        "data that does not fit its model", _PERMANENT, _is(ValidationError, CodecError, EventInvalid), inner=False
    ),
    TaxonomyRow("out of memory", _RESOURCE, _is(MemoryError)),
    TaxonomyRow("disk, quota or open files used up", _RESOURCE, _has_number(_FULL)),
    TaxonomyRow(
        "SQLITE_FULL, SQLITE_NOMEM",
        _RESOURCE,
        _any(_has_sqlite_code(_SQLITE_FULL, _SQLITE_NO_MEMORY), _is_named(_EXHAUSTED)),
    ),
    TaxonomyRow("throttling codes of AWS", _TRANSIENT, _is_throttled_by_aws),
    TaxonomyRow("HTTP 408, 425, 429 and 5xx", _TRANSIENT, _is_retryable_status),
    TaxonomyRow("other HTTP 4xx", _PERMANENT, _is_client_error),
    TaxonomyRow("time-outs", _TIMEOUT, _any(_is(TimeoutError), _is_named(_TIMEOUTS))),
    TaxonomyRow(
        "`ConnectionError`", _TRANSIENT, _any(_is(ConnectionError), _is_named(_CONNECTIONS), _has_number(_NO_ROUTE))
    ),
    TaxonomyRow(
        "SQLITE_BUSY, SQLITE_LOCKED",
        _TRANSIENT,
        _any(
            _has_sqlite_code(_SQLITE_BUSY, _SQLITE_LOCKED), _is_named(frozenset({"apsw.BusyError", "apsw.LockedError"}))
        ),
    ),
    TaxonomyRow("SQLSTATE 40001, 40P01, 08xxx, 57P0x", _TRANSIENT, _any(_may_pass_in_postgres, _lost_a_database)),
    TaxonomyRow("`Overloaded`, `LogUnavailable`", _TRANSIENT, _is(Overloaded, LogUnavailable)),
    TaxonomyRow("a lost Ray actor, worker or object", _UNKNOWN, _is_named(_LOST)),
)
