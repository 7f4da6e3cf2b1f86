"""Webhooks over HTTP: errors after the signature is verified, errors at the start, and the reading of bodies."""

import asyncio
from collections.abc import AsyncIterator
from hmac import digest
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from ensue import Event, Pipeline, Webhook, hooks
from ensue.events.errors import EventInvalid, LogUnavailable, Overloaded, PipelineInvalid, SecretMissing
from ensue.gateway.api.app import create_app
from ensue.gateway.http.body import read_body
from ensue.gateway.http.deadlines import Deadlines
from ensue.gateway.http.problems import Refused, problem_of
from ensue.gateway.settings import GatewaySettings

from ..stand_in import StandInEngine

SECRET = "canary-secret-2718"
ENVIRONMENT = {"GITHUB_SECRET": SECRET}
BODY = b'{"action": "opened", "number": 7, "pull_request": {"title": "Mend it"}}'


class PullRequestOpened(Event):
    number: int
    title: str


def _pipeline() -> Pipeline:
    pipeline = Pipeline("triage")

    @pipeline.step
    def look(event: PullRequestOpened) -> None: ...

    @pipeline.webhook("github", verify=hooks.GitHub(secret_env="GITHUB_SECRET"))
    def from_github(hook: Webhook) -> PullRequestOpened:
        payload = hook.json()
        return PullRequestOpened(number=payload["number"], title=payload["pull_request"]["title"])

    @pipeline.webhook("form", verify=hooks.Insecure(), content_types=["application/x-www-form-urlencoded"])
    def from_form(hook: Webhook) -> PullRequestOpened:
        if hook.body == b"refuse":
            raise EventInvalid("no number", [{"field": "number", "expected": "a number", "got": "nothing"}])
        if hook.body == b"raise":
            raise KeyError("number")
        if hook.body == b"wrong":
            return "text"  # type: ignore[return-value]
        return PullRequestOpened(number=1, title=hook.body.decode())

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


# -- what goes wrong in the pipeline's function, and behind it --------------------------------------------------------


async def _form(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return await client.post("/hooks/form", content=body, headers=headers)


async def test_a_body_need_not_be_json_where_the_endpoint_says_so(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    assert (await _form(client, b"a=1")).status_code == 202
    assert engine.accepted[0][1] == PullRequestOpened(number=1, title="a=1")


async def test_an_event_that_does_not_fit_is_a_422_with_the_fields_at_fault(client: httpx.AsyncClient) -> None:
    refused = _problem(await _form(client, b"refuse"), 422, "event-invalid")
    assert refused["errors"] == [{"field": "number", "expected": "a number", "got": "nothing"}]
    body = BODY.replace(b"7", b'"seven"')
    (fault,) = _problem(await _github(client, body), 422, "event-invalid")["errors"]
    assert fault["field"] == "number"
    assert "integer" in fault["expected"]
    assert fault["got"] == "'seven'"


@pytest.mark.parametrize("body", [b"raise", b"wrong"])
async def test_a_function_that_fails_is_a_500_that_tells_the_log_and_not_the_sender(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    document = _problem(await _form(client, body), 500, "internal")
    assert "number" not in document["detail"]
    assert caplog.records[0].name == "ensue.gateway"


@pytest.mark.parametrize(
    ("error", "name", "after"),
    [
        (Overloaded("too much", 2.5), "overloaded", "3"),
        (LogUnavailable("the disk is full"), "log-unavailable", "1"),
    ],
)
async def test_what_cannot_be_committed_is_a_503_that_says_when_to_come_back(
    client: httpx.AsyncClient, engine: StandInEngine, error: Exception, name: str, after: str
) -> None:
    engine.fail_with = error
    response = await _github(client)
    _problem(response, 503, name)
    assert response.headers["retry-after"] == after


async def test_a_commit_that_takes_too_long_is_a_503_and_the_retry_finds_it(
    client: httpx.AsyncClient, engine: StandInEngine
) -> None:
    engine.hold = asyncio.Event()
    response = await _github(client)
    _problem(response, 503, "deadline")
    assert response.headers["retry-after"] == "1"
    engine.hold.set()
    assert (await _github(client)).status_code == 202


@pytest.mark.parametrize("state", ["starting", "draining", "failed: no disk"])
async def test_nothing_is_accepted_while_the_engine_is_not_ready(
    client: httpx.AsyncClient, engine: StandInEngine, state: str
) -> None:
    engine.said = state
    response = await _github(client)
    assert state in _problem(response, 503, "not-ready")["detail"]
    assert response.headers["retry-after"] == "1"


async def test_an_unexpected_error_is_a_500_without_its_text(
    client: httpx.AsyncClient, engine: StandInEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.fail_with = RuntimeError(f"leaks {SECRET}")
    response = await _github(client)
    _problem(response, 500, "internal")
    assert SECRET not in response.text
    assert caplog.records


# -- the start -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [{}, {"GITHUB_SECRET": ""}])
def test_a_missing_secret_stops_the_start(engine: StandInEngine, environment: dict[str, str]) -> None:
    with pytest.raises(SecretMissing, match="GITHUB_SECRET"):
        create_app(engine, environment=environment)


def test_two_pipelines_cannot_share_an_endpoint() -> None:
    other = Pipeline("other")
    other.webhook("github", verify=hooks.Insecure())(_other)
    with pytest.raises(PipelineInvalid, match="/hooks/github"):
        create_app(StandInEngine([_pipeline(), other]), environment=ENVIRONMENT)


def _other(hook: Webhook) -> PullRequestOpened | None: ...


async def test_a_users_verifier_that_fails_refuses(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        scheme = "broken"
        body_limit_bytes = 100

        def verify(self, headers: object, body: bytes, now_seconds: float) -> str | None:
            raise ZeroDivisionError

    pipeline = Pipeline("own")
    pipeline.webhook("own", verify=Broken())(_other)
    app = create_app(StandInEngine([pipeline]), environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        _problem(await client.post("/hooks/own", json={}), 401, "unauthorized")
    assert caplog.records


def test_validation_errors_of_pydantic_are_problems_too() -> None:
    with pytest.raises(ValidationError) as caught:
        PullRequestOpened.model_validate({"number": "x"})
    problem = problem_of(caught.value)
    assert problem is not None
    assert {fault["field"] for fault in problem.errors} == {"number", "title"}
    assert problem.status == 422


# -- the body, message by message --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "fits"),
    [
        ([b"1234"], True),
        ([b"12345"], False),
        ([b"12", b"34"], True),
        ([b"12", b"345"], False),
        ([b"12345", b""], False),
    ],
)
async def test_the_bytes_of_a_body_are_counted_whatever_was_announced(chunks: list[bytes], fits: bool) -> None:
    last = len(chunks) - 1
    messages = iter(enumerate(chunks))

    async def receive() -> dict[str, object]:
        at, part = next(messages)
        return {"type": "http.request", "body": part, "more_body": at < last}

    reading = read_body(receive, "4", 4, Deadlines().within(5))
    if fits:
        assert await reading == b"1234"
        return
    with pytest.raises(Refused) as caught:
        await reading
    assert caught.value.problem.status == 413


async def test_a_client_that_disconnects_is_refused() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    with pytest.raises(Refused):
        await read_body(receive, None, 4, Deadlines().within(5))


async def test_a_cancellation_from_elsewhere_is_not_a_timeout() -> None:
    entered = asyncio.Event()

    async def wait() -> None:
        with Deadlines().within(60):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
