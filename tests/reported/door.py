"""The door as senders meet it: a real server on loopback, in front of an engine without steps."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from hmac import digest
from typing import Any, NamedTuple

from ensue import Event, Pipeline, Webhook, hooks
from ensue.gateway.api.server import Served, ServerPhase, serve_async
from ensue.gateway.settings import GatewaySettings

from ..acceptance.stand_in import StandInEngine

SECRET = "a-secret"
BODY = b'{"order_id": "o-1"}'
SIGNATURE = b"sha256=" + digest(SECRET.encode(), BODY, "sha256").hex().encode()
SIGNED = b"x-hub-signature-256: " + SIGNATURE
DEADLINE_SECONDS = 20


class OrderPlaced(Event):
    order_id: str


def shop_engine() -> StandInEngine:
    """An engine with the webhook /hooks/shop, signed as GitHub does, and the event type OrderPlaced."""
    orders = Pipeline("orders")

    @orders.step
    def ship(event: OrderPlaced) -> None: ...

    @orders.webhook("shop", verify=hooks.GitHub(secret_env="SHOP"))
    def from_shop(hook: Webhook) -> OrderPlaced:
        return OrderPlaced(**hook.json())

    return StandInEngine([orders])


class Answer(NamedTuple):
    """One response."""

    status: int
    headers: dict[str, str]
    body: bytes


class Door:
    """A served gateway."""

    def __init__(self, engine: StandInEngine, port: int) -> None:
        self.engine = engine
        self.port = port

    async def talk(self, *segments: bytes, answers: int = 1) -> list[Answer]:
        """Send each segment with a TCP packet of its own, and read this many answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for segment in segments:
                writer.write(segment)
                await writer.drain()
                await asyncio.sleep(0)  # the server, which runs in this loop, takes its turn
                await asyncio.sleep(0)
            return [await _answer(reader) for _ in range(answers)]
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> Answer:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(lines[0].split(" ")[1]), headers, body)


@asynccontextmanager
async def served(engine: StandInEngine | None = None, **settings: Any) -> AsyncGenerator[Door]:
    """A server in this loop."""
    engine = engine or shop_engine()
    stop, ready = asyncio.Event(), asyncio.Event()
    urls: list[str] = []

    def observe(phase: Served) -> None:
        urls.append(phase.url)
        if phase.phase is ServerPhase.READY:
            ready.set()

    async with asyncio.timeout(DEADLINE_SECONDS):
        options: dict[str, Any] = {"port": 0, "environment": {"SHOP": SECRET}, "observe": observe, "stop": stop}
        server = serve_async(lambda: engine, settings=GatewaySettings(**settings), **options)
        task = asyncio.create_task(server)
        try:
            await ready.wait()
            yield Door(engine, int(urls[-1].rpartition(":")[2]))
        finally:
            stop.set()
            await task


def post(path: bytes, *headers: bytes, body: bytes = BODY, chunked: bool = False, trailers: bytes = b"") -> bytes:
    """The bytes of a POST with a JSON body."""
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    lines = [b"POST %b HTTP/1.1" % path, b"host: localhost", b"content-type: application/json", framing, *headers]
    content = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(body), body, trailers) if chunked else body
    return b"\r\n".join(lines) + b"\r\n\r\n" + content
