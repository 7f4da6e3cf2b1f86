"""The origin of requests: untrusted hosts and pages of other sites are refused."""

from collections.abc import AsyncIterator

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import Gateway, create_app
from ensue.gateway.settings import GatewaySettings

from ..stand_in import StandInEngine

UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"


class OrderPlaced(Event):
    order_id: str


@pytest.fixture
def engine() -> StandInEngine:
    orders = Pipeline("orders")

    @orders.step
    def ship(event: OrderPlaced) -> None: ...

    @orders.webhook("shop", verify=hooks.Insecure())
    def from_shop(hook: Webhook) -> OrderPlaced | None: ...

    return StandInEngine([orders])


@pytest.fixture
def app(engine: StandInEngine) -> Gateway:
    return create_app(engine, settings=GatewaySettings(allowed_hosts=("hooks.example",)), environment={})


@pytest.fixture
async def client(app: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8484") as client:
        yield client


def _problem(response: httpx.Response, status: int, name: str) -> None:
    assert (response.status_code, response.json()["type"]) == (status, f"urn:ensue:problem:{name}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8484", "LOCALHOST:8484", "hooks.example:443"])
async def test_requests_for_trusted_hosts_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "evil:8484", "[::2]", "localhost.", "@"]
)
@pytest.mark.parametrize("path", ["/healthz", "/runs", "/events", "/hooks/shop"])
async def test_requests_for_other_hosts_are_refused(client: httpx.AsyncClient, host: str, path: str) -> None:
    _problem(await client.post(path, headers={"host": host}), 400, "host-unknown")


async def test_a_repeated_host_is_refused(client: httpx.AsyncClient) -> None:
    headers = [("host", "localhost"), ("host", "localhost")]
    _problem(await client.get("/healthz", headers=headers), 400, "host-unknown")


FOREIGN = [
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:8484"},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:9999"},
    {"origin": "null"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_site_changes_nothing(
    client: httpx.AsyncClient, app: Gateway, engine: StandInEngine, headers: dict[str, str]
) -> None:
    changing = [
        (method, path.replace("{run_id}", UNKNOWN).replace("{letter_id}", UNKNOWN).replace("{name}", "x/y"))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if method not in ("get", "head") and not path.startswith(("/hooks", "/events"))
    ]
    assert len(changing) >= 7
    for method, path in changing:
        _problem(await client.request(method, path, headers=headers), 403, "cross-site")
    for path in ("/events", "/hooks/shop"):  # such a page could send no JSON without asking first, and is told no
        plain = headers | {"content-type": "text/plain"}
        _problem(await client.post(path, headers=plain, content=b"{}"), 415, "content-type")
    assert engine.done == []
    assert (await client.get("/runs", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": "http://127.0.0.1:8484"}, {}]
)
async def test_a_page_of_the_same_site_and_other_clients_may_change_things(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    _problem(await client.post(f"/runs/{UNKNOWN}/cancel", headers=headers), 404, "run-unknown")
