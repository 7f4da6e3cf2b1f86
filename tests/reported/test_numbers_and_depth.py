"""Reported: `1e400` becomes infinity, NaN gets in through other content types, and 22 MB of lists stall the server."""

import math
from collections.abc import AsyncIterator

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.events.model.codec import MAX_DEPTH
from ensue.gateway.api.app import create_app
from ensue.gateway.http.body import parse_json
from ensue.gateway.http.problems import Refused

from ..acceptance.stand_in import StandInEngine


class Measured(Event):
    value: float


@pytest.fixture
def engine() -> StandInEngine:
    sensors = Pipeline("sensors")

    @sensors.step
    def keep(event: Measured) -> None: ...

    types = ("text/plain", "application/json", "application/x-www-form-urlencoded")

    @sensors.webhook("probe", verify=hooks.Insecure(), content_types=types)
    def from_probe(hook: Webhook) -> Measured:
        return Measured(value=hook.json())

    @sensors.webhook("lenient", verify=hooks.Insecure(), content_types=types)
    def from_lenient(hook: Webhook) -> Measured:
        try:
            return Measured(value=hook.json())
        except ValueError:
            return Measured(value=0)

    return StandInEngine([sensors])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(engine, environment={})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client


NO_JSON = [
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "1" + "0" * 400 + ".0",
    '"\\ud800"',
    "",
    "a=b",
    "[1",
    "\x00",
]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", NO_JSON)
async def test_json_is_as_strict_for_every_content_type(
    client: httpx.AsyncClient, engine: StandInEngine, content_type: str, body: str
) -> None:
    response = await client.post("/hooks/probe", content=body.encode(), headers={"content-type": content_type})
    assert (response.status_code, response.json()["type"]) == (400, "urn:ensue:problem:body-unreadable")
    assert engine.accepted == []


async def test_a_function_can_handle_a_body_that_is_not_json(client: httpx.AsyncClient) -> None:
    response = await client.post("/hooks/lenient", content=b"a=b", headers={"content-type": "text/plain"})
    assert response.status_code == 202


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400 + ".5", "9e308", "Infinity"])
async def test_an_event_with_a_number_that_overflows_is_refused(
    client: httpx.AsyncClient, engine: StandInEngine, number: str
) -> None:
    body = f'{{"type": "Measured", "data": {{"value": {number}}}}}'
    response = await client.post("/events", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, engine.accepted) == (400, [])


@pytest.mark.parametrize(
    "text", ['"Infinity"', '["-Infinity", 1.7e308]', '{"Infinity": "NaN"}', "1e308", "-0.0", "1e-400"]
)
def test_what_only_looks_like_infinity_is_read(text: str) -> None:
    assert "Infinity" in text or math.isfinite(parse_json(text.encode()))
    parse_json(text.encode())


WRAPS = [(b"[", b"]"), (b'{"a":', b"}"), (b'["]}",', b"]"), (b'["{[",', b"]")]


@pytest.mark.parametrize(("opening", "closing"), WRAPS)
def test_the_depth_limit_is_exact(opening: bytes, closing: bytes) -> None:
    value = parse_json(opening * (MAX_DEPTH - 1) + b"[]" + closing * (MAX_DEPTH - 1))
    assert value
    with pytest.raises(Refused, match="at most 64"):
        parse_json(opening * MAX_DEPTH + b"[]" + closing * MAX_DEPTH)


@pytest.mark.parametrize("depth", [1, 64, 136, 137, 138, 199, 200, 300])
def test_a_body_that_closes_more_than_it_opens_is_not_json(depth: int) -> None:
    for body in (
        b"]" * depth + b"," + b"[" * depth,
        b"1],[" * depth + b"1",
        b"]" * depth,
        b"],[" * depth,
        b"[]," * depth,
    ):
        with pytest.raises(Refused) as refusal:
            parse_json(body)
        assert refusal.value.problem.kind.name in {"body-unreadable", "body-too-deep"}


def test_many_brackets_in_strings_are_not_depth() -> None:
    assert parse_json(b'"' + b"[{" * 1000 + b'"') == "[{" * 1000
    assert parse_json(b"[" + b"[]," * 5000 + b"1]")[-1] == 1


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(
    "request_",
    ["/runs?{}", "/dead?{}", "/dead/{}", "/runs/{}", "/audit?{}", "/pipelines/{}", "/log?{}", "/breakers/{}/open"],
)
@pytest.mark.parametrize(
    "text", ["%ED%A0%80", "%FF", "%00", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")]
)
async def test_no_id_or_filter_is_an_unexpected_error(
    client: httpx.AsyncClient, method: str, request_: str, text: str
) -> None:
    names = [
        "pipeline",
        "status",
        "cursor",
        "run_id",
        "step",
        "error",
        "event_type",
        "letter_id",
        "who",
        "before",
        "after",
    ]
    queries = [f"{name}={text}" for name in names] + [f"{text}={text}"] if "?" in request_ else [text]
    for query in queries:
        response = await client.request(method, request_.format(query))
        assert response.status_code < 500, (request_, query)


BODIES = [
    '{"pipeline": "\\ud800"}', '{"\\ud800": 1}', '{"run_id": "\\udfff"}', '{"limit": 1e400}', '{"limit": NaN}',
    '{"data": {"a": "\\ud800"}}', '{"data": {"\\ud800": 1}}', '{"seconds": 1e400}', '{"seconds": NaN}',
    "[" * 100000, '{"data":' + "[" * 500 + "]" * 500 + "}", '{"a": 1' + "0" * 5000 + "}",
]  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/dead/redrive", "/dead/discard", "/dead/01890a5d-ac96-774b-bcce-b302099a8057/redrive", "/breakers/a/open"]
)
@pytest.mark.parametrize("body", BODIES)
async def test_the_bodies_of_operators_are_read_by_the_same_rules(
    client: httpx.AsyncClient, path: str, body: str
) -> None:
    response = await client.post(path, content=body.encode(), headers={"content-type": "application/json"})
    assert response.status_code in {400, 422}, response.text
