"""Reported: a page of another site can start runs on an endpoint that takes forms or text."""

from collections.abc import AsyncIterator

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import create_app

from ..acceptance.stand_in import StandInEngine


class Ping(Event): ...


TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "http://evil"},
    {"origin": "null"},
]


@pytest.fixture
def engine() -> StandInEngine:
    pings = Pipeline("pings")

    @pings.step
    def hear(event: Ping) -> None: ...

    @pings.webhook("forms", verify=hooks.Insecure(), content_types=(*TYPES, "application/json"))
    def from_forms(hook: Webhook) -> Ping:
        return Ping()

    return StandInEngine([pings])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("origin", FOREIGN)
async def test_a_page_of_another_site_starts_no_run(
    client: httpx.AsyncClient, engine: StandInEngine, content_type: str, origin: dict[str, str]
) -> None:
    for sent in (content_type, content_type + "; charset=utf-8", content_type.upper()):
        response = await client.post("/hooks/forms", content=b"a=b", headers={"content-type": sent, **origin})
        assert (response.status_code, response.json()["type"]) == (403, "urn:ensue:problem:cross-site")
    assert engine.accepted == []


@pytest.mark.parametrize("origin", [{}, {"sec-fetch-site": "same-origin"}, {"origin": "http://localhost"}])
async def test_a_sender_and_a_page_of_the_same_site_do(client: httpx.AsyncClient, origin: dict[str, str]) -> None:
    headers = {"content-type": TYPES[0], **origin}
    assert (await client.post("/hooks/forms", content=b"a=b", headers=headers)).status_code == 202


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/status", "/metrics", "/runs", "/openapi.json", "/runs/x"])
async def test_head_is_answered_as_get_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    get, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.headers["content-type"], head.content) == (
        get.status_code,
        get.headers["content-type"],
        b"",
    )


ALLOWED = [
    ("PUT", "/healthz", "GET, HEAD"),
    ("POST", "/runs", "GET, HEAD"),
    ("PUT", "/dead/x", "DELETE, GET, HEAD"),
    ("PUT", "/dead/x/redrive", "POST"),
    ("PUT", "/dead/redrive", "DELETE, GET, HEAD, POST"),
    ("GET", "/runs/x/cancel", "POST"),
    ("HEAD", "/runs/x/cancel", "POST"),
    ("HEAD", "/hooks/forms", "POST"),
    ("HEAD", "/events", "POST"),
]


@pytest.mark.parametrize(("method", "path", "allowed"), ALLOWED)
async def test_allow_names_all_methods_of_a_path(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
