"""Bug 9: authorisation by the text of a path, while another text leads to the same route.

Seen: Kestra CVE-2026-53576, Starlette CVE-2026-48710. Here each route checks its own authorisation: no form of the
request line reaches a route without its check, and the host is checked before that.

Mutant: `path: str = scope["path"]` of `Gateway.__call__` (gateway/api/app.py) is `scope["raw_path"].decode()`;
tried 2026-11-21: red.
Mutant: the host is checked only if `scope["path"].startswith("/hooks/")` (gateway/api/app.py); tried 2026-11-21: red.
Mutant: `self._hooks.get(name, ...)` of gateway/ingest/webhooks.py takes `name.strip("/").lower()`;
tried 2026-11-21: red.
Mutant: `_verify` of gateway/ingest/webhooks.py accepts a request whose path text is not `/hooks/github`;
tried 2026-11-21: red.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ensue.gateway.http.problems import PROBLEMS

from ..acceptance.stand_in import StandInEngine
from .scene import BODY, Answered, as_json, engine, raw_answer, served, signed

__all__ = ["engine"]
pytestmark = pytest.mark.timeout(60)

SAME_ROUTE = [
    "/hooks/github",
    "/hooks/github?x=1",
    "/hooks%2Fgithub",
    "/hooks/%67ithub",
    "/%68ooks/github",
    "http://127.0.0.1/hooks/github",
    "http://evil.example/hooks/github",
    "//evil.example/hooks/github",
]
"""Spellings that a server may take for the route; where it does, the signature is asked for."""
OTHER_ROUTE = [
    "/hooks/github/",
    "/hooks/github/.",
    "/hooks/github/..",
    "/hooks/x/../github",
    "/hooks/./github",
    "/hooks//github",
    "//hooks/github",
    "/./hooks/github",
    "/x/../hooks/github",
    "/hooks/..%2Fhooks/github",
    "/hooks%2F%2Fgithub",
    "/hooks%252Fgithub",
    "/hooks/github;x=1",
    "/hooks;x=1/github",
    "/hooks/GITHUB",
    "/HOOKS/github",
    "/hooks/github%20",
    "/hooks/github%00",
    "/hooks/githu",
    "/hooks/github%2Fextra",
    "/hooks/github\\",
    "hooks/github",
    "*",
]
"""Texts that look like it: not even who knows the secret gets anything accepted there."""
READS = [
    "/healthz/../runs",
    "/healthz/..%2Fruns",
    "/hooks/../runs",
    "/hooks/..%2Fruns",
    "/hooks/github/../../runs",
    "//runs",
    "/./runs",
    "/runs;x",
    "/RUNS",
    "/runs/..%2Fruns",
    "/runs/x/../../runs",
    "/runs%2F..%2Fruns",
    "/events/../runs",
]
"""Texts that end in a route that lists everything, as a proxy in front of the server may read them."""
LINES = [
    "GET /healthz",
    "GET /openapi.json",
    "GET /runs",
    "GET //127.0.0.1/runs",
    "GET http://127.0.0.1/runs",
    "GET /nowhere",
    "POST /events",
    "POST /hooks/github",
    "POST /hooks%2Fgithub",
    "DELETE /dead/x",
]


@pytest.fixture
async def port(engine: StandInEngine) -> AsyncIterator[int]:
    async with served(engine) as port:
        yield port


def problem(answered: Answered) -> str:
    """The name of a problem; empty if the answer is not a problem."""
    for name, kind in PROBLEMS.items():
        if f'"{kind.uri}"'.encode() in answered[1]:
            return name
    return ""


async def test_however_a_hook_is_spelled_nothing_gets_in_without_its_signature(
    port: int, engine: StandInEngine
) -> None:
    wrong = {**signed(), "x-hub-signature-256": "sha256=" + "0" * 64}
    for target in [*SAME_ROUTE, *OTHER_ROUTE]:
        for headers in ({"content-type": "application/json"}, wrong):
            status, _ = await raw_answer(port, f"POST {target}", headers, BODY)
            assert status in (400, 401, 404), target
    assert engine.accepted == []


@pytest.mark.parametrize("target", ["/hooks/github", "/hooks%2Fgithub", "/hooks/%67ithub", "/%68ooks/github"])
async def test_the_spellings_of_the_route_are_the_route_with_its_guard(
    port: int, engine: StandInEngine, target: str
) -> None:
    refused = await raw_answer(port, f"POST {target}", {"content-type": "application/json"}, BODY)
    assert (refused[0], problem(refused)) == (401, "unauthorized")
    assert (await raw_answer(port, f"POST {target}", signed(), BODY))[0] == 202
    assert len(engine.accepted) == 1


async def test_what_only_looks_like_the_route_leads_nowhere_even_for_a_genuine_sender(
    port: int, engine: StandInEngine
) -> None:
    for target in OTHER_ROUTE:
        status, _ = await raw_answer(port, f"POST {target}", signed(), BODY)
        assert status in (400, 401, 404), target
    assert engine.accepted == []


async def test_no_text_of_a_path_leads_to_another_route_than_the_one_that_it_names(
    port: int, engine: StandInEngine
) -> None:
    event: dict[str, Any] = {"type": "opened", "data": {"number": 7}}
    assert (await raw_answer(port, "POST /events", {"content-type": "application/json"}, as_json(event)))[0] == 202
    for target in READS:
        status, body = await raw_answer(port, f"GET {target}")
        assert (status, b"triage" in body) in ((400, False), (404, False), (405, False)), target
    assert b"triage" in (await raw_answer(port, "GET /runs"))[1]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", ""])
async def test_the_host_is_checked_before_the_path_is_looked_at(port: int, engine: StandInEngine, host: str) -> None:
    for line in LINES:
        answered = await raw_answer(port, line, signed(), BODY, host=host)
        assert (answered[0], problem(answered)) == (400, "host-unknown"), line
        assert problem(await raw_answer(port, line, signed(), BODY)) != "host-unknown"
