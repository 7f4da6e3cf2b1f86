"""Reported: a client that offers an upgrade (JDK's HttpClient, `curl --http2`) loses its body, and gets 400 or 401."""

import pytest

from .door import SIGNED, Door, post, served

OFFERS = [
    (
        b"connection: Upgrade, HTTP2-Settings",
        b"upgrade: h2c",
        b"http2-settings: AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAA",
    ),
    (b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13", b"sec-websocket-key: AQIDBA=="),
    (b"connection: keep-alive, Upgrade", b"upgrade: TLS/1.0, HTTP/2.0"),
    (b"upgrade: h2c", b"connection: close, UPGRADE"),
    (b"connection: upgrade", b"upgrade: a", b"upgrade: b"),
    (b"connection: upgrade", b"upgrade:"),
    (b"upgrade: h2c",),
    (b"connection: upgrade",),
]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_to_upgrade_is_answered_as_http_1_1_with_its_body(
    offer: tuple[bytes, ...], chunked: bool
) -> None:
    request = post(b"/hooks/shop", SIGNED, *offer, chunked=chunked)
    async with served() as door:
        for segments in _segmentations(request, request.index(b"\r\n\r\n") + 4):
            (answer,) = await door.talk(*segments)
            assert answer.status == 202, answer
            assert "upgrade" not in answer.headers
        assert len(door.engine.accepted) == 4


def _segmentations(request: bytes, head: int) -> list[list[bytes]]:
    """Whole, with the head alone, cut inside of the head and the body, and byte by byte."""
    cuts = [[request], [request[:head], request[head:]], [request[: head - 3], request[head - 3 : head + 5]]]
    cuts[2].append(request[head + 5 :])
    return [*cuts, [bytes([byte]) for byte in request]]


@pytest.mark.parametrize("split", [False, True])
async def test_a_connection_is_kept_after_a_declined_offer(split: bool) -> None:
    offer = post(b"/hooks/shop", SIGNED, *OFFERS[0])
    rest = [post(b"/hooks/shop", SIGNED), post(b"/hooks/shop", SIGNED, *OFFERS[1]), post(b"/hooks/shop", SIGNED)]
    async with served() as door:
        segments = [offer, *rest] if split else [b"".join([offer, *rest])]
        answers = await door.talk(*segments, answers=4)
    assert [answer.status for answer in answers] == [202] * 4


async def test_thousands_of_offers_in_one_segment_are_all_answered() -> None:
    offer = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    async with served() as door:
        answers = await door.talk(offer * 2000, answers=2000)
    assert {answer.status for answer in answers} == {200}


async def test_the_limits_hold_for_an_offer_too() -> None:
    async with served(read_timeout_seconds=0.2) as door:
        assert await _status(door, post(b"/events", *OFFERS[0], body=b" " * (1024 * 1024 + 1))) == 413
        assert await _status(door, post(b"/hooks/shop", *OFFERS[0])[:-1]) == 408
        assert await _status(door, post(b"/hooks/shop", *OFFERS[0], b"x: " + b"x" * 65536)) == 431
        assert await _status(door, post(b"/hooks/shop", *OFFERS[0])) == 401


async def test_an_http_1_0_client_that_offers_is_answered_and_let_go() -> None:
    request = post(b"/hooks/shop", SIGNED, *OFFERS[1]).replace(b"HTTP/1.1", b"HTTP/1.0")
    async with served() as door:
        (answer,) = await door.talk(request)
    assert (answer.status, answer.headers["connection"]) == (202, "close")


@pytest.mark.parametrize(
    "request_", [b"CONNECT evil:443 HTTP/1.1\r\nhost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
async def test_what_is_no_offer_but_another_protocol_is_refused(request_: bytes) -> None:
    async with served() as door:
        assert await _status(door, request_) == 400


async def _status(door: Door, request: bytes) -> int:
    (answer,) = await door.talk(request)
    return answer.status
