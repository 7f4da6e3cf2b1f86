"""Request bodies: read raw, within limits of size and time, and parsed as strict JSON.

Rules: bytes are counted as they arrive; Content-Length may refuse a body earlier, but never allows more. JSON is UTF-8
without NaN, Infinity, lone surrogates or numbers that overflow (1e400), and at most 64 levels deep. The last value of
a repeated name counts; since the body is parsed once, all readers see the same value. Bodies are never decompressed.
"""

import asyncio
import gc
from collections.abc import MutableMapping
from contextlib import suppress
from sys import float_info
from typing import Any

from pydantic_core import from_json, to_json

from ...events.model.codec import MAX_DEPTH
from .asgi import Receive
from .deadlines import Deadline
from .problems import Refused, refuse

__all__ = ["parse_json", "read_body"]

_LINGER_SECONDS = 1.0
_LINGER_BYTES = 4 * 1024 * 1024
_DEEPEST = 4096
_LARGE_BYTES = 256 * 1024


class NotJson(Refused, ValueError):
    """The body is not JSON; a ValueError, as other parsers raise for the functions of webhooks."""

    def __init__(self, reason: str) -> None:
        super().__init__(refuse("body-unreadable", f"The body is not JSON: {reason}.").problem)


class TooDeep(Refused, ValueError):
    """The body is nested too deeply."""

    def __init__(self) -> None:
        detail = f"Lists and objects may be nested at most {MAX_DEPTH} levels deep."
        super().__init__(refuse("body-too-deep", detail).problem)


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
    is_shallow = body.count(b"[") + body.count(b"{") <= MAX_DEPTH
    value = _parse(body) if is_shallow else _parse_within_depth(body)
    if _has_infinity(value):
        raise NotJson(f"a number is larger than {float_info.max:.4g}")
    return value


def _parse(body: bytes) -> Any:
    try:
        return _load(body)
    except ValueError as error:
        reason = str(error)
    raise TooDeep if reason.startswith("recursion limit") else NotJson(reason)


def _parse_within_depth(body: bytes) -> Any:
    """The value of a body that may be too deep.

    The parser has a limit of its own. The body is wrapped in so many lists that this limit is ours. A body that closes
    one of these lists leaves a list that does not have exactly one item, so it cannot pass for another value.
    """
    try:
        value = _load(_OPEN + body + _CLOSE)
    except ValueError as error:
        if str(error).startswith("recursion limit"):
            raise TooDeep from None
        value = ()
    for _ in _OPEN:
        if len(value) != 1:
            return _parse(body)  # which is not JSON: this error names the right place
        (value,) = value
    return value


def _load(text: bytes) -> Any:
    """Parse without garbage collections, which take most of the time of a large body."""
    if len(text) < _LARGE_BYTES or not gc.isenabled():
        return from_json(text, allow_inf_nan=False)
    gc.disable()
    try:
        return from_json(text, allow_inf_nan=False)
    finally:
        gc.enable()


def _has_infinity(value: Any) -> bool:
    """Whether a number is infinite: the parser accepts a number that overflows."""
    text = to_json(value, inf_nan_mode="constants")
    return b"Infinity" in text and text != to_json(value, inf_nan_mode="null")


def _parser_depth() -> int:
    """The depth that the parser accepts."""
    depth = MAX_DEPTH
    with suppress(ValueError):
        while depth < _DEEPEST:
            from_json(b"[" * (depth + 1) + b"]" * (depth + 1))
            depth += 1
    return depth


_OPEN = b"[" * (_parser_depth() - MAX_DEPTH)
_CLOSE = b"]" * len(_OPEN)
