"""The part of ASGI that the hot path needs: request headers, and responses made of bytes.

Rules: header names are lower-case. Header values are decoded as Latin-1, which keeps every byte, so non-ASCII values
can be detected. A refused body closes its connection, because the start of the next request is unknown.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from .problems import MEDIA_TYPE, UNAUTHORIZED, Problem

__all__ = [
    "HeaderView",
    "Headers",
    "Receive",
    "Scope",
    "Send",
    "read_headers",
    "replay",
    "send_json",
    "send_problem",
    "without_body",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = dict[str, list[str]]

_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", MEDIA_TYPE.encode())
_CLOSE = (b"connection", b"close")
_ALLOW = (b"allow", b"POST")  # the only method of both plain ASGI endpoints
_CLOSING = frozenset({408, 413})
_WRONG_METHOD = 405


class HeaderView(Mapping[str, str]):
    """Headers with one text each: the values of a repeated header are joined with commas, as HTTP defines it."""

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
    """The headers of a request: all values of each name."""
    headers: Headers = {}
    for name_bytes, value in raw:
        name = name_bytes.decode("latin-1")
        if name in headers:
            headers[name].append(value.decode("latin-1"))
        else:
            headers[name] = [value.decode("latin-1")]
    return headers


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read before, and then what follows it."""
    waiting = [body]

    async def receive_again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again


def without_body(send: Send) -> Send:
    """A `send` that leaves the body out: the answer to HEAD is the head of the answer to GET."""

    async def send_head(message: MutableMapping[str, Any]) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


async def send_json(send: Send, status: int, body: bytes) -> None:
    """Send a JSON response."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [_JSON, length]})
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, problem: Problem) -> None:
    """Send a problem as the response."""
    body = _UNAUTHORIZED if problem.kind is UNAUTHORIZED.kind else problem.body()
    headers = [_PROBLEM, (b"content-length", b"%d" % len(body)), *problem.headers]
    if problem.status in _CLOSING:
        headers.append(_CLOSE)
    if problem.status == _WRONG_METHOD:
        headers.append(_ALLOW)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_UNAUTHORIZED = UNAUTHORIZED.body()
