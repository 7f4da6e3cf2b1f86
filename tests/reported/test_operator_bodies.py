"""Reported: the routes of operators have neither a body limit nor a timeout: 400 MiB to /dead/redrive are read."""

import pytest

from .door import post, served

LIMIT_BYTES = 1024 * 1024
PATHS = [
    b"/dead/redrive",
    b"/dead/discard",
    b"/breakers/a/open",
    b"/runs/a/cancel",
    b"/pipelines/a/restart",
    b"/nothing",
]


@pytest.mark.parametrize("path", PATHS)
async def test_every_route_has_the_same_limits(path: bytes) -> None:
    async with served(read_timeout_seconds=0.2) as door:
        for request, status in [
            (post(path, body=b" " * (LIMIT_BYTES + 1)), 413),
            (post(path, body=b"{}").replace(b"content-length: 2", b"content-length: 99999999"), 413),
            (post(path, body=b" " * LIMIT_BYTES * 2, chunked=True), 413),
            (post(path, body=b"{}")[:-1], 408),
            (post(path, b"content-encoding: gzip", body=b"{}"), 415),
        ]:
            (answer,) = await door.talk(request)
            assert answer.status == status, (answer, request[:200])
