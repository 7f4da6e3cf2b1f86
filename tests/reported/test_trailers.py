"""Reported: trailers of a chunked body that arrive with the head count as headers, so a signature there is accepted."""

import pytest

from .door import SIGNED, post, served


def _segmentations(request: bytes) -> list[list[bytes]]:
    """Whole, cut before the trailers, cut in them, and byte by byte."""
    trailers = request.index(b"\r\n0\r\n") + 5
    cuts = [[request[:at], request[at:]] for at in (trailers, trailers + 4, len(request) - 2)]
    return [[request], *cuts, [bytes([byte]) for byte in request]]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (post(b"/hooks/shop", chunked=True, trailers=SIGNED + b"\r\n"), 401),
        (post(b"/hooks/shop", SIGNED, chunked=True).replace(b"host: localhost\r\n", b""), 400),
        (post(b"/hooks/shop", SIGNED, chunked=True).replace(b"content-type: application/json\r\n", b""), 415),
    ],
)
async def test_what_only_a_trailer_says_was_not_said(request_: bytes, status: int) -> None:
    if status != 401:
        request_ = request_[:-2] + b"Host: localhost\r\nContent-Type: application/json\r\n\r\n"
    async with served() as door:
        for segments in _segmentations(request_):
            (answer,) = await door.talk(*segments)
            assert answer.status == status, (answer, segments)
        assert door.engine.accepted == []


@pytest.mark.parametrize("trailer", [SIGNED, b"host: evil", b"x-github-delivery: 2", b"content-encoding: gzip"])
async def test_a_trailer_takes_nothing_from_a_delivery(trailer: bytes) -> None:
    request = post(b"/hooks/shop", SIGNED, b"x-github-delivery: 1", chunked=True, trailers=trailer + b"\r\n")
    async with served() as door:
        for segments in _segmentations(request):
            (answer,) = await door.talk(*segments)
            assert answer.status == 202, (answer, segments)
        assert len(door.engine.accepted) == 1  # the id is that of the head, each time


async def test_a_trailer_is_no_header_of_the_next_request() -> None:
    first = post(b"/hooks/shop", SIGNED, chunked=True, trailers=SIGNED + b"\r\n")
    async with served() as door:
        answers = await door.talk(first + post(b"/hooks/shop"), answers=2)
    assert [answer.status for answer in answers] == [202, 401]


async def test_trailers_without_end_are_refused() -> None:
    request = post(b"/hooks/shop", SIGNED, chunked=True, trailers=b"a: b\r\n" * 11000)
    async with served() as door:
        (answer,) = await door.talk(request)
    assert answer.status == 431
