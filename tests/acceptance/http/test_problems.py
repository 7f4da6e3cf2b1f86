"""Every problem document that the gateway sends fits the schema that its OpenAPI document publishes."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.events.errors import EventInvalid, LogUnavailable
from ensue.gateway.api.app import Gateway, create_app
from ensue.gateway.http.problems import PROBLEMS, problem_of, refuse

from ..stand_in import StandInEngine

JSON = {"content-type": "application/json"}
UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
Schema = Mapping[str, Any]


class OrderPlaced(Event):
    order_id: str


def _pipeline(name: str) -> Pipeline:
    pipeline = Pipeline(name)

    @pipeline.step
    def ship(event: OrderPlaced) -> None: ...

    @pipeline.webhook(name, verify=hooks.Insecure())
    def from_shop(hook: Webhook) -> OrderPlaced:
        faults: dict[bytes, list[Any]] = {
            b'"a"': [{"field": "order_id"}],
            b'"b"': [{"field": "order_id", "expected": "a text", "got": 7, "more": "x"}],
        }
        if hook.body in faults:
            raise EventInvalid("no order", faults[hook.body])
        return OrderPlaced(order_id=hook.json()["order_id"])

    return pipeline


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine([_pipeline("orders"), _pipeline("parcels")])


@pytest.fixture
def app(engine: StandInEngine) -> Gateway:
    return create_app(engine, environment={})


@pytest.fixture
async def client(app: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8484") as client:
        yield client


def _assert_fits(app: Gateway, body: bytes) -> None:
    schemas: Mapping[str, Schema] = app.openapi()["components"]["schemas"]
    document = json.loads(body)
    _assert_object(schemas["ProblemOut"], document)
    for error in document.get("errors", ()):
        _assert_object(schemas["FaultOut"], error)


def _assert_object(schema: Schema, document: Mapping[str, Any]) -> None:
    """The object has the required fields, no unknown ones, and each of the published type."""
    types: Mapping[str, type] = {"string": str, "integer": int, "array": list}
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) <= document.keys() <= schema["properties"].keys(), document
    for name, value in document.items():
        assert isinstance(value, types[schema["properties"][name]["type"]]), (name, value)


REQUESTS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("GET", "/nope", 404, {}),
    ("DELETE", "/runs", 405, {}),
    ("GET", "/events", 405, {}),
    ("GET", "/healthz", 400, {"headers": {"host": "evil.example"}}),
    ("POST", f"/runs/{UNKNOWN}/cancel", 403, {"headers": {"sec-fetch-site": "cross-site"}}),
    ("GET", "/runs?limit=0&status=x&cursor=", 422, {}),
    ("GET", "/runs?cursor=x", 422, {}),
    ("GET", f"/runs/{UNKNOWN}", 404, {}),
    ("GET", f"/dead/{UNKNOWN}", 404, {}),
    ("GET", "/pipelines/nope", 404, {}),
    ("GET", "/breakers/nope", 404, {}),
    ("POST", "/dead/redrive", 422, {"json": {}}),
    ("POST", "/hooks/nope", 401, {"content": b"{}"}),
    ("POST", "/hooks/orders", 415, {"content": b"{}"}),
    ("POST", "/hooks/orders", 400, {"content": b"{", "headers": JSON}),
    ("POST", "/hooks/orders", 400, {"content": b"[" * 65 + b"]" * 65, "headers": JSON}),
    ("POST", "/hooks/orders", 422, {"content": b'{"order_id": 7}', "headers": JSON}),
    ("POST", "/hooks/orders", 422, {"content": b'"a"', "headers": JSON}),
    ("POST", "/hooks/orders", 422, {"content": b'"b"', "headers": JSON}),
    ("POST", "/hooks/orders", 500, {"content": b"{}", "headers": JSON}),
    ("POST", "/events", 413, {"content": b" " * (1024 * 1024 + 1), "headers": JSON}),
    ("POST", "/events", 415, {"content": b"{}", "headers": {"content-encoding": "gzip"}}),
    ("POST", "/events", 422, {"json": []}),
    ("POST", "/events", 422, {"json": {"type": "OrderPlaced", "data": {"order_id": "o-1"}}}),
    ("POST", "/events", 422, {"json": {"type": "Nope"}}),
    ("POST", "/events", 422, {"json": {"type": "OrderPlaced", "pipeline": "orders", "data": {"more": 1}}}),
]


@pytest.mark.parametrize(("method", "path", "status", "options"), REQUESTS)
async def test_a_refused_request_gets_a_problem_that_fits_the_schema(  # noqa: PLR0917 - pytest gives them by name
    client: httpx.AsyncClient, app: Gateway, method: str, path: str, status: int, options: dict[str, Any]
) -> None:
    response = await client.request(method, path, **options)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    _assert_fits(app, response.content)


async def test_a_503_gets_a_problem_that_fits_the_schema(
    client: httpx.AsyncClient, app: Gateway, engine: StandInEngine
) -> None:
    body = {"type": "OrderPlaced", "pipeline": "orders", "data": {"order_id": "o-1"}}
    engine.fail_with = LogUnavailable("the disk is full")
    _assert_fits(app, (await client.post("/events", json=body)).content)
    engine.said = "starting"
    _assert_fits(app, (await client.post("/events", json=body)).content)
    _assert_fits(app, (await client.get("/readyz")).content)


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_kind_of_problem_fits_the_schema(app: Gateway, name: str) -> None:
    for faults in ((), ({"field": "a", "expected": "b", "got": "c"},)):
        _assert_fits(app, refuse(name, "the detail", *faults).problem.body())


def test_the_entries_of_an_invalid_event_from_users_code_get_the_published_form() -> None:
    problem = problem_of(EventInvalid("no order", [{"field": "order_id", "more": "x"}]))
    assert problem is not None
    assert list(problem.errors) == [{"field": "order_id", "expected": "", "got": ""}]
