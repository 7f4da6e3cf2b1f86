"""Exceptions as steps raise them, for the tests of what becomes of them."""

import httpx
import pytest
from pydantic import ValidationError

from ensue import Event


class Order(Event):
    n: int


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"n": "x"})
    return caught.value


def http(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://x")
    return httpx.HTTPStatusError(
        "no", request=request, response=httpx.Response(status, headers=headers, request=request)
    )


def from_library(name: str, *bases: type[Exception], **carried: object) -> Exception:
    """An exception as a library of this name would raise it: `httpx.ConnectError`."""
    module, _, kind = name.rpartition(".")
    error: Exception = type(kind, bases or (Exception,), {"__module__": module})("x")
    for attribute, value in carried.items():
        setattr(error, attribute, value)
    return error


def from_aws(status: int, code: str, **headers: str) -> Exception:
    """As botocore raises what an AWS service answers: a dict as the response."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": metadata}
    return from_library("botocore.exceptions.ClientError", response=response)


def raised_from(cause: BaseException, error: Exception | None = None) -> Exception:
    wrapped = error or RuntimeError("could not do it")
    wrapped.__cause__ = cause
    return wrapped
