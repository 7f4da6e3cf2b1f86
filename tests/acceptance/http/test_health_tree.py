"""The supervision tree, the status, the breakers and the metrics over HTTP."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ensue import Event, Pipeline
from ensue.cluster.log.protocol import DeadLetter
from ensue.events.policies.breaker import BreakerView
from ensue.gateway.api.app import create_app

from ..stand_in import StandInEngine

LABELS = {"pipeline": "orders", "step": "charge"}
LETTER = DeadLetter(
    b"1" * 16, 1, b"2" * 16, 1, "orders", "charge", "OrderPlaced", b"3" * 16, "permanent", "E", "m", 1, 1_000_000
)


class OrderPlaced(Event):
    order_id: str


def _pipeline() -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def charge(event: OrderPlaced) -> None: ...

    return orders


def _node(name: str, kind: str, *children: dict[str, Any], status: str = "up", restarts: int = 0) -> dict[str, Any]:
    node = {"name": name, "kind": kind, "status": status, "pid": None, "restarts": restarts}
    return {**node, "since": None, "reason": "", "children": list(children)}


@pytest.fixture
def engine() -> StandInEngine:
    engine = StandInEngine([_pipeline()])
    workers = [_node("charge-1", "worker"), _node("charge-2", "worker", status="restarting")]
    step = _node("orders/charge", "step", *workers, restarts=3)
    engine.tree_children = [_node("orders", "pipeline", step, status="failed")]
    views = [
        BreakerView("orders/charge", ("orders/charge",), "closed", False, 0, None, 4, 1, 0, ""),
        BreakerView("bank", ("orders/charge",), "open", False, 1_760_000_000_000_000, None, 9, 9, 1, "5 in a row", 7),
    ]
    engine.breaker_views = {view.name: view for view in views}
    return engine


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(engine, environment={}))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8484") as client:
        yield client


def _problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["type"]) == (status, f"urn:ensue:problem:{name}"), document
    return document


# -- the tree --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["ready", "starting", "draining", "failed: no disk", "stopped"])
async def test_the_tree_is_shown_in_every_state_of_the_engine(
    client: httpx.AsyncClient, engine: StandInEngine, state: str
) -> None:
    engine.said = state
    answer = await client.get("/health/tree")
    assert answer.status_code == 200
    root = answer.json()
    assert (root["kind"], root["since"]) == ("engine", "2023-11-14T22:13:20Z")
    (pipeline,) = root["children"]
    (step,) = pipeline["children"]
    assert (pipeline["status"], step["name"], step["restarts"]) == ("failed", "orders/charge", 3)
    assert [worker["status"] for worker in step["children"]] == ["up", "restarting"]


async def test_the_status_is_one_page(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await client.post("/events", json={"type": "OrderPlaced", "data": {"order_id": "o-1"}})
    engine.add_dead_letter(LETTER)
    status = (await client.get("/status")).json()
    assert (status["state"], status["durability"], status["tree"]["kind"]) == ("ready", "memory", "engine")
    assert [breaker["name"] for breaker in status["breakers"]] == ["bank"]
    assert status["dead"] == [{"pipeline": "orders", "step": "charge", "dead": 1, "oldest": "1970-01-01T00:00:01Z"}]
    assert status["runs"] == {"orders": {"running": 1}}


async def test_the_status_is_answered_while_there_is_no_log(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    engine.said = "starting"
    status = (await client.get("/status")).json()
    assert (status["state"], status["durability"], status["dead"], status["runs"]) == ("starting", None, None, None)


async def test_a_pipeline_is_restarted(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    answer = await client.post("/pipelines/orders/restart")
    assert (answer.status_code, answer.json()) == (202, {"pipeline": "orders"})
    assert engine.done == [("restart", "orders", "http 127.0.0.1")]
    _problem(await client.post("/pipelines/nope/restart"), 404, "pipeline-unknown")


# -- the breakers ----------------------------------------------------------------------------------------------------


async def test_breakers_are_listed_by_name_and_shown_one_by_one(client: httpx.AsyncClient) -> None:
    listed = (await client.get("/breakers")).json()["breakers"]
    assert [breaker["name"] for breaker in listed] == ["bank", "orders/charge"]
    for breaker in listed:
        assert (await client.get(f"/breakers/{breaker['name']}")).json() == breaker
    assert (listed[0]["status"], listed[0]["waiting"], listed[0]["reason"]) == ("open", 7, "5 in a row")
    assert (listed[1]["since"], listed[1]["until"]) == (None, None)


@pytest.mark.parametrize("path", ["orders/charge", "orders%2Fcharge", "bank"])
async def test_a_breaker_is_opened_and_closed_by_an_operator(
    client: httpx.AsyncClient, engine: StandInEngine, path: str
) -> None:
    name = path.replace("%2F", "/")
    opened = (await client.post(f"/breakers/{path}/open", json={"seconds": 60})).json()
    assert (opened["name"], opened["status"], opened["forced"]) == (name, "open", True)
    assert (await client.post(f"/breakers/{path}/close")).json()["status"] == "closed"
    who = "http 127.0.0.1"
    assert engine.done == [("open", name, 60.0, who), ("close", name, None, who)]


async def test_a_breaker_whose_name_ends_like_an_action_is_told_from_the_action(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    view = engine.breaker_views["bank"]
    engine.breaker_views = {name: view._replace(name=name) for name in ("doors", "doors/open")}
    assert (await client.get("/breakers/doors/open")).json()["name"] == "doors/open"
    await client.post("/breakers/doors/open")
    await client.post("/breakers/doors/open/open")
    assert [done[:2] for done in engine.done] == [("open", "doors"), ("open", "doors/open")]


@pytest.mark.parametrize("name", ["nope", "", "orders/charge/..", "orders//charge", "%00"])
async def test_an_unknown_breaker_is_a_404(client: httpx.AsyncClient, name: str) -> None:
    _problem(await client.get(f"/breakers/{name}"), 404, "breaker-unknown")
    _problem(await client.post(f"/breakers/{name}/close"), 404, "breaker-unknown")


@pytest.mark.parametrize(
    "body", [{"seconds": 0}, {"seconds": -1}, {"seconds": "long"}, {"second": 1}, {"seconds": 1e99}]
)
async def test_an_invalid_time_opens_nothing(
    client: httpx.AsyncClient, engine: StandInEngine, body: dict[str, Any]
) -> None:
    _problem(await client.post("/breakers/bank/open", json=body), 422, "parameter-invalid")
    assert engine.done == []


# -- the metrics -----------------------------------------------------------------------------------------------------


async def _samples(client: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    answer = await client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def test_metrics_count_dead_letters_runs_and_waiting_deliveries(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    for _ in range(2):  # the second one is a duplicate
        await client.post("/events", json={"type": "OrderPlaced", "data": {"order_id": "o-1"}, "id": "d-1"})
    engine.add_dead_letter(LETTER)
    engine.add_dead_letter(LETTER._replace(letter_id=b"4" * 16, time_us=2_000_000))
    samples = await _samples(client)

    def value(name: str, **labels: str) -> float:
        return samples[name, tuple(sorted(labels.items()))]

    assert value("ensue_dead_letters", **LABELS) == 2
    assert value("ensue_dead_letters_oldest_age_seconds", **LABELS) > 1_000_000
    assert value("ensue_runs", pipeline="orders", status="running") == 1
    assert value("ensue_events_accepted_total", pipeline="orders") == 1
    assert (value("ensue_breaker_state", breaker="bank"), value("ensue_breaker_state", breaker="orders/charge")) == (
        2,
        0,
    )
    assert value("ensue_deliveries_waiting", breaker="bank") == 7
    assert (value("ensue_workers_up", **LABELS), value("ensue_step_restarts", **LABELS)) == (1, 3)
    assert value("ensue_pipeline_up", pipeline="orders") == 0
    assert (value("ensue_engine_state", state="ready"), value("ensue_engine_state", state="failed")) == (1, 0)
    assert value("ensue_log_readable") == 1


async def test_metrics_are_answered_while_there_is_no_log(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    engine.said = "starting"
    samples = await _samples(client)
    assert samples["ensue_log_readable", ()] == 0
    assert samples["ensue_engine_state", (("state", "starting"),)] == 1
    assert not [name for name, _ in samples if name == "ensue_runs"]
    engine.said = "failed: no disk"
    assert (await _samples(client))["ensue_engine_state", (("state", "failed"),)] == 1


async def test_nothing_of_the_process_shows_up_in_the_metrics(client: httpx.AsyncClient) -> None:
    assert {name.partition("_")[0] for name, _ in await _samples(client)} == {"ensue"}
