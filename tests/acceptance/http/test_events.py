"""POST /events: CloudEvents in every mode and ensue's own JSON, valid or refused as a whole."""

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, StepFailed
from ensue.events.errors import LogUnavailable
from ensue.gateway.api.app import create_app

from ..stand_in import StandInEngine

BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"


class OrderPlaced(Event, type="orders.placed", key="order_id"):
    order_id: str
    amount: float


class Ping(Event):
    raw: bytes = b""


class Reply(Event):
    text: str


def _pipelines() -> list[Pipeline]:
    orders, audit = Pipeline("orders"), Pipeline("audit")

    @orders.step
    def charge(event: OrderPlaced) -> Reply | None: ...

    @orders.step
    def ping(event: Ping) -> None: ...

    @audit.step
    def note(event: Ping) -> None: ...

    @orders.on_error(charge)
    def failed(event: StepFailed) -> None: ...

    @orders.step
    def answer(event: Reply) -> None: ...

    return [orders, audit]


ORDER: dict[str, Any] = {"type": "orders.placed", "data": {"order_id": "o-1", "amount": 9.5}}
PLACED = OrderPlaced(order_id="o-1", amount=9.5)
CLOUD = {"specversion": "1.0", "id": "c-1", "source": "/shop", **ORDER}


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine(_pipelines())


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost:8484") as client:
        yield client


async def _send(client: httpx.AsyncClient, value: object, content_type: str = "application/json") -> httpx.Response:
    return await client.post("/events", content=json.dumps(value), headers={"content-type": content_type})


def _problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:ensue:problem:{name}"), document
    assert response.headers["content-type"] == "application/problem+json"
    return document


# -- the four forms ------------------------------------------------------------------------------------------------


