"""From a signed delivery to the result of its run, through the gateway and the engine in one process."""

import asyncio
import json
from hmac import digest

import httpx

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import create_app
from ensue.gateway.engine_port import ServedEngine
from ensue.testing import LocalEngine

SECRET = "a-secret"


class Opened(Event, key="number"):
    number: int


class Labelled(Event):
    number: int
    label: str


class Closed(Event):
    number: int


def _pipeline() -> Pipeline:
    triage = Pipeline("triage")

    @triage.step(retry=1)
    async def label(event: Opened) -> Labelled:
        if event.number == 13:
            raise ValueError("no label for 13")
        return Labelled(number=event.number, label="small")

    @triage.step
    def close(event: Labelled) -> Closed:
        return Closed(number=event.number)

    @triage.webhook("github", verify=hooks.GitHub(secret_env="SECRET"))
    def from_github(hook: Webhook) -> Opened | None:
        return Opened(number=hook.json()["number"]) if hook.event == "pull_request" else None

    return triage


def _engine() -> ServedEngine:
    return LocalEngine(_pipeline())


async def _deliver(client: httpx.AsyncClient, number: int, delivery: str) -> httpx.Response:
    body = json.dumps({"number": number}).encode()
    headers = {
        "x-hub-signature-256": "sha256=" + digest(SECRET.encode(), body, "sha256").hex(),
        "x-github-event": "pull_request",
        "x-github-delivery": delivery,
        "content-type": "application/json",
    }
    return await client.post("/hooks/github", content=body, headers=headers)


async def test_a_signed_delivery_becomes_a_run_with_a_result_and_a_redelivery_does_not() -> None:
    async with LocalEngine(_pipeline()) as engine, asyncio.timeout(10):
        app = create_app(engine, environment={"SECRET": SECRET})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answer = (await _deliver(client, 7, "d-1")).json()
            await engine.idle()
            assert (await _deliver(client, 7, "d-1")).json() == {**answer, "duplicate": True}
            run = (await client.get(f"/runs/{answer['run_id']}")).json()
            assert (run["status"], [event["type"] for event in run["events"]]) == ("completed", ["Closed"])
            assert run["trigger"]["event"]["id"] == answer["event_id"]
            assert [(step["name"], step["done"]) for step in run["steps"]] == [("label", 1), ("close", 1)]
            events = (await client.get(f"/runs/{answer['run_id']}/events")).json()["events"]
            assert [event["step"] for event in events] == [None, "label", "close"]
            assert [event["cause"] for event in events] == [None, events[0]["id"], events[1]["id"]]
            assert events[0]["key"] == "7"
            assert len((await client.get("/runs")).json()["runs"]) == 1
        app.queries.close()


async def test_a_run_that_failed_says_why_and_is_retried_by_an_operator() -> None:
    async with LocalEngine(_pipeline()) as engine, asyncio.timeout(10):
        app = create_app(engine, environment={"SECRET": SECRET})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            run_id = (await _deliver(client, 13, "d-13")).json()["run_id"]
            await engine.idle()
            run = (await client.get(f"/runs/{run_id}")).json()
            assert (run["status"], run["errors"][0]["message"]) == ("failed", "no label for 13")
            assert run["events"] == []
            assert (await client.post(f"/runs/{run_id}/cancel")).status_code == 409
            assert (await client.post(f"/runs/{run_id}/retry")).status_code == 200
            await engine.idle()
            again = (await client.get(f"/runs/{run_id}")).json()
            assert (again["status"], again["steps"][0]["attempts"]) == ("failed", 2)
        app.queries.close()


def test_both_engines_fit_the_port() -> None:
    assert _engine().state() == "new"
