"""Plain ASGI, as little as the hot path needs: headers read once, answers made of bytes.

Rules: header names are lower-case; a value keeps its bytes as Latin-1, so that what is not ASCII can be told; a
refused body ends its connection, since nobody knows where the next request would begin.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from .problems import MEDIA_TYPE, UNAUTHORIZED, Problem

__all__ = ["HeaderView", "Headers", "Receive", "Scope", "Send", "read_headers", "send_json", "send_problem"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, list[str]]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())
_CLOSE = (b"connection", b"close")
_ALLOW = (b"allow", b"POST")  # both plain endpoints take nothing else
_CLOSING = frozenset({408, 413})
_WRONG_METHOD = 405


class HeaderView(Mapping[str, str]):
    """Headers as one text each; a header that came twice is joined with commas, as HTTP says."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._headers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


def read_headers(raw: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of a request by name, each with all its values."""
    headers: Headers = {}
    for name_bytes, value in raw:
        name = name_bytes.decode("latin-1")
        if name in headers:
            headers[name].append(value.decode("latin-1"))
        else:
            headers[name] = [value.decode("latin-1")]
    return headers


async def send_json(send: Send, status: int, body: bytes) -> None:
    """Answer with JSON."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Answer with a problem."""
    body = _UNAUTHORIZED if problem.kind is UNAUTHORIZED.kind else problem.body()
    headers = [_PROBLEM, (b"content-length", b"%d" % len(body)), *problem.headers]
    if problem.status in _CLOSING:
        headers.append(_CLOSE)
    if problem.status == _WRONG_METHOD:
        headers.append(_ALLOW)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_UNAUTHORIZED = UNAUTHORIZED.body()