async def test_an_event_in_ensues_own_form_is_accepted(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    response = await _send(client, ORDER)
    assert response.status_code == 202
    assert response.json().keys() == {"event_id", "run_id", "duplicate"}
    assert engine.accepted == [("orders", PLACED, None)]


async def test_the_key_and_the_pipeline_may_be_named(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await _send(client, {**ORDER, "key": "customer-3"})
    await _send(client, {"type": "Ping", "pipeline": "audit"})
    assert engine.accepted == [("orders", PLACED, "customer-3"), ("audit", Ping(), None)]


async def test_a_structured_cloud_event_is_accepted(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    extended = {
        **CLOUD,
        "subject": "x",
        "traceparent": "00-1",
        "partitionkey": "k",
        "datacontenttype": "application/json",
    }
    assert (await _send(client, extended, STRUCTURED + "; charset=utf-8")).status_code == 202
    assert engine.accepted == [("orders", PLACED, "k")]


async def test_a_structured_cloud_event_may_carry_its_data_as_base64(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    encoded = {**CLOUD, "data_base64": b64encode(json.dumps(ORDER["data"]).encode()).decode()}
    del encoded["data"]
    assert (await _send(client, encoded, STRUCTURED)).status_code == 202
    assert engine.accepted[0][1] == PLACED


async def test_a_binary_cloud_event_is_accepted(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "orders.placed",
        "ce-id": "caf%C3%A9 1",
        "ce-source": '"/shop \\"a\\""',
        "content-type": "application/json",
    }
    response = await client.post("/events", content=json.dumps(ORDER["data"]), headers=headers)
    assert response.status_code == 202
    (seen,) = engine.log.store.seen
    assert seen == ('events/orders//shop "a"', "café 1")
    assert engine.accepted[0][1] == PLACED


async def test_a_batch_is_accepted_in_order_with_an_answer_for_each(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    second = {**CLOUD, "id": "c-2", "data": {"order_id": "o-2", "amount": 1}}
    response = await _send(client, [CLOUD, second, CLOUD], BATCH)
    assert response.status_code == 202
    answers = response.json()
    assert [answer["duplicate"] for answer in answers] == [False, False, True]
    assert answers[0]["event_id"] == answers[2]["event_id"]
    assert [event for _, event, _ in engine.accepted] == [PLACED, OrderPlaced(order_id="o-2", amount=1)]


async def test_an_empty_batch_is_an_empty_answer(client: httpx.AsyncClient) -> None:
    response = await _send(client, [], BATCH)
    assert (response.status_code, response.json()) == (202, [])


async def test_bytes_come_as_base64(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await _send(client, {"type": "Ping", "pipeline": "orders", "data": {"raw": "AP8="}})
    assert engine.accepted[0][1] == Ping(raw=b"\x00\xff")


# -- the sender's id -----------------------------------------------------------------------------------------------


async def test_the_same_id_from_the_same_source_is_a_duplicate_in_whatever_form(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    first = (await _send(client, {**ORDER, "id": "c-1", "source": "/shop"})).json()
    second = (await _send(client, CLOUD, STRUCTURED)).json()
    assert second == {**first, "duplicate": True}
    other_source = (await _send(client, {**ORDER, "id": "c-1", "source": "/other"})).json()
    assert other_source["duplicate"] is False
    assert len(engine.accepted) == 2


async def test_the_same_id_with_other_data_is_a_conflict(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await _send(client, {**ORDER, "id": "c-1"})
    other = {**ORDER, "id": "c-1", "data": {"order_id": "o-1", "amount": 10}}
    _problem(await _send(client, other), 422, "delivery-conflict")
    assert len(engine.accepted) == 1


async def test_events_without_an_id_are_each_their_own(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await _send(client, ORDER)
    await _send(client, ORDER)
    assert len(engine.accepted) == 2


@pytest.mark.parametrize("field", ["id", "source", "key", "pipeline", "type"])
@pytest.mark.parametrize("value", ["", " ", "x" * 201, "a\nb", 7])
async def test_an_id_that_is_empty_blank_too_long_or_not_text_is_refused(
    client: httpx.AsyncClient, engine: StandInEngine, field: str, value: object
) -> None:
    document = _problem(await _send(client, {**ORDER, field: value}), 422, "event-invalid")
    assert document["errors"][0]["field"] == field
    assert engine.accepted == []


# -- what is refused -----------------------------------------------------------------------------------------------


async def test_an_unknown_type_is_refused_with_what_is_known(client: httpx.AsyncClient) -> None:
    document = _problem(await _send(client, {"type": "orders.place"}), 422, "event-type-unknown")
    assert "did you mean 'orders.placed'" in document["detail"]
    assert document["errors"] == [
        {"field": "type", "expected": "one of Ping, Reply, orders.placed", "got": "orders.place"}
    ]
    assert "Ping" in _problem(await _send(client, {"type": "Zzz"}), 422, "event-type-unknown")["detail"]


async def test_failures_come_from_inside_only(client: httpx.AsyncClient) -> None:
    _problem(await _send(client, {"type": "ensue.step_failed"}), 422, "event-type-unknown")


async def test_a_type_that_several_pipelines_hear_asks_for_one(client: httpx.AsyncClient) -> None:
    document = _problem(await _send(client, {"type": "Ping"}), 422, "pipeline-ambiguous")
    assert document["errors"] == [{"field": "pipeline", "expected": "one of audit, orders", "got": "nothing"}]


async def test_a_pipeline_that_is_not_served_or_does_not_hear_the_type_is_refused(client: httpx.AsyncClient) -> None:
    document = _problem(await _send(client, {**ORDER, "pipeline": "nope"}), 422, "event-invalid")
    assert document["errors"][0]["expected"] == "one of audit, orders"
    _problem(await _send(client, {**ORDER, "pipeline": "audit"}), 422, "event-type-unknown")


async def test_invalid_data_names_each_field_and_what_was_expected(client: httpx.AsyncClient) -> None:
    document = _problem(await _send(client, {**ORDER, "data": {"amount": "much", "more": 1}}), 422, "event-invalid")
    assert {fault["field"] for fault in document["errors"]} == {"order_id", "amount", "more"}
    assert all(fault["expected"] and fault["got"] for fault in document["errors"])


@pytest.mark.parametrize("data", [None, [], "text", 7])
async def test_data_is_an_object(client: httpx.AsyncClient, data: object) -> None:
    _problem(await _send(client, {**ORDER, "data": data}), 422, "event-invalid")


@pytest.mark.parametrize("value", [[], "text", 7, None, {}, {"data": {}}, {**ORDER, "tpye": "x"}])
async def test_what_is_not_an_event_is_refused(client: httpx.AsyncClient, value: object) -> None:
    _problem(await _send(client, value), 422, "event-invalid")


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"specversion": None},
        {"id": ""},
        {"id": None},
        {"source": None},
        {"type": None},
        {"datacontenttype": "text/xml"},
        {"data_base64": "AA=="},
    ],
)
async def test_a_cloud_event_without_what_the_specification_asks_for_is_refused(
    client: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    _problem(await _send(client, {**CLOUD, **change}, STRUCTURED), 422, "event-invalid")


@pytest.mark.parametrize("change", [{"ce-id": "%C0%A0"}, {"ce-datacontenttype": "application/json"}, {"ce-id": ""}])
async def test_a_binary_cloud_event_with_a_bad_header_is_refused(
    client: httpx.AsyncClient, change: dict[str, str]
) -> None:
    headers = {"ce-specversion": "1.0", "ce-type": "orders.placed", "ce-id": "1", "ce-source": "/s", **change}
    response = await client.post("/events", json=ORDER["data"], headers=headers)
    _problem(response, 422, "event-invalid")


@pytest.mark.parametrize("encoded", ["***", 7])
async def test_data_that_is_not_base64_is_refused(client: httpx.AsyncClient, encoded: object) -> None:
    event = {name: value for name, value in CLOUD.items() if name != "data"}
    _problem(await _send(client, {**event, "data_base64": encoded}, STRUCTURED), 422, "event-invalid")


async def test_one_invalid_event_refuses_the_batch(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    bad = {**CLOUD, "id": "c-2", "data": {"order_id": "o-2"}}
    document = _problem(await _send(client, [CLOUD, bad], BATCH), 422, "event-invalid")
    assert document["errors"][0]["field"] == "[1].amount"
    unknown = {**CLOUD, "id": "c-2", "type": "nope"}
    assert "Event 1" in _problem(await _send(client, [CLOUD, unknown], BATCH), 422, "event-type-unknown")["detail"]
    _problem(await _send(client, {}, BATCH), 422, "event-invalid")
    assert engine.accepted == []


async def test_a_batch_that_cannot_be_committed_is_a_503(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    engine.fail_with = LogUnavailable("the disk is full")
    _problem(await _send(client, [CLOUD, {**CLOUD, "id": "c-2"}], BATCH), 503, "log-unavailable")


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/cloudevents+avro", "application/x+json"])
async def test_an_undeclared_content_type_is_refused(client: httpx.AsyncClient, content_type: str) -> None:
    _problem(await _send(client, ORDER, content_type), 415, "content-type")


async def test_a_body_that_is_not_json_too_deep_or_too_large_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    _problem(await client.post("/events", content=b"{", headers=headers), 400, "body-unreadable")
    _problem(await client.post("/events", content=b"[" * 65 + b"]" * 65, headers=headers), 400, "body-too-deep")
    _problem(await client.post("/events", content=b" " * (1024 * 1024 + 1), headers=headers), 413, "body-too-large")
    _problem(await client.get("/events"), 405, "method-not-allowed")


async def test_nothing_is_accepted_while_the_engine_is_not_ready(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    engine.said = "starting"
    _problem(await _send(client, ORDER), 503, "not-ready")
