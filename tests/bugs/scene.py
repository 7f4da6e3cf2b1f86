"""The fixtures of the bugs that come in over HTTP: a pipeline with webhooks, its gateway, a sender with the secrets.

`client` speaks to the application itself; `raw_answer` writes bytes to a real server, whose request line no client
would send.
"""

import asyncio
import json
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from hmac import digest

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.app import create_app
from ensue.gateway.api.server import Served, ServerPhase, serve_async

from ..acceptance.stand_in import StandInEngine

__all__ = [
    "BODY",
    "ENVIRONMENT",
    "Answered",
    "Opened",
    "client",
    "engine",
    "problem_of",
    "raw_answer",
    "served",
    "signed",
    "standard",
]

SECRET = "canary-secret-2718"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRONMENT = {"GITHUB_SECRET": SECRET, "STANDARD_SECRET": STANDARD}
BODY = b'{"number": 7}'
Answered = tuple[int, bytes]
_DEADLINE_SECONDS = 20.0


class Opened(Event, type="opened"):
    number: int
    note: str = ""


class Named:
    """A verifier of a user's own: whatever says its name is believed."""

    scheme = "named"
    body_limit_bytes = 1000
    id_is_signed = True

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return headers["x-name"][0]


def _pipeline() -> Pipeline:
    triage = Pipeline("triage")

    @triage.step
    def look(event: Opened) -> None: ...

    def opened(hook: Webhook) -> Opened:
        return Opened(**hook.json())

    for name, verifier in (
        ("github", hooks.GitHub(secret_env="GITHUB_SECRET")),
        ("standard", hooks.StandardWebhooks(secret_env="STANDARD_SECRET")),
        ("named", Named()),
    ):
        triage.webhook(name, verify=verifier)(opened)
    return triage


@pytest.fixture
def engine() -> StandInEngine:
    """Accepts into a memory log."""
    return StandInEngine([_pipeline()])


@pytest.fixture
async def client(engine: StandInEngine) -> AsyncIterator[httpx.AsyncClient]:
    """Speaks to the gateway of the engine."""
    app = create_app(engine, environment=ENVIRONMENT)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        yield client


def signed(body: bytes = BODY, delivery: str | None = "d-1", content_type: str = "application/json") -> dict[str, str]:
    """The headers of a genuine delivery of GitHub's."""
    headers = {
        "x-hub-signature-256": "sha256=" + digest(SECRET.encode(), body, "sha256").hex(),
        "content-type": content_type,
    }
    return headers if delivery is None else {**headers, "x-github-delivery": delivery}


def standard(sender_id: str, body: bytes = BODY) -> dict[str, str]:
    """The headers of a genuine delivery of Standard Webhooks."""
    now = int(time.time())
    key = b64decode(STANDARD.removeprefix("whsec_"))
    mac = digest(key, f"{sender_id}.{now}.".encode() + body, "sha256")
    signature = "v1," + b64encode(mac).decode()
    names = {"webhook-id": sender_id, "webhook-timestamp": str(now), "webhook-signature": signature}
    return {**names, "content-type": "application/json"}


def problem_of(response: httpx.Response) -> tuple[int, str]:
    """The status and the name of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, str(response.json()["type"]).removeprefix("urn:ensue:problem:")


@asynccontextmanager
async def served(engine: StandInEngine) -> AsyncGenerator[int]:
    """A real server of the engine, for as long as the block lasts; its port."""
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()

    def observe(told: Served) -> None:
        if told.phase is ServerPhase.READY:
            ready.set_result(int(told.url.rpartition(":")[2]))

    async with asyncio.timeout(_DEADLINE_SECONDS):
        serving = asyncio.create_task(
            serve_async(lambda: engine, port=0, environment=ENVIRONMENT, observe=observe, stop=stop)
        )
        try:
            await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
            yield ready.result()
        finally:
            stop.set()
            await serving


async def raw_answer(
    port: int, line: str, headers: Mapping[str, str] | None = None, body: bytes = b"", host: str = "127.0.0.1"
) -> Answered:
    """The status and the body that answer a request line as it is written here."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    fields = {"host": host, "connection": "close", "content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    writer.write(f"{line} HTTP/1.1\r\n{head}\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    status, _, content = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), content


def as_json(value: object) -> bytes:
    """A body."""
    return json.dumps(value).encode()
