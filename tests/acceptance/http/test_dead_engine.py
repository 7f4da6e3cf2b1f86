"""Dead letters of a real engine over HTTP: redriven, edited, discarded; and a blocked compensation."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, Retry
from ensue.gateway.api.app import create_app
from ensue.testing import LocalEngine

WAIT_SECONDS = 10


class OrderPlaced(Event):
    order_id: str
    amount: float


class Charged(Event):
    order_id: str


class World:
    """What the steps call: it is away until it is told to be back."""

    is_back = False


def _plain() -> Pipeline:
    orders = Pipeline("orders")

    @orders.step(retry=Retry(attempts=2, wait=0.0))
    def charge(event: OrderPlaced) -> Charged:
        if event.amount < 0:
            raise ValueError("negative")
        return Charged(order_id=event.order_id)

    return orders


def _compensated(world: World) -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def charge(event: OrderPlaced) -> Charged:
        return Charged(order_id=event.order_id)

    @orders.step(retry=1)
    def ship(event: Charged) -> None:
        raise LookupError("no van")

    @orders.compensate(charge, retry=1)
    def refund(event: OrderPlaced) -> None:
        if not world.is_back:
            raise ConnectionError("the bank is away")

    return orders


@asynccontextmanager
async def _served(pipeline: Pipeline) -> AsyncGenerator[tuple[LocalEngine, httpx.AsyncClient]]:
    async with LocalEngine(pipeline) as engine, asyncio.timeout(WAIT_SECONDS):
        app = create_app(engine, environment={})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            yield engine, client
        app.queries.close()


async def _start(client: httpx.AsyncClient, amount: float) -> str:
    data = {"order_id": "o-1", "amount": amount}
    return str((await client.post("/events", json={"type": "OrderPlaced", "data": data})).json()["run_id"])


async def _letter(client: httpx.AsyncClient, run_id: str, state: str = "open") -> dict[str, Any]:
    (letter,) = (await client.get("/dead", params={"run_id": run_id, "state": state})).json()["dead"]
    found: dict[str, Any] = (await client.get(f"/dead/{letter['id']}")).json()
    return found


async def test_a_letter_that_fails_again_keeps_its_id_and_completes_once_it_is_edited() -> None:
    async with _served(_plain()) as (engine, client):
        run_id = await _start(client, -1)
        await engine.idle()
        letter = await _letter(client, run_id)
        assert (letter["step"], letter["error"], len(letter["history"])) == ("charge", "ValueError", 2)
        assert (await client.post(f"/dead/{letter['id']}/redrive")).status_code == 200
        await engine.idle()
        again = await _letter(client, run_id)
        assert (again["id"], len(again["history"])) == (letter["id"], 4)
        refused = await client.post(f"/dead/{letter['id']}/redrive", json={"data": {"amount": 1}})
        assert refused.json()["type"] == "urn:ensue:problem:event-invalid"
        data = {"order_id": "o-1", "amount": 1.0}
        assert (await client.post(f"/dead/{letter['id']}/redrive", json={"data": data})).status_code == 200
        await engine.idle()
        done = await _letter(client, run_id, "redriven")
        assert [event["data"]["amount"] for event in done["events"]] == [-1.0, 1.0]
        assert [row["action"] for row in done["audit"]] == ["letter edit", "letter redrive"]
        run = (await client.get(f"/runs/{run_id}")).json()
        assert (run["status"], run["errors"]) == ("completed", [])
        assert (await client.post(f"/dead/{letter['id']}/redrive")).status_code == 409


async def test_many_letters_are_discarded_by_a_filter() -> None:
    async with _served(_plain()) as (engine, client):
        runs = [await _start(client, -1) for _ in range(3)]
        await engine.idle()
        answer = await client.post("/dead/discard", json={"error": "ValueError", "limit": 2})
        assert answer.json() == {"decided": 2, "refused": []}
        (left,) = (await client.get("/dead")).json()["dead"]
        assert left["run_id"] in runs


@pytest.mark.parametrize("action", ["redrive", "discard"])
async def test_a_blocked_compensation_is_shown_with_its_run_and_decided_on(action: str) -> None:
    world = World()
    async with _served(_compensated(world)) as (engine, client):
        run_id = await _start(client, 1)
        await engine.idle()
        run = (await client.get(f"/runs/{run_id}")).json()
        (blocked,) = run["blocked"]
        assert (run["undoing"], blocked["step"]) == (True, "refund")
        assert run["status"] == "waiting"
        letter = (await client.get(f"/dead/{blocked['letter_id']}")).json()
        assert (letter["blocked"], letter["error"]) == (True, "ConnectionError")
        world.is_back = True
        path = f"/dead/{letter['id']}"
        answer = await (client.post(f"{path}/redrive") if action == "redrive" else client.delete(path))
        assert answer.status_code == 200, answer.text
        await engine.idle()
        after = (await client.get(f"/runs/{run_id}")).json()
        assert (after["status"], after["blocked"]) == ("compensated", [])
        assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 409


async def test_an_opened_breaker_holds_events_back_until_it_is_closed() -> None:
    async with _served(_plain()) as (engine, client):
        assert (await client.post("/breakers/orders/charge/open")).json()["forced"]
        run_id = await _start(client, 1)
        await engine.idle()
        shown = (await client.get("/breakers/orders/charge")).json()
        assert (shown["status"], shown["waiting"]) == ("open", 1)
        assert (await client.post("/breakers/orders/charge/close")).json()["status"] == "closed"
        await engine.idle()
        assert (await client.get(f"/runs/{run_id}")).json()["status"] == "completed"
        rows = (await client.get("/audit", params={"subject": "orders/charge"})).json()["audit"]
        assert [row["action"] for row in rows] == ["breaker close", "breaker open"]
