"""Reported: white space after a header value counts, so a delivery id with a blank starts a second run."""

import pytest

from .door import BODY, SIGNED, post, served

BLANKS = [b"", b" ", b"\t", b" \t  "]


async def test_a_delivery_id_is_the_same_whatever_white_space_follows_it() -> None:
    async with served() as door:
        for blank in BLANKS:
            (answer,) = await door.talk(
                post(b"/hooks/shop", SIGNED + blank, b"x-github-delivery:" + blank + b"7" + blank)
            )
            assert answer.status == 202, (answer, blank)
        assert len(door.engine.accepted) == 1


@pytest.mark.parametrize(
    "name", [b"content-length: %d" % len(BODY), b"host: localhost", b"content-type: application/json"]
)
async def test_no_header_means_something_else_with_white_space_after_it(name: bytes) -> None:
    async with served() as door:
        for blank in BLANKS:
            request = post(b"/hooks/shop", SIGNED).replace(name, name + blank)
            (answer,) = await door.talk(request)
            assert answer.status == 202, (answer, blank)


async def test_the_content_encoding_identity_is_accepted_with_white_space_after_it() -> None:
    async with served() as door:
        (answer,) = await door.talk(post(b"/hooks/shop", SIGNED, b"content-encoding: identity "))
    assert answer.status == 202
