"""Reported: a resend whose bytes differ under the same signed id is answered 422 every time."""

import time
from base64 import b64decode, b64encode
from hmac import digest

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import create_app
from ensue.gateway.ingest.signing import id_is_enough

from ..acceptance.stand_in import StandInEngine

KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
FIRST = b'{"order_id":"o-1","pending":1,"list":[1,2.5]}'
SPACED = [b' {"order_id": "o-1",\n "pending": 1, "list": [1, 2.50]}\n', FIRST.replace(b"o-1", b"\\u006f-1")]
OTHER = b'{"order_id":"o-1","pending":2,"list":[1,2.5]}'


class Ordered(Event):
    order_id: str


def _engine() -> StandInEngine:
    orders = Pipeline("orders")

    @orders.step
    def ship(event: Ordered) -> None: ...

    def read(hook: Webhook) -> Ordered:
        return Ordered(order_id="o-1")

    types = ("application/json", "text/plain")
    orders.webhook("exact", verify=hooks.StandardWebhooks(secret_env="HOOK"), content_types=types)(read)
    lenient = hooks.StandardWebhooks(secret_env="HOOK", id_is_enough=True)
    orders.webhook("lenient", verify=lenient, content_types=types)(read)
    orders.webhook("github", verify=hooks.GitHub(secret_env="HOOK"))(read)
    return StandInEngine([orders])


async def _send(
    engine: StandInEngine, name: str, body: bytes, sent_id: str = "m-1", kind: str = "json"
) -> httpx.Response:
    now = int(time.time())
    mac = b64encode(digest(b64decode(KEY), f"{sent_id}.{now}.".encode() + body, "sha256")).decode()
    headers = {
        "webhook-id": sent_id,
        "webhook-timestamp": str(now),
        "webhook-signature": f"v1,{mac}",
        "x-hub-signature-256": "sha256=" + digest(KEY.encode(), body, "sha256").hex(),
        "x-github-delivery": sent_id,
        "content-type": "application/json" if kind == "json" else "text/plain",
    }
    app = create_app(engine, environment={"HOOK": KEY})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.post(f"/hooks/{name}", content=body, headers=headers)


@pytest.mark.parametrize("name", ["exact", "lenient"])
async def test_json_with_other_white_space_is_the_same_delivery(name: str) -> None:
    engine = _engine()
    answers = [(await _send(engine, name, body)).json() for body in (FIRST, *SPACED)]
    assert [answer["duplicate"] for answer in answers] == [False, True, True]
    assert len(engine.accepted) == 1


async def test_an_unsigned_id_counts_with_the_bytes_of_the_body() -> None:
    """The key of GitHub's deliveries is in stores of every version: white space stays part of it."""
    engine = _engine()
    answers = [(await _send(engine, "github", body)).json() for body in (FIRST, FIRST, SPACED[0])]
    assert [answer["duplicate"] for answer in answers] == [False, True, False]


@pytest.mark.parametrize("kind", ["json", "text"])
async def test_other_content_is_a_conflict_unless_the_id_is_enough(kind: str) -> None:
    engine = _engine()
    statuses = [
        (await _send(engine, name, body, kind=kind)).status_code
        for name in ("exact", "lenient")
        for body in (FIRST, OTHER)
    ]
    assert statuses == [202, 422, 202, 202]
    assert len(engine.accepted) == 2
    assert (await _send(engine, "lenient", FIRST, "m-2")).json()["duplicate"] is False


async def test_an_unsigned_id_is_never_enough() -> None:
    class Claims(hooks.GitHub):
        id_is_enough = True

    assert not id_is_enough(Claims(secret_env="HOOK"))
    engine = _engine()
    assert (await _send(engine, "github", FIRST)).json()["duplicate"] is False
    assert (await _send(engine, "github", OTHER)).json()["duplicate"] is False
