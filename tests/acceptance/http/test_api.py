"""The API without the ingest endpoints: runs, pipelines, health and OpenAPI; every error is a problem."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.cluster.log.protocol import RunChange
from ensue.events.ids import parse_id
from ensue.events.model.codec import pack
from ensue.events.state.records import (
    AttemptRecord,
    DoneRecord,
    EndedRecord,
    EventRecord,
    FailedRecord,
    RecordKind,
    unpack_records,
)
from ensue.events.state.run_status import Status
from ensue.gateway.api.app import Gateway, create_app

from ..stand_in import StandInEngine

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
EMITTED = bytes(15) + b"\x09"


class OrderPlaced(Event):
    order_id: str


class Shipped(Event):
    order_id: str


def _pipeline() -> Pipeline:
    orders = Pipeline("orders", description="Orders, shipped")

    @orders.step
    def ship(event: OrderPlaced) -> Shipped:
        """Ship an order."""
        return Shipped(order_id=event.order_id)

    @orders.webhook("shop", verify=hooks.Insecure())
    def from_shop(hook: Webhook) -> OrderPlaced | None: ...

    return orders


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine([_pipeline()])


@pytest.fixture
def app(engine: StandInEngine) -> Gateway:
    return create_app(engine, environment={})


@pytest.fixture
async def client(app: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8484") as client:
        yield client


async def _start(client: httpx.AsyncClient, order_id: str = "o-1") -> str:
    response = await client.post("/events", json={"type": "OrderPlaced", "data": {"order_id": order_id}})
    return str(response.json()["run_id"])


def _work(engine: StandInEngine, run_id: str, status: Status = Status.COMPLETED) -> None:
    """What a run's records are once its one step has shipped, or has given up."""
    row = engine.reader().run(parse_id(run_id))
    assert row is not None
    _, trigger = unpack_records(engine.log.store.by_run[row.run][0].body)
    assert isinstance(trigger, EventRecord)
    first = trigger.event_id
    done = [
        EventRecord(
            RecordKind.EVENT,
            EMITTED,
            "Shipped",
            1,
            pack({"order_id": "o-1"}),
            None,
            first,
            1,
            0,
            row.started_us + 40,
            False,
        ),
        DoneRecord(RecordKind.DONE, 1, 1, 1, row.started_us + 50, 30_000, False),
    ]
    failed = [
        FailedRecord(RecordKind.FAILED, 1, 1, "permanent", "ValueError", "no van", "trace", row.started_us + 50, None)
    ]
    finished_us = row.started_us + 60_000
    engine.append(
        row.run,
        AttemptRecord(RecordKind.ATTEMPT, 1, "ship", 1, row.started_us + 10, [first]),
        *(done if status is Status.COMPLETED else failed),
        EndedRecord(RecordKind.ENDED, int(status), finished_us),
        changed=[RunChange(row.run, status, finished_us)],
    )


def _problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:ensue:problem:{name}"), document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return document


# -- runs ----------------------------------------------------------------------------------------------------------


async def test_runs_come_newest_first_in_pages(client: httpx.AsyncClient) -> None:
    started = [await _start(client, f"o-{number}") for number in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await client.get("/runs", params=query)).json()
        assert len(page["runs"]) <= 2
        seen += [run["run_id"] for run in page["runs"]]
        cursor = page["next_cursor"]
    assert seen == started[::-1]


async def test_runs_are_filtered_by_pipeline_and_status(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    first, second = await _start(client), await _start(client)
    _work(engine, first)
    completed = (await client.get("/runs", params={"status": "completed"})).json()["runs"]
    assert [run["run_id"] for run in completed] == [first]
    both = (await client.get("/runs", params={"pipeline": "orders", "status": ["completed", "running"]})).json()["runs"]
    assert [run["run_id"] for run in both] == [second, first]
    assert (await client.get("/runs", params={"pipeline": "other"})).json() == {"runs": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "done"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": ""}, "cursor"),
        ({"cursor": "f" * 17}, "cursor"),
        ({"cursor": "-1"}, "cursor"),
    ],
)
async def test_a_parameter_that_is_not_valid_is_named(
    client: httpx.AsyncClient, query: dict[str, str], field: str
) -> None:
    document = _problem(await client.get("/runs", params=query), 422, "parameter-invalid")
    assert field in document["errors"][0]["field"] or field in document["detail"]


