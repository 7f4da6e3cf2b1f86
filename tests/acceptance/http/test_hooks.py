"""Webhooks over HTTP: an authentic delivery is accepted once, everything else is refused with its own answer."""

import asyncio
import json
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator
from hmac import digest
from pathlib import Path
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import create_app
from ensue.gateway.settings import GatewaySettings

from ..stand_in import StandInEngine

GITHUB = Path(__file__).resolve().parents[4] / "shared" / "data" / "github"
SECRET = "canary-secret-2718"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRONMENT = {"GITHUB_SECRET": SECRET, "STANDARD_SECRET": STANDARD}
BODY = b'{"action": "opened", "number": 7, "pull_request": {"title": "Mend it"}}'
UNAUTHORIZED = "urn:ensue:problem:unauthorized"


class PullRequestOpened(Event):
    number: int
    title: str


def _pipeline() -> Pipeline:
    pipeline = Pipeline("triage")

    @pipeline.step
    def look(event: PullRequestOpened) -> None: ...

    @pipeline.webhook("github", verify=hooks.GitHub(secret_env="GITHUB_SECRET"))
    def from_github(hook: Webhook) -> PullRequestOpened | None:
        payload = hook.json()
        if "pull_request" not in payload or hook.event == "ping":
            return None
        return PullRequestOpened(number=payload["number"], title=payload["pull_request"]["title"])

    @pipeline.webhook("standard", verify=hooks.StandardWebhooks(secret_env="STANDARD_SECRET"))
    async def from_standard(hook: Webhook) -> PullRequestOpened:
        return PullRequestOpened(number=1, title=str(hook.delivery_id))

    return pipeline


