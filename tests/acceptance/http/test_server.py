"""One real server: what only sockets, signals and time can show."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from hmac import digest
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from ensue import Event, Pipeline, Webhook, hooks
from ensue.events.errors import AddressUnavailable, EnsueError, SecretMissing
from ensue.gateway.api.server import Served, ServerPhase, serve_async
from ensue.gateway.http.listen import check_exposure, is_loopback, listen
from ensue.gateway.http.uvicorn_protocol import HEAD_LIMIT_BYTES
from ensue.gateway.settings import GatewaySettings

from ...child_process import spawned
from ..stand_in import StandInEngine

SECRET = "a-secret"
BODY = b'{"order_id": "o-1"}'
SIGNATURE = "sha256=" + digest(SECRET.encode(), BODY, "sha256").hex()
SIGNED = {"x-hub-signature-256": SIGNATURE, "content-type": "application/json"}
DEADLINE_SECONDS = 20


class OrderPlaced(Event):
    order_id: str


def _pipeline(verify: Any = None) -> Pipeline:
    orders = Pipeline("orders")

    @orders.step
    def ship(event: OrderPlaced) -> None: ...

    @orders.webhook("shop", verify=verify or hooks.GitHub(secret_env="SHOP"))
    def from_shop(hook: Webhook) -> OrderPlaced:
        return OrderPlaced(**hook.json())

    return orders


class SlowEngine(StandInEngine):
    """An engine whose start and drain last until the test ends them."""

    def __init__(self) -> None:
        super().__init__([_pipeline()], said="starting")
        self.started = asyncio.Event()
        self.drained = asyncio.Event()
        self.draining = asyncio.Event()
        self.failure: Exception | None = None

    async def __aenter__(self) -> Self:
        await self.started.wait()
        if self.failure is not None:
            raise self.failure
        self.said = "ready"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.said = "draining"
        self.draining.set()
        await self.drained.wait()
        self.said = "stopped"


class Running:
    """A server in this loop, and what it has said so far."""

    def __init__(self, engine: StandInEngine, **options: Any) -> None:
        self.engine = engine
        self.stop = asyncio.Event()
        self.phases: list[ServerPhase] = []
        self.url = ""
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(
            serve_async(
                lambda: engine,
                port=0,
                settings=GatewaySettings(read_timeout_seconds=0.2),
                environment={"SHOP": SECRET},
                observe=self._observe,
                stop=self.stop,
                **options,
            )
        )

    def _observe(self, served: Served) -> None:
        self.phases.append(served.phase)
        self.url = served.url
        self._changed.set()

    async def reach(self, phase: ServerPhase) -> None:
        """Wait for a phase."""
        while phase not in self.phases:
            self._changed.clear()
            await self._changed.wait()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@asynccontextmanager
async def _served(
    engine: StandInEngine, phase: ServerPhase = ServerPhase.READY
) -> AsyncGenerator[tuple[Running, httpx.AsyncClient]]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        running = Running(engine)
        try:
            await running.reach(phase)
            async with httpx.AsyncClient(base_url=running.url) as client:
                yield running, client
        finally:
            running.stop.set()
            await asyncio.gather(running.task, return_exceptions=True)


async def _raw(port: int, *parts: bytes) -> bytes:
    """What the server says to these bytes until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
    answer = await reader.read()
    writer.close()
    return answer


# -- bodies and heads ------------------------------------------------------------------------------------------------


async def test_a_signed_delivery_comes_through_a_real_server_whole_or_in_chunks() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in BODY:
            yield bytes([byte])

    engine = StandInEngine([_pipeline()])
    async with _served(engine) as (_, client):
        for content in (BODY, chunks()):
            response = await client.post("/hooks/shop", content=content, headers=SIGNED)
            assert response.status_code == 202, response.text
    assert len(engine.accepted) == 2