async def test_a_run_shows_its_trigger_its_result_its_steps_and_its_times(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    run_id = await _start(client)
    running = (await client.get(f"/runs/{run_id}")).json()
    assert (running["status"], running["finished"], running["events"]) == ("running", None, [])
    _work(engine, run_id)
    run = (await client.get(f"/runs/{run_id}")).json()
    assert (run["run_id"], run["pipeline"], run["version"], run["status"]) == (run_id, "orders", "v1", "completed")
    assert run["duration_ms"] == 60
    assert run["started"] < run["finished"]
    assert run["trigger"]["event"]["type"] == run["trigger_type"] == "OrderPlaced"
    assert [event["type"] for event in run["events"]] == ["Shipped"]
    assert run["errors"] == []
    (step,) = run["steps"]
    assert (step["name"], step["attempts"], step["done"], step["total_duration_ms"]) == ("ship", 1, 1, 30)


async def test_a_failed_run_shows_what_went_wrong(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    run_id = await _start(client)
    _work(engine, run_id, Status.FAILED)
    run = (await client.get(f"/runs/{run_id}")).json()
    (error,) = run["errors"]
    assert (run["status"], error["step"], error["error"], error["message"]) == (
        "failed",
        "ship",
        "ValueError",
        "no van",
    )


async def test_the_causal_log_names_offsets_steps_and_causes(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    run_id = await _start(client)
    _work(engine, run_id)
    placed, shipped = (await client.get(f"/runs/{run_id}/events")).json()["events"]
    assert (placed["type"], placed["cause"], placed["step"], placed["data"]) == (
        "OrderPlaced",
        None,
        None,
        {"order_id": "o-1"},
    )
    assert (shipped["step"], shipped["cause"], shipped["attempt"]) == ("ship", placed["id"], 1)
    assert placed["offset"] < shipped["offset"]
    assert {"id", "version", "key", "time"} <= shipped.keys()


async def test_a_run_is_cancelled_once_and_can_be_retried(client: httpx.AsyncClient) -> None:
    run_id = await _start(client)
    assert (await client.post(f"/runs/{run_id}/cancel")).json()["status"] == "cancelled"
    _problem(await client.post(f"/runs/{run_id}/cancel"), 409, "run-finished")
    assert (await client.post(f"/runs/{run_id}/retry")).json()["status"] == "running"
    _problem(await client.post(f"/runs/{run_id}/retry"), 409, "conflict")


async def test_a_completed_run_is_neither_cancelled_nor_retried(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    run_id = await _start(client)
    _work(engine, run_id)
    _problem(await client.post(f"/runs/{run_id}/cancel"), 409, "run-finished")
    _problem(await client.post(f"/runs/{run_id}/retry"), 409, "conflict")


@pytest.mark.parametrize("run_id", [UNKNOWN, "x", "1" * 200, "..%2F..", "%00"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry")])
async def test_an_unknown_run_is_a_404(client: httpx.AsyncClient, run_id: str, method: str, path: str) -> None:
    response = await client.request(method, f"/runs/{run_id}{path}")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


# -- pipelines -----------------------------------------------------------------------------------------------------


async def test_a_pipeline_is_shown_as_it_is_declared(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    _work(engine, await _start(client))
    listed = (await client.get("/pipelines")).json()["pipelines"]
    shown = (await client.get("/pipelines/orders")).json()
    assert listed == [shown]
    assert (shown["name"], shown["version"], shown["runs"]) == ("orders", "v1", {"completed": 1})
    assert (shown["steps"][0]["hears"], shown["steps"][0]["emits"]) == (["OrderPlaced"], ["Shipped"])
    (webhook,) = shown["webhooks"]
    assert (webhook["path"], webhook["scheme"], webhook["insecure"]) == ("/hooks/shop", "insecure", True)
    assert "insecure-webhook" in [finding["code"] for finding in shown["findings"]]


async def test_the_graph_has_steps_events_and_edges(client: httpx.AsyncClient) -> None:
    graph = (await client.get("/pipelines/orders/graph")).json()
    assert {"step:ship", "event:OrderPlaced", "event:Shipped"} <= {node["id"] for node in graph["nodes"]}
    assert graph["edges"]


async def test_an_unknown_pipeline_is_a_404_that_names_the_served_ones(client: httpx.AsyncClient) -> None:
    for path in ("/pipelines/nope", "/pipelines/nope/graph"):
        assert "orders" in _problem(await client.get(path), 404, "pipeline-unknown")["detail"]


# -- health, hosts, paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["starting", "draining", "failed: no disk"])
async def test_it_is_live_and_not_ready_while_the_engine_is_not(
    client: httpx.AsyncClient, engine: StandInEngine, state: str
) -> None:
    assert (await client.get("/readyz")).json() == {"status": "ready", "durability": "memory"}
    engine.said = state
    assert (await client.get("/healthz")).json() == {"status": "live"}
    response = await client.get("/readyz")
    assert state in _problem(response, 503, "not-ready")["detail"]
    assert int(response.headers["retry-after"]) >= 1


async def test_it_is_ready_and_accepts_events_while_the_engine_recovers(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    engine.said = "recovering: Ray is gone"
    assert (await client.get("/readyz")).json() == {"status": "recovering", "durability": "memory"}
    assert await _start(client)


async def test_there_is_nothing_to_read_before_the_engine_has_started(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    engine.said = "starting"
    for path in ("/runs", f"/runs/{UNKNOWN}", "/pipelines"):
        _problem(await client.get(path), 503, "not-ready")


async def test_an_unknown_path_and_a_wrong_method_are_problems(client: httpx.AsyncClient) -> None:
    _problem(await client.get("/nope"), 404, "not-found")
    response = await client.delete("/runs")
    _problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET, HEAD"


async def test_there_are_no_pages_and_no_cors(client: httpx.AsyncClient) -> None:
    for path in ("/docs", "/redoc", "/"):
        _problem(await client.get(path), 404, "not-found")
    response = await client.get("/healthz", headers={"origin": "http://evil.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_an_unexpected_error_is_a_500_whose_reason_is_only_logged(
    client: httpx.AsyncClient, engine: StandInEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> object:
        raise RuntimeError("canary")

    monkeypatch.setattr(engine, "reader", broken)
    response = await client.get("/runs")
    _problem(response, 500, "internal")
    assert "canary" not in response.text
    assert "canary" in caplog.text


# -- the document --------------------------------------------------------------------------------------------------


async def test_openapi_has_every_path_of_the_interface(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    assert set(document["paths"]) == {
        "/hooks/{endpoint}",
        "/events",
        "/runs",
        "/runs/{run_id}",
        "/runs/{run_id}/events",
        "/runs/{run_id}/cancel",
        "/runs/{run_id}/retry",
        "/pipelines",
        "/pipelines/{name}",
        "/pipelines/{name}/graph",
        "/pipelines/{name}/restart",
        "/dead",
        "/dead/redrive",
        "/dead/discard",
        "/dead/{letter_id}",
        "/dead/{letter_id}/redrive",
        "/breakers",
        "/breakers/{name}",
        "/breakers/{name}/open",
        "/breakers/{name}/close",
        "/audit",
        "/healthz",
        "/readyz",
        "/health/tree",
        "/status",
        "/metrics",
    }


async def test_every_reference_of_the_document_resolves(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    references = set(_references(document))
    assert references
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def _references(node: object) -> list[str]:
    return re.findall(r'"\$ref": "([^"]+)"', json.dumps(node))


async def test_every_operation_of_the_document_answers_as_it_says(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    run_id = await _start(client)
    _work(engine, run_id, Status.FAILED)
    document = (await client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            url = path.format(run_id=run_id, name="orders", endpoint="nobody", letter_id=UNKNOWN)
            response = await client.request(method, url)
            told = operation["responses"]
            assert str(response.status_code) in told or "default" in told, (method, path, response.text)
            assert response.status_code < 500, (method, path, response.text)
            answered = response.headers["content-type"].partition(";")[0]
            assert answered in ("application/json", "application/problem+json") or path == "/metrics"
            if response.status_code == 200 and path != "/metrics":
                schema = told["200"]["content"]["application/json"]["schema"]
                assert schema["$ref"].startswith("#/components/schemas/"), (method, path)
