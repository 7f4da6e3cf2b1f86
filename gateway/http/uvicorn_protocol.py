"""The HTTP protocol of the server: uvicorn's, with limits on the head of a request.

Rules: the head (the request line and the headers) is limited in bytes and in time. Over the byte limit the answer is
431 and the connection is closed; over the time limit, also on an idle new connection, it is closed without an answer.
A header value has no white space around it. Trailers count towards the byte limit and are never headers. Every offer to
upgrade is declined, as HTTP allows: the request is answered as HTTP/1.1, with its body.
"""

import asyncio

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .problems import MEDIA_TYPE, PROBLEMS, Problem

__all__ = ["HEAD_LIMIT_BYTES", "HEAD_TIMEOUT_SECONDS", "BoundedProtocol"]

HEAD_LIMIT_BYTES = 64 * 1024
HEAD_TIMEOUT_SECONDS = 10.0
_AROUND_HEADER_BYTES = len(": \r\n")
_WHITE_SPACE = b" \t"
_MALFORMED = Problem(PROBLEMS["request-invalid"], "The bytes are not an HTTP request.")
_TOO_LARGE = Problem(
    PROBLEMS["head-too-large"], f"The request line and the headers are larger than {HEAD_LIMIT_BYTES:,} bytes."
)


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _in_head = True
    _head_bytes = 0
    """Bytes of the head that are parsed."""
    _waiting_bytes = 0
    """Bytes that arrived while the head was incomplete."""
    _head_timer: asyncio.TimerHandle | None = None
    _offers_upgrade = False
    """Whether the parser stopped after this head, because it offers an upgrade."""

    _has_ended_message = False
    """Whether a message ended in the bytes that arrived last: then they are not all of the head that is incomplete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._has_ended_message = False
        try:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as offer:
                self._feed_declined(memoryview(data)[offer.args[0] :])
        except HttpParserError:
            self.send_400_response("")
            return
        if self._in_head and not self.transport.is_closing():
            self._wait(0 if self._has_ended_message else len(data))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = self._waiting_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise ValueError
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + _AROUND_HEADER_BYTES
        if self._head_bytes > HEAD_LIMIT_BYTES:
            raise ValueError  # the parser turns it into its own error, which is answered by send_400_response
        if self._in_head:  # otherwise it is a trailer
            # As uvicorn's own, without the cost of a call for each header.
            name, value = name.lower(), value.rstrip(_WHITE_SPACE)
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self.parser.should_upgrade():
            self._note_offer()
            return
        if self._head_timer is not None:
            self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._has_ended_message = True
        if not self._offers_upgrade:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer a request that cannot be parsed or whose head is over the limit."""
        self._disarm()
        over = max(self._head_bytes, self._waiting_bytes) > HEAD_LIMIT_BYTES
        self.transport.write(_render(_TOO_LARGE if over else _MALFORMED))
        self.transport.close()

    def _feed_declined(self, rest: memoryview) -> None:
        """Feed what follows the head of a request that offers an upgrade."""
        while True:
            self._decline_upgrade()
            try:
                self.parser.feed_data(rest)
            except HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
            else:
                return

    def _note_offer(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise ValueError  # a tunnel, which is no offer: refused like bytes that are not HTTP
        self._offers_upgrade = True

    def _decline_upgrade(self) -> None:
        """Parse the head again without the offer: the parser skips the body of a request that offers an upgrade."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        self._offers_upgrade = False
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self.parser.feed_data(b"\r\n".join(lines) + b"\r\n\r\n")

    def _wait(self, size: int) -> None:
        """Count bytes of a head that is not complete."""
        self._waiting_bytes += size
        if self._waiting_bytes > HEAD_LIMIT_BYTES:
            self.send_400_response("")
        elif self._head_timer is None:
            self._arm()

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_SECONDS, self._expire)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expire(self) -> None:
        self._head_timer = None
        self.transport.close()


def _render(problem: Problem) -> bytes:
    body = problem.body()
    lines = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return f"HTTP/1.1 {problem.status} Refused\r\n{lines}".encode() + body