@pytest.fixture
def engine() -> StandInEngine:
    return StandInEngine([_pipeline()])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    settings = GatewaySettings(commit_timeout_seconds=0.01, read_timeout_seconds=0.01)
    app = create_app(engine, environment=ENVIRONMENT, settings=settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


def _signed(body: bytes = BODY, delivery: str | None = "d-1") -> dict[str, str]:
    signature = "sha256=" + digest(SECRET.encode(), body, "sha256").hex()
    headers = {"x-hub-signature-256": signature, "content-type": "application/json", "x-github-event": "pull_request"}
    if delivery is not None:
        headers["x-github-delivery"] = delivery
    return headers


async def _github(client: httpx.AsyncClient, body: bytes = BODY, delivery: str | None = "d-1") -> httpx.Response:
    return await client.post("/hooks/github", content=body, headers=_signed(body, delivery))


def _problem(response: httpx.Response, status: int, name: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert response.status_code == status, document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:ensue:problem:{name}"
    assert document["status"] == status
    assert {"title", "detail"} <= document.keys()
    return document


# -- what is accepted ----------------------------------------------------------------------------------------------


async def test_a_signed_delivery_is_accepted_and_names_its_event_and_run(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    response = await _github(client)
    assert response.status_code == 202
    answer = response.json()
    assert answer["duplicate"] is False
    assert len(answer["event_id"]) == len(answer["run_id"]) == 36
    assert [(name, event) for name, event, _ in engine.accepted] == [
        ("triage", PullRequestOpened(number=7, title="Mend it"))
    ]


async def test_a_redelivery_gets_the_same_answer_as_a_duplicate(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    first, second = (await _github(client)).json(), (await _github(client)).json()
    assert second == {**first, "duplicate": True}
    assert len(engine.accepted) == 1


async def test_the_same_unsigned_id_with_another_signed_body_is_another_delivery(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    other = BODY.replace(b"7", b"8")
    first, second = (await _github(client)).json(), (await _github(client, other)).json()
    assert second["duplicate"] is False
    assert second["event_id"] != first["event_id"]
    assert len(engine.accepted) == 2


async def test_deliveries_without_an_id_are_each_their_own(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    await _github(client, delivery=None)
    await _github(client, delivery=None)
    assert len(engine.accepted) == 2


async def test_a_webhook_that_the_function_ignores_is_accepted_with_nulls(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    response = await _github(client, b'{"zen": "Keep it logically awesome."}')
    assert response.status_code == 202
    assert response.json() == {"event_id": None, "run_id": None, "duplicate": False}
    assert engine.accepted == []


def _payloads() -> Iterator[Path]:
    yield from sorted(GITHUB.glob("*.json")) if GITHUB.is_dir() else ()


@pytest.mark.skipif(not GITHUB.is_dir(), reason="no real payloads beside this repository")
async def test_real_payloads_of_github_are_accepted(client: httpx.AsyncClient, engine: StandInEngine) -> None:
    interesting = 0
    for path in _payloads():
        body, kind = path.read_bytes(), path.name.partition(".")[0]
        headers = {**_signed(body, path.name), "x-github-event": kind}
        response = await client.post("/hooks/github", content=body, headers=headers)
        assert response.status_code == 202, path.name
        interesting += response.json()["event_id"] is not None
    assert interesting == len(engine.accepted) > 0


# -- standard webhooks ---------------------------------------------------------------------------------------------


def _standard(body: bytes, sender_id: str, now: int) -> dict[str, str]:
    key = b64decode(STANDARD.removeprefix("whsec_"))
    mac = digest(key, f"{sender_id}.{now}.".encode() + body, "sha256")
    return {
        "webhook-id": sender_id,
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + b64encode(mac).decode(),
        "content-type": "application/json; charset=utf-8",
    }


async def test_a_signed_id_is_a_duplicate_whatever_its_time_and_a_conflict_with_another_body(
    client: httpx.AsyncClient, engine: StandInEngine, caplog: pytest.LogCaptureFixture
) -> None:
    now = int(time.time())
    first = await client.post("/hooks/standard", content=b"{}", headers=_standard(b"{}", "msg_1", now))
    again = await client.post("/hooks/standard", content=b"{}", headers=_standard(b"{}", "msg_1", now - 60))
    assert (first.status_code, again.json()) == (202, {**first.json(), "duplicate": True})
    other = await client.post("/hooks/standard", content=b"[]", headers=_standard(b"[]", "msg_1", now))
    _problem(other, 422, "delivery-conflict")
    assert [record.name for record in caplog.records] == ["ensue.audit", "ensue.gateway"]
    stale = await client.post("/hooks/standard", content=b"{}", headers=_standard(b"{}", "msg_2", now - 301))
    _problem(stale, 401, "unauthorized")
    assert len(engine.accepted) == 1


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/hooks/github", {}),
        ("/hooks/github", {"x-hub-signature-256": "sha256=" + "0" * 64}),
        ("/hooks/github", {"x-hub-signature-256": ""}),
        ("/hooks/github", _signed(BODY + b" ")),
        ("/hooks/standard", {"webhook-id": "a"}),
        ("/hooks/nobody", _signed()),
        ("/hooks/github/", _signed()),
        ("/hooks/", _signed()),
        ("/hooks/github%2F", _signed()),
        ("/hooks/GITHUB", _signed()),
    ],
)
async def test_a_wrong_signature_and_an_unknown_endpoint_get_the_same_401(
    client: httpx.AsyncClient, engine: StandInEngine, path: str, headers: dict[str, str]
) -> None:
    url = httpx.URL("http://127.0.0.1").copy_with(raw_path=path.encode())
    response = await client.post(url, content=BODY, headers={"content-type": "application/json", **headers})
    reference = await client.post("/hooks/unknown", content=BODY)
    assert response.content == reference.content
    assert response.headers == reference.headers
    assert _problem(response, 401, "unauthorized")["type"] == UNAUTHORIZED
    assert engine.accepted == []


async def test_a_repeated_signature_header_is_refused(client: httpx.AsyncClient) -> None:
    headers = [*_signed().items(), ("x-hub-signature-256", _signed()["x-hub-signature-256"])]
    _problem(await client.post("/hooks/github", content=BODY, headers=headers), 401, "unauthorized")


async def test_only_post_is_taken_and_says_nothing_of_what_is_there(client: httpx.AsyncClient) -> None:
    for path in ("/hooks/github", "/hooks/nobody"):
        response = await client.get(path)
        _problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""])
async def test_an_undeclared_content_type_is_refused_once_the_sender_is_known(
    client: httpx.AsyncClient, content_type: str
) -> None:
    headers = {**_signed(), "content-type": content_type}
    _problem(await client.post("/hooks/github", content=BODY, headers=headers), 415, "content-type")
    unsigned = await client.post("/hooks/github", content=BODY, headers={"content-type": content_type})
    _problem(unsigned, 401, "unauthorized")


async def test_a_compressed_body_is_refused_unread(client: httpx.AsyncClient) -> None:
    headers = {**_signed(), "content-encoding": "gzip"}
    _problem(await client.post("/hooks/github", content=BODY, headers=headers), 415, "content-encoding")


@pytest.mark.parametrize("body", [b"", b"{", b"nope", b"NaN", b'{"a": Infinity}', b"\xff", b'"\\ud800"', b"{} {}"])
async def test_a_body_that_is_not_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    _problem(await _github(client, body), 400, "body-unreadable")


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize(("levels", "status"), [(64, 202), (65, 400), (100_000, 400)])
async def test_json_may_be_nested_64_levels(
    client: httpx.AsyncClient, opening: bytes, levels: int, status: int
) -> None:
    closing = b"]" if opening == b"[" else b"}"
    body = opening * levels + b"1" + closing * levels
    response = await _github(client, body)
    assert response.status_code == status
    if status == 400:
        _problem(response, 400, "body-too-deep")


async def test_brackets_in_texts_and_side_by_side_are_no_depth(client: httpx.AsyncClient) -> None:
    body = json.dumps({"text": '[{"\\' * 200, "flat": [[] for _ in range(500)]}).encode()
    assert (await _github(client, body)).status_code == 202


async def test_a_body_over_the_limit_is_refused_by_its_announced_length_and_by_its_bytes(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    body = b"x" * (1024 * 1024 + 1)

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    for content in (body, chunks()):
        response = await client.post("/hooks/standard", content=content)
        _problem(response, 413, "body-too-large")
        assert response.headers["connection"] == "close"
    assert engine.accepted == []


async def test_github_may_send_more(client: httpx.AsyncClient) -> None:
    body = json.dumps({"text": "x" * 2_000_000}).encode()
    assert (await _github(client, body)).status_code == 202


async def test_a_body_that_does_not_arrive_times_out(client: httpx.AsyncClient) -> None:
    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    _problem(await client.post("/hooks/github", content=never()), 408, "body-timeout")
