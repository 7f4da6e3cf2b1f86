"""Every exception has its class, and counts for a breaker or not."""

import asyncio
import concurrent.futures
import errno
import socket
import sqlite3
from contextlib import closing
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import apsw
import httpx
import pytest

from ensue import GiveUp
from ensue.actors.worker.error_taxonomy import ROWS
from ensue.actors.worker.retry_decision import UndeclaredEvent, classify, feeds_breaker
from ensue.events.errors import CodecError, EventInvalid, Overloaded
from ensue.events.model.failure import FailureKind
from ensue.events.policies.retry import ExceptionTypes

from .raised import from_aws, from_library, http, invalid, raised_from


def sqlite(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is ...")
    error.sqlite_errorcode = code
    return error


def real_sqlite_lock() -> sqlite3.OperationalError:
    with closing(sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True, timeout=0)) as one:
        one.execute("CREATE TABLE t (x)")
        one.execute("BEGIN EXCLUSIVE")
        with closing(sqlite3.connect("file:locked?mode=memory&cache=shared", uri=True, timeout=0)) as two:
            with pytest.raises(sqlite3.OperationalError) as caught:
                two.execute("INSERT INTO t VALUES (1)")
            return caught.value


PERMANENT = [
    GiveUp("x"),
    UndeclaredEvent("x"),
    CodecError("x"),
    EventInvalid("x"),
    invalid(),
    http(400),
    http(401),
    http(404),
    http(422),
    HTTPError("http://x", 403, "no", Message(), None),
    from_library("aiohttp.client_exceptions.ClientResponseError", status=404),
    from_library("openai.NotFoundError", status_code=404),
    from_aws(403, "AccessDenied"),
    raised_from(GiveUp("x")),
    raised_from(http(404)),
    ExceptionGroup("both", [ValueError("x"), GiveUp("x")]),
]
RESOURCE = [
    MemoryError(),
    OSError(errno.ENOSPC, "x"),
    OSError(errno.EDQUOT, "x"),
    OSError(errno.EMFILE, "x"),
    OSError(errno.ENFILE, "x"),
    OSError(errno.ENOMEM, "x"),
    sqlite(13),
    from_library("apsw.FullError"),
    from_library("torch.cuda.OutOfMemoryError", RuntimeError),
    raised_from(OSError(errno.ENOSPC, "x")),
]
TIMEOUT = [
    TimeoutError(),
    concurrent.futures.TimeoutError(),
    OSError(errno.ETIMEDOUT, "x"),
    httpx.ReadTimeout("x"),
    httpx.PoolTimeout("x"),
    from_library("requests.exceptions.Timeout", OSError),
    from_library("urllib3.exceptions.TimeoutError"),
    raised_from(TimeoutError()),
    URLError(TimeoutError()),
]
TRANSIENT = [
    ConnectionError("x"),
    ConnectionResetError("x"),
    BrokenPipeError("x"),
    OSError(errno.EHOSTUNREACH, "x"),
    socket.gaierror(socket.EAI_AGAIN, "x"),
    asyncio.IncompleteReadError(b"", 9),
    httpx.ConnectError("x"),
    httpx.RemoteProtocolError("x"),
    from_library("requests.exceptions.ConnectionError", OSError),
    from_library("aiohttp.client_exceptions.ClientConnectionError"),
    from_library("aiohttp.client_exceptions.ClientConnectorError", type(from_library("aiohttp.ClientConnectionError"))),
    URLError(ConnectionRefusedError("x")),
    http(408),
    http(425),
    http(429),
    http(500),
    http(503),
    http(599),
    HTTPError("http://x", 503, "no", Message(), None),
    from_aws(503, "ServiceUnavailable"),
    from_aws(400, "ThrottlingException"),
    from_library("aiohttp.client_exceptions.ClientResponseError", status=502),
    sqlite(sqlite3.SQLITE_BUSY),
    sqlite(sqlite3.SQLITE_BUSY_SNAPSHOT),
    sqlite(sqlite3.SQLITE_LOCKED),
    real_sqlite_lock(),
    apsw.BusyError("x"),
    apsw.LockedError("x"),
    from_library("psycopg.errors.SerializationFailure", sqlstate="40001"),
    from_library("psycopg2.errors.DeadlockDetected", pgcode="40P01"),
    from_library("asyncpg.exceptions.ConnectionDoesNotExistError", sqlstate="08003"),
    from_library("psycopg.errors.AdminShutdown", sqlstate="57P01"),
    from_library("psycopg.OperationalError", sqlstate=None),
    from_library(
        "sqlalchemy.exc.DBAPIError", orig=from_library("psycopg.errors.Error", sqlstate="40001"), code="dbapi"
    ),
    raised_from(from_library("asyncpg.exceptions.Error", sqlstate="57P03")),
    raised_from(raised_from(ConnectionError("x"))),
    ExceptionGroup("both", [ValueError("x"), ConnectionError("x")]),
    Overloaded("x"),
]
UNCLASSED = [
    ValueError("x"),
    KeyError("x"),
    OSError("x"),
    PermissionError("x"),
    http(302),
    from_aws(301, "PermanentRedirect"),
    sqlite(sqlite3.SQLITE_CORRUPT),
    from_library("psycopg.errors.UniqueViolation", sqlstate="23505"),
    from_library("mine.ConnectionError"),
    from_library("mine.Refused", code="404", status=True),
    raised_from(invalid()),
    raised_from(ValueError("x")),
]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((error, FailureKind.PERMANENT) for error in PERMANENT),
        *((error, FailureKind.RESOURCE) for error in RESOURCE),
        *((error, FailureKind.TIMEOUT) for error in TIMEOUT),
        *((error, FailureKind.TRANSIENT) for error in (*TRANSIENT, *UNCLASSED)),
        (from_library("ray.exceptions.ActorDiedError", type(from_library("ray.RayActorError"))), FailureKind.UNKNOWN),
    ],
    ids=repr,
)
def test_every_exception_has_its_class(error: BaseException, kind: FailureKind) -> None:
    assert classify(error) is kind


@pytest.mark.parametrize("error", [*TRANSIENT, *TIMEOUT], ids=repr)
def test_transient_failures_count_for_the_breaker(error: Exception) -> None:
    assert feeds_breaker(error, None)


@pytest.mark.parametrize("error", [*UNCLASSED, *PERMANENT, *RESOURCE], ids=repr)
def test_what_may_be_the_step_s_own_fault_counts_for_no_breaker(error: Exception) -> None:
    assert not feeds_breaker(error, None)


@pytest.mark.parametrize(
    ("error", "counts", "feeds"),
    [
        (ValueError("x"), ValueError, True),
        (UnicodeError("x"), (KeyError, ValueError), True),
        (ConnectionError("x"), ValueError, False),
        (http(404), Exception, True),
        (ConnectionError("x"), (), False),
    ],
    ids=repr,
)
def test_a_breaker_that_says_what_counts_decides(error: Exception, counts: ExceptionTypes, *, feeds: bool) -> None:
    assert feeds_breaker(error, counts) is feeds


def test_causes_in_a_circle_are_looked_at_once() -> None:
    error = raised_from(ValueError("x"))
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    assert classify(error) is FailureKind.TRANSIENT


def test_an_exception_whose_attributes_raise_has_no_class() -> None:
    class Hostile(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("no")

    assert classify(Hostile()) is FailureKind.TRANSIENT


def test_every_row_of_the_table_stands_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "failures.md").read_text(encoding="utf-8")
    assert [row.words for row in ROWS if row.words not in page] == []