async def test_an_endless_chunked_body_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536

    async with _served(StandInEngine([_pipeline()])) as (_, client):
        with suppress(httpx.TransportError):  # httpx may meet the end of the connection before it reads the answer
            response = await client.post("/events", content=endless())
            assert response.status_code == 413
        assert (await client.get("/healthz")).status_code == 200


async def test_a_chunked_body_over_the_limit_is_answered_without_its_end() -> None:
    head = b"POST /events HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    async with _served(StandInEngine([_pipeline()])) as (running, _):
        answer = await _raw(running.port, head, chunk, b"1\r\n \r\n")
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer


async def test_a_body_that_is_a_little_over_is_answered_and_so_is_one_that_lies_of_its_length() -> None:
    async with _served(StandInEngine([_pipeline()])) as (running, client):
        response = await client.post("/events", content=b" " * (1024 * 1024 + 1))
        assert response.status_code == 413
        head = b"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n"
        assert (await _raw(running.port, head)).startswith(b"HTTP/1.1 413")


async def test_a_slow_body_runs_out_of_time() -> None:
    head = b"POST /hooks/shop HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nab"
    async with _served(StandInEngine([_pipeline()])) as (running, _):
        answer = await _raw(running.port, head)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"body-timeout" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-big: " + b"x" * HEAD_LIMIT_BYTES,
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-big: " + b"x" * HEAD_LIMIT_BYTES + b"\r\n\r\n",
        b"GET /" + b"x" * HEAD_LIMIT_BYTES + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * (HEAD_LIMIT_BYTES // 6 + 1) + b"\r\n",
    ],
)
async def test_a_head_over_the_limit_is_refused(head: bytes) -> None:
    async with _served(StandInEngine([_pipeline()])) as (running, client):
        assert (await _raw(running.port, head)).startswith(b"HTTP/1.1 431")
        assert (await client.get("/healthz")).status_code == 200


async def test_bytes_that_are_not_http_get_a_problem() -> None:
    async with _served(StandInEngine([_pipeline()])) as (running, _):
        answer = await _raw(running.port, b"\x16\x03\x01\x02\x00 hello\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"application/problem+json" in answer


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensue.gateway.http.uvicorn_protocol.HEAD_TIMEOUT_SECONDS", 0.05)
    async with _served(StandInEngine([_pipeline()])) as (running, _):
        assert await _raw(running.port) == b""
        assert await _raw(running.port, b"GET /healthz HTTP/1.1\r\nhost: loc") == b""


# -- start and stop --------------------------------------------------------------------------------------------------


async def test_while_the_engine_starts_it_is_live_and_not_ready_and_then_it_is() -> None:
    engine = SlowEngine()
    async with _served(engine, ServerPhase.LISTENING) as (running, client):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.post("/hooks/shop", content=BODY, headers=SIGNED)).status_code == 503
        engine.started.set()
        await running.reach(ServerPhase.READY)
        assert (await client.get("/readyz")).status_code == 200
        engine.drained.set()


async def test_while_it_drains_it_accepts_nothing_and_still_answers() -> None:
    engine = SlowEngine()
    engine.started.set()
    async with _served(engine) as (running, client):
        run_id = (await client.post("/hooks/shop", content=BODY, headers=SIGNED)).json()["run_id"]
        running.stop.set()
        await engine.draining.wait()
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.post("/hooks/shop", content=BODY, headers=SIGNED)).status_code == 503
        assert (await client.get(f"/runs/{run_id}")).status_code == 200
        engine.drained.set()
        await running.task
        assert running.phases == [ServerPhase.LISTENING, ServerPhase.READY, ServerPhase.DRAINING, ServerPhase.STOPPED]
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


async def test_a_stop_during_the_start_ends_it() -> None:
    engine = SlowEngine()
    async with _served(engine, ServerPhase.LISTENING) as (running, _):
        running.stop.set()
        await running.task
        assert running.phases == [ServerPhase.LISTENING, ServerPhase.STOPPED]


