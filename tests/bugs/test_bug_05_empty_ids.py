"""Bug 5: an empty id forks ghost runs. No entrance takes an id that is empty, blank, over-long or not printable.

Seen: DBOS 759: a workflow that was started under an empty id ran, and ran again under ids of its own.

Mutant: `check_id(...)` dropped from `Ingest._deliver` (gateway/ingest/webhooks.py); tried 2026-11-21: red.
Mutant: `_text` of gateway/ingest/cloudevents.py returns the value unchecked; tried 2026-11-21: red.
Mutant: `not value.strip()` dropped from `check_id` (events/ids.py); tried 2026-11-21: red.
Mutant: `run_id or _newest(runs)` in `watch_run` (gateway/cli/commands/runs.py), as it was; tried 2026-11-21: red.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ensue import Event, Pipeline
from ensue.events.errors import EnsueError, EventInvalid
from ensue.gateway.cli.main import main
from ensue.testing import LocalEngine

from ..acceptance.stand_in import StandInEngine
from .scene import BODY, as_json, client, engine, problem_of, signed, standard

__all__ = ["client", "engine"]
pytestmark = pytest.mark.timeout(60)
NO_IDS = ["", " ", "\u00a0", "x" * 201, "a\x00b", "a\nb"]
NO_RUNS = ["", " ", "0", "x" * 201, "00000000-0000-0000-0000-00000000000", "../runs", "%20"]
PLAIN = {"type": "opened", "data": {"number": 7}}
CLOUD = {**PLAIN, "specversion": "1.0", "id": "c-1", "source": "/shop"}

Send = Callable[[httpx.AsyncClient, str], Awaitable[httpx.Response]]


def posted(content_type: str, value: Callable[[str], Any]) -> Send:
    """A sender of what `value` makes of an id."""

    async def send(client: httpx.AsyncClient, sent_id: str) -> httpx.Response:
        return await client.post("/events", content=as_json(value(sent_id)), headers={"content-type": content_type})

    return send


async def binary(client: httpx.AsyncClient, sent_id: str) -> httpx.Response:
    encoded = "".join(f"%{byte:02x}" for byte in sent_id.encode())
    headers = {"ce-specversion": "1.0", "ce-type": "opened", "ce-source": "/shop", "ce-id": encoded}
    return await client.post("/events", content=BODY, headers={**headers, "content-type": "application/json"})


async def github(client: httpx.AsyncClient, sent_id: str) -> httpx.Response:
    return await client.post("/hooks/github", content=BODY, headers=signed(delivery=sent_id))


async def from_standard(client: httpx.AsyncClient, sent_id: str) -> httpx.Response:
    return await client.post("/hooks/standard", content=BODY, headers=standard(sent_id))


async def by_a_verifier_of_their_own(client: httpx.AsyncClient, sent_id: str) -> httpx.Response:
    headers = {"x-name": sent_id, "content-type": "application/json"}
    return await client.post("/hooks/named", content=BODY, headers=headers)


EVENTS: dict[str, Send] = {
    "plain id": posted("application/json", lambda sent: {**PLAIN, "id": sent}),
    "plain source": posted("application/json", lambda sent: {**PLAIN, "source": sent}),
    "structured id": posted("application/cloudevents+json", lambda sent: {**CLOUD, "id": sent}),
    "structured source": posted("application/cloudevents+json", lambda sent: {**CLOUD, "source": sent}),
    "batch": posted("application/cloudevents-batch+json", lambda sent: [CLOUD, {**CLOUD, "id": sent}]),
    "binary": binary,
}
HOOKS: dict[str, Send] = {"github": github, "standard": from_standard, "own": by_a_verifier_of_their_own}


@pytest.mark.parametrize("sent_id", NO_IDS, ids=repr)
@pytest.mark.parametrize("entrance", [*EVENTS, *HOOKS])
async def test_a_sender_id_that_is_none_is_refused_at_every_entrance_and_nothing_is_written(
    client: httpx.AsyncClient, engine: StandInEngine, entrance: str, sent_id: str
) -> None:
    send = {**EVENTS, **HOOKS}[entrance]
    try:
        response = await send(client, sent_id)
    except UnicodeEncodeError:  # no client can write such a header
        return
    refused = [(422, "event-invalid"), *([(401, "unauthorized")] if entrance in HOOKS else [])]
    assert problem_of(response) in refused
    assert (engine.accepted, engine.log.next_offset()) == ([], 1)


@pytest.mark.parametrize("entrance", [*EVENTS, *HOOKS])
async def test_the_same_request_with_a_proper_id_is_accepted_once(
    client: httpx.AsyncClient, engine: StandInEngine, entrance: str
) -> None:
    send = {**EVENTS, **HOOKS}[entrance]
    for _ in range(2):
        response = await send(client, "c-1")
        assert response.status_code == 202, response.text
    assert len(engine.accepted) == (2 if entrance == "plain source" else 1)  # without an id, each is its own


@pytest.mark.parametrize("run_id", NO_RUNS, ids=repr)
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/retry")])
async def test_a_run_id_that_is_none_leads_to_no_run_over_http(
    client: httpx.AsyncClient, engine: StandInEngine, method: str, rest: str, run_id: str
) -> None:
    await client.post("/events", json=PLAIN)
    before = engine.log.next_offset()
    url = httpx.URL("http://127.0.0.1").copy_with(raw_path=f"/runs/{quote(run_id, safe='')}{rest}".encode())
    response = await client.request(method, url)
    assert response.status_code in (307, 404), response.text  # 307: to /runs, where /runs/ is asked for
    assert engine.log.next_offset() == before


class Order(Event):
    n: int = 0


flow = Pipeline("ids")


@flow.step
def work(event: Order) -> None:
    return None


@pytest.mark.parametrize("run_id", NO_RUNS, ids=repr)
async def test_a_run_id_that_is_none_leads_to_no_run_in_python(run_id: str) -> None:
    async with LocalEngine(flow) as local:
        await local.emit(Order())
        await local.idle()
        end = local.reader().next_offset()
        for ask in (local.run, local.cancel, local.retry, local.redrive, local.discard):
            with pytest.raises(EnsueError):
                await ask(run_id)
        assert local.reader().next_offset() == end


@pytest.mark.parametrize(
    "sender_id", ["", " ", "\u00a0", "x" * 1000, "a\x00b"], ids=["empty", "blank", "nbsp", "long", "nul"]
)
async def test_accept_refuses_a_sender_id_that_is_none(sender_id: str) -> None:
    async with LocalEngine(flow) as local:
        with pytest.raises(EventInvalid):
            await local.accept("ids", Order(), source="shop", sender_id=sender_id)
        assert local.reader().next_offset() == 1


@pytest.fixture
async def store(tmp_path: Path) -> str:
    """A store with one run in it."""
    url = f"sqlite:///{tmp_path / 'ensue.db'}"
    async with LocalEngine(flow, store=url) as local:
        await (await local.emit(Order())).result(10)
    return url


COMMANDS = ["runs show", "runs watch", "runs cancel", "runs retry", "dead show", "dead redrive", "dead discard"]


@pytest.mark.parametrize("place", ["store", "url"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_id_that_is_none_stands_for_nothing_on_the_command_line(
    store: str, capsys: pytest.CaptureFixture[str], command: str, place: str
) -> None:
    where = ["--store", store] if place == "store" else ["--url", "http://127.0.0.1:1"]
    for no_id in ("", " "):
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), no_id, *where])
        said = capsys.readouterr()
        assert ended.value.code in (1, 2)
        assert said.out == ""
        assert said.err
