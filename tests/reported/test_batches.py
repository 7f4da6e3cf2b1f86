"""Reported: a batch with one conflicting id answers 422, though other events of it were accepted."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline
from ensue.events.errors import LogUnavailable
from ensue.gateway.api.app import create_app
from ensue.testing import LocalEngine

from ..acceptance.stand_in import StandInEngine

TYPE = "application/cloudevents-batch+json"
WAIT_SECONDS = 20


class Ordered(Event):
    order_id: str


def _pipeline() -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def ship(event: Ordered) -> None: ...

    return orders


def _event(number: int, order: str, **more: Any) -> dict[str, Any]:
    attributes = {"specversion": "1.0", "type": "Ordered", "source": "/shop", "id": f"c-{number}"}
    return {**attributes, "data": {"order_id": order}, **more}


async def _send(engine: Any, events: Sequence[Any]) -> httpx.Response:
    app = create_app(engine, environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return await client.post("/events", json=events, headers={"content-type": TYPE})


@pytest.fixture(params=["local", "stand-in"])
async def engine(request: pytest.FixtureRequest) -> Any:
    async with asyncio.timeout(WAIT_SECONDS), AsyncExitStack() as stack:
        name = request.param
        yield await stack.enter_async_context(
            LocalEngine(_pipeline()) if name == "local" else StandInEngine([_pipeline()])
        )


async def test_a_conflict_in_the_middle_has_its_verdict_and_the_others_theirs(engine: Any) -> None:
    (first,) = (await _send(engine, [_event(2, "o-2")])).json()
    response = await _send(engine, [_event(1, "o-1"), _event(2, "other"), _event(3, "o-3"), _event(2, "other")])
    verdicts = response.json()
    assert response.status_code == 207
    assert [verdict.get("status", 202) for verdict in verdicts] == [202, 422, 202, 422]
    assert {verdicts[1]["type"], verdicts[3]["type"]} == {"urn:ensue:problem:delivery-conflict"}
    again = await _send(engine, [_event(3, "o-3"), _event(2, "o-2"), _event(1, "o-1")])
    assert again.status_code == 202
    ids = [verdict["event_id"] for verdict in again.json()]
    assert ids == [verdicts[2]["event_id"], first["event_id"], verdicts[0]["event_id"]]
    assert all(verdict["duplicate"] for verdict in again.json())


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (_event(1, "other"), "[2].id"),
        (_event(3, "o-3", data={}), "[2].order_id"),
        (_event(3, "o-3", type="Nope"), "[2].type"),
        (_event(3, "o-3", specversion="0.3"), "[2].specversion"),
        ({}, "[2].specversion"),
        (7, "[2].(whole)"),
    ],
)
async def test_a_batch_that_is_not_valid_as_a_whole_is_refused_as_a_whole(engine: Any, bad: Any, field: str) -> None:
    response = await _send(engine, [_event(1, "o-1"), _event(2, "o-2"), bad])
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, field)
    assert engine.reader().counts() == {}


async def test_an_id_that_comes_twice_with_one_content_is_one_event(engine: Any) -> None:
    response = await _send(engine, [_event(1, "o-1"), _event(1, "o-1"), _event(1, "o-1", source="/other")])
    one, two, other = response.json()
    assert response.status_code == 202
    assert [one["duplicate"], two["duplicate"], other["duplicate"]] == [False, True, False]
    assert one["event_id"] == two["event_id"] != other["event_id"]


async def test_a_batch_of_which_nothing_is_accepted_is_the_problem_itself(engine: Any) -> None:
    await _send(engine, [_event(1, "o-1"), _event(2, "o-2")])
    response = await _send(engine, [_event(1, "x"), _event(2, "y")])
    assert (response.status_code, response.json()["type"]) == (422, "urn:ensue:problem:delivery-conflict")


async def test_a_log_that_fails_in_the_middle_leaves_a_verdict_for_each() -> None:
    class Failing(StandInEngine):
        async def accept(self, *values: Any, **options: Any) -> Any:
            self.fail_with = LogUnavailable("the disk is full") if len(self.accepted) == 2 else None
            return await super().accept(*values, **options)

    response = await _send(Failing([_pipeline()]), [_event(number, "o") for number in range(4)])
    assert response.status_code == 207
    assert [verdict.get("status", 202) for verdict in response.json()] == [202, 202, 503, 503]