async def test_an_engine_that_cannot_start_ends_the_server_with_its_error() -> None:
    engine = SlowEngine()
    engine.failure = EnsueError("no Ray")
    async with _served(engine, ServerPhase.LISTENING) as (running, _):
        engine.started.set()
        with pytest.raises(EnsueError, match="no Ray"):
            await running.task


PROGRAM = """
import asyncio, signal, sys
from ensue import Event, Pipeline
from ensue.gateway.api.server import serve
from stand_in import StandInEngine

class Ping(Event): ...

pipeline = Pipeline("pings")

@pipeline.step
def hear(event: Ping) -> None: ...

class Engine(StandInEngine):
    async def __aenter__(self):
        if "slow" in sys.argv:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray's own start does
            self.on_ray_started()
            print("ray is there", flush=True)
            await asyncio.Event().wait()
        return await super().__aenter__()

    async def __aexit__(self, *_):
        if "stuck" in sys.argv:
            await asyncio.Event().wait()

serve(lambda: Engine([pipeline]), port=0, environment={}, observe=lambda served: print(served.phase, flush=True))
"""


def _program(tmp_path: Any, *arguments: str) -> AbstractContextManager["subprocess.Popen[str]"]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return spawned([sys.executable, path, *arguments], stdout=subprocess.PIPE, text=True, env=environment)


def _read_until(process: "subprocess.Popen[str]", phase: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == phase:
            return
    pytest.fail(f"the program ended before it was {phase}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_with_0(tmp_path: Any, number: signal.Signals) -> None:
    with _program(tmp_path) as process:
        _read_until(process, ServerPhase.READY)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, rest.split()) == (0, ["draining", "stopped"])


def test_a_signal_between_the_start_of_ray_and_that_of_the_workers_ends_it_in_order(tmp_path: Any) -> None:
    with _program(tmp_path, "slow") as process:
        _read_until(process, "ray is there")
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, rest.split()) == (0, ["stopped"])


def test_a_second_signal_ends_it_at_once(tmp_path: Any) -> None:
    with _program(tmp_path, "stuck") as process:
        _read_until(process, ServerPhase.READY)
        process.send_signal(signal.SIGTERM)
        _read_until(process, ServerPhase.DRAINING)
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM


# -- addresses -------------------------------------------------------------------------------------------------------


def _never() -> StandInEngine:
    pytest.fail("the engine must not be made")


async def test_a_port_in_use_is_one_clear_line_before_anything_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressUnavailable, match=f"127.0.0.1:{port}.*--port") as caught:
            await serve_async(_never, port=port)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - refused, that is it
async def test_an_address_that_is_not_loopback_is_refused_before_anything_starts(host: str) -> None:
    with pytest.raises(AddressUnavailable, match="not loopback"):
        await serve_async(_never, host=host, port=0)


async def test_a_missing_secret_stops_the_start_and_frees_the_port() -> None:
    with pytest.raises(SecretMissing, match="SHOP"):
        await serve_async(lambda: StandInEngine([_pipeline()]), port=0, environment={})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_loopback_is_reached_from_here_alone(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "localhost.evil.example", "192.0.2.1"])  # noqa: S104
def test_everything_else_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(("force", "message"), [(False, "verifies nothing"), (True, "no API keys")])
def test_an_endpoint_without_verification_stays_on_loopback_unless_forced(force: bool, message: str) -> None:
    pipelines = [_pipeline(hooks.Insecure(force=force))]
    check_exposure("127.0.0.1", pipelines)
    with pytest.raises(AddressUnavailable, match=message):
        check_exposure("0.0.0.0", pipelines)  # noqa: S104


@pytest.mark.parametrize(("host", "port"), [("no-such-host.invalid", 0), ("127.0.0.1", 70000), ("192.0.2.1", 0)])
def test_an_unavailable_address_gives_the_reason(host: str, port: int) -> None:
    with pytest.raises(AddressUnavailable, match="Cannot listen"):
        listen(host, port)
