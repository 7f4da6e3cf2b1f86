"""A webhook was declared as Python allows it, and every delivery was then refused or answered with 500."""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.actors.local import LocalEngine
from ensue.events.errors import PipelineInvalid
from ensue.gateway.api.app import create_app


class A(Event):
    n: int


class Trusting:
    """A verifier that takes the id from a header."""

    scheme = "insecure"
    body_limit_bytes = 1_000
    id_is_signed = True

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return headers.get("x-id", [None])[0]


class Answering(Trusting):
    """A verifier that answers with something else."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> Any:
        return self.answer


def listed(hook: Webhook) -> list[A]:
    return [A(n=n) for n in hook.json()]


async def async_listed(hook: Webhook) -> list[A]:
    return listed(hook)


def yielded(hook: Webhook) -> Iterator[A]:
    yield from listed(hook)


def expression(hook: Webhook) -> Iterator[A]:
    return (A(n=n) for n in hook.json())


async def async_yielded(hook: Webhook) -> AsyncIterator[A]:
    for event in listed(hook):
        yield event


def coroutine(hook: Webhook) -> list[A]:
    return async_listed(hook)  # type: ignore[return-value]


async def _post(
    function: Callable[..., Any], content: bytes = b"[1,2,3]", *, times: int = 1, **options: Any
) -> tuple[list[httpx.Response], list[int]]:
    pipeline = Pipeline("shop")
    seen: list[int] = []

    @pipeline.step
    def take(event: A) -> None:
        seen.append(event.n)

    content_type = options.pop("sent", "application/json")
    settings: dict[str, Any] = {"verify": Trusting(), **options}
    pipeline.webhook("shop", **settings)(function)
    headers = {"content-type": content_type, "x-id": "d-1"}
    async with LocalEngine(pipeline) as engine:
        transport = httpx.ASGITransport(create_app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answers = [await client.post("/hooks/shop", content=content, headers=headers) for _ in range(times)]
        await engine.idle()
    return answers, seen


@pytest.mark.parametrize("function", [listed, async_listed, yielded, expression, async_yielded, coroutine])
async def test_each_event_of_a_list_is_accepted_once(function: Callable[..., Any]) -> None:
    (first, second), seen = await _post(function, times=2)
    assert (first.status_code, second.status_code, seen) == (202, 202, [1, 2, 3])
    told, again = first.json(), second.json()
    assert set(told) == {"event_id", "run_id", "duplicate", "events"}
    assert told["events"][0] == {name: told[name] for name in ("event_id", "run_id", "duplicate")}
    assert len({event["run_id"] for event in told["events"]}) == len(told["events"]) == 3
    assert [event["event_id"] for event in again["events"]] == [event["event_id"] for event in told["events"]]
    assert again["duplicate"] is True


async def test_an_empty_list_is_of_no_interest() -> None:
    (answer,), seen = await _post(listed, b"[]")
    assert (answer.status_code, answer.json()["event_id"], seen) == (202, None, [])


@pytest.mark.parametrize(
    ("content_types", "sent"),
    [
        ("application/json", "application/json"),
        ("Application/JSON", "application/json"),
        (["APPLICATION/JSON; charset=utf-8"], "application/json; charset=UTF-8"),
        (("text/plain", "application/json"), "Application/Json"),
    ],
)
async def test_content_types_are_read_as_they_are_meant(content_types: Any, sent: str) -> None:
    (answer,), seen = await _post(listed, sent=sent, content_types=content_types)
    assert (answer.status_code, seen) == (202, [1, 2, 3])


@pytest.mark.parametrize("given", ["", "json", [], [5], None, b"application/json", ["*/*"]], ids=str)
def test_a_content_type_that_no_delivery_has_is_refused(given: Any) -> None:
    with pytest.raises(PipelineInvalid, match="webhook shop"):
        Pipeline("shop").webhook("shop", verify=Trusting(), content_types=given)


def test_headers_are_named_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "whsec_a2V5")
    for headers in ("webhook", "Webhook", "WEBHOOK-"):
        verifier = hooks.StandardWebhooks(secret_env="KEY", headers=headers)
        assert verifier._scheme.read({"webhook-id": ["i"], "webhook-timestamp": ["1"], "webhook-signature": ["v1,x"]})
    with pytest.raises(PipelineInvalid, match="write the start of the headers' names"):
        hooks.StandardWebhooks(secret_env="KEY", headers="")


def plain(headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
    return None


async def asynchronous(headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
    return None


class AsyncVerifier(Trusting):
    async def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:  # type: ignore[override]
        return None


class BoolVerifier(Trusting):
    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> bool:  # type: ignore[override]
        return False


class TwoArguments(Trusting):
    def verify(self, headers: Mapping[str, list[str]], body: bytes) -> str | None:  # type: ignore[override]
        return None


class Unlimited(Trusting):
    body_limit_bytes = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("verifier", "message"),
    [
        (hooks.GitHub, r"verify=GitHub is a class: write GitHub\(...\)"),
        (Trusting, "verify=Trusting is a class"),
        (plain, "verify is a function"),
        (asynchronous, "verify is a function"),
        (None, "verify is None"),
        ("github", "verify is 'github'"),
        (AsyncVerifier(), "AsyncVerifier.verify is async"),
        (BoolVerifier(), "BoolVerifier.verify returns a bool"),
        (TwoArguments(), "TwoArguments.verify.* cannot be called"),
        (Unlimited(), "Unlimited is not an object with `scheme`"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_verify_is_refused_where_it_is_declared(verifier: Any, message: str) -> None:
    with pytest.raises(PipelineInvalid, match=message):
        Pipeline("shop").webhook("shop", verify=verifier)


@pytest.mark.parametrize("answer", [True, False, 0, b"id"], ids=str)
async def test_a_verifier_that_answers_with_something_else_lets_nothing_in(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "ensue.gateway"):
        (refused,), seen = await _post(listed, verify=Answering(answer))
    assert (refused.status_code, seen) == (401, [])
    assert "raise SignatureInvalid if it is not genuine" in caplog.text


def test_a_function_that_takes_no_webhook_is_refused() -> None:
    def nothing() -> A: ...  # type: ignore[empty-body]

    def two(hook: Webhook, other: int) -> A: ...  # type: ignore[empty-body]

    def event(event: A) -> A: ...  # type: ignore[empty-body]

    for function in (nothing, two):
        with pytest.raises(PipelineInvalid, match="is called with one Webhook"):
            Pipeline("shop").webhook("shop", verify=Trusting())(function)  # type: ignore[type-var]
    with pytest.raises(PipelineInvalid, match="it is called with a Webhook"):
        Pipeline("shop").webhook("shop", verify=Trusting())(event)  # type: ignore[type-var]
