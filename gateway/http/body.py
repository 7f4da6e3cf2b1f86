"""Request bodies: read raw, within limits of size and time, and parsed as strict JSON.

Rules: bytes are counted as they arrive; Content-Length may refuse a body earlier, but never allows more. JSON is UTF-8
without NaN, Infinity or lone surrogates, and at most 64 levels deep. The last value of a repeated name counts; since
the body is parsed once, all readers see the same value. Bodies are never decompressed.
"""

import asyncio
import re
from collections.abc import MutableMapping
from typing import Any

from pydantic_core import from_json

from ...events.model.codec import MAX_DEPTH
from .asgi import Receive
from .deadlines import Deadline
from .problems import Refused, refuse

__all__ = ["parse_json", "read_body"]

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


class _Over(Exception):
    """The body is over the limit, and more bytes may follow."""


async def read_body(receive: Receive, length: str | None, limit_bytes: int, within: Deadline) -> bytes:
    """The whole body.

    `length` is the Content-Length header, `within` the deadline for the last byte. Refuses with `body-too-large`,
    `body-timeout` or `request-invalid`.
    """
    if length is not None and (not length.isdigit() or int(length) > limit_bytes):
        await _linger(receive)
        raise _too_large(limit_bytes)
    try:
        with within:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message.get("more_body") or message["type"] != "http.request":
                body = await _read_rest(receive, message, limit_bytes)
    except _Over:
        await _linger(receive)
        raise _too_large(limit_bytes) from None
    except TimeoutError:
        raise refuse("body-timeout", "The body was not complete in time.") from None
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    return body


async def _read_rest(receive: Receive, message: MutableMapping[str, Any], limit_bytes: int) -> bytes:
    chunks = bytearray()
    while True:
        if message["type"] != "http.request":
            raise refuse("request-invalid", "The client disconnected before the body was complete.")
        chunks += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(chunks)
        if len(chunks) > limit_bytes:
            raise _Over
        message = await receive()


async def _linger(receive: Receive) -> None:
    """Discard some more bytes, so that a sender that is slightly over the limit still reads the answer."""
    left = _LINGER_BYTES
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def _too_large(limit_bytes: int) -> Refused:
    return refuse("body-too-large", f"The body is larger than {limit_bytes:,} bytes, the limit of this path.")


def parse_json(body: bytes) -> Any:
    """The value of a JSON body. Refuses with `body-unreadable` or `body-too-deep`."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _unreadable(str(error)) from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deeper(body, MAX_DEPTH):
        raise _too_deep()
    return value


def _is_deeper(body: bytes, limit: int) -> bool:
    """Whether valid JSON is nested deeper than `limit`. Each pass removes the innermost level."""
    brackets = _STRINGS.sub(b"", body).translate(_BRACKETS, _OTHERS)
    for _ in range(limit):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _unreadable(reason: str) -> Refused:
    if reason.startswith("recursion limit"):
        return _too_deep()
    return refuse("body-unreadable", f"The body is not JSON: {reason}.")


def _too_deep() -> Refused:
    return refuse("body-too-deep", f"Lists and objects may be nested at most {MAX_DEPTH} levels deep.")
