"""Reported: CloudEvents as the SDKs' own examples send them are refused: no content type is 415, no data is 400."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline
from ensue.gateway.api.app import create_app

from ..acceptance.stand_in import StandInEngine

ATTRIBUTES = {"specversion": "1.0", "source": "/shop", "id": "c-1"}
STRUCTURED = {"content-type": "application/cloudevents+json"}


class Ordered(Event):
    order_id: str


class Ping(Event): ...


@pytest.fixture
def engine() -> StandInEngine:
    orders = Pipeline("orders")

    @orders.step
    def ship(event: Ordered) -> None: ...

    @orders.step
    def hear(event: Ping) -> None: ...

    return StandInEngine([orders])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


def _binary(type_name: str, **more: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in ({**ATTRIBUTES, "type": type_name}).items()} | more


TYPES: list[dict[str, str]] = [{}, *({"content-type": name} for name in ("application/json", "application/x+json"))]


@pytest.mark.parametrize("content_type", TYPES)
async def test_a_binary_event_is_json_without_a_content_type_too(
    client: httpx.AsyncClient, engine: StandInEngine, content_type: dict[str, str]
) -> None:
    headers = _binary("Ordered") | content_type
    response = await client.post("/events", content=b'{"order_id": "o-1"}', headers=headers)
    assert (response.status_code, engine.accepted) == (202, [("orders", Ordered(order_id="o-1"), None)])


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
async def test_a_binary_event_without_data_has_no_fields(
    client: httpx.AsyncClient, engine: StandInEngine, content_type: dict[str, str], body: bytes
) -> None:
    response = await client.post("/events", content=body, headers=_binary("Ping") | content_type)
    assert (response.status_code, engine.accepted) == (202, [("orders", Ping(), None)])
    missing = await client.post("/events", content=body, headers=_binary("Ordered", **{"ce-id": "2"}) | content_type)
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "order_id")


@pytest.mark.parametrize("more", [{}, {"data": None}, {"data": {}}, {"data_base64": "bnVsbA=="}])
async def test_a_structured_event_without_data_has_no_fields(
    client: httpx.AsyncClient, engine: StandInEngine, more: dict[str, Any]
) -> None:
    event = {**ATTRIBUTES, "type": "Ping", **more}
    response = await client.post("/events", json=event, headers=STRUCTURED)
    assert (response.status_code, engine.accepted) == (202, [("orders", Ping(), None)])


async def test_no_data_in_any_form_is_the_same_event(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    for body in (b"", b"null", b"{}"):
        assert (await client.post("/events", content=body, headers=_binary("Ping"))).status_code == 202
    for more in ({}, {"data": None}):
        event = {**ATTRIBUTES, "type": "Ping", **more}
        assert (await client.post("/events", json=event, headers=STRUCTURED)).status_code == 202
    assert len(engine.accepted) == 1


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/plain", "ce-type": "Ping"}, {"content-type": ""}])
async def test_what_is_neither_is_still_refused(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.post("/events", content=b'{"type": "Ping"}', headers=headers)
    assert response.status_code == 415


async def test_a_binary_event_with_two_content_types_is_refused(client: httpx.AsyncClient) -> None:
    headers = [*_binary("Ping").items(), ("content-type", "application/json"), ("content-type", "text/plain")]
    assert (await client.post("/events", content=b"{}", headers=headers)).status_code == 415
