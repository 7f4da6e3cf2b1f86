"""The server: one process with the gateway and the engine in one loop, from the socket to the last drained run.

1. In this order: the address is allowed, the socket is bound, secrets are read; then the port answers (/healthz live,
   /readyz 503) while the engine starts; then it is ready. What fails before stops the start with one clear error.
2. The first SIGTERM or SIGINT: not ready, nothing more is taken in, the engine drains and closes while /healthz,
   /readyz (503) and the queries still answer; then the port closes. A second signal ends the process at once: the log
   is right after that too.
3. Whoever starts under us may take the signals (Ray does): they are taken again once the engine is up.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import uvicorn

from ..engine_port import ServedEngine
from ..http.listen import check_exposure, listen, url_of
from ..http.uvicorn_protocol import BoundedProtocol
from ..settings import DEFAULT_HOST, DEFAULT_PORT, GatewaySettings
from .app import Gateway, create_app

__all__ = ["Served", "ServerPhase", "serve", "serve_async"]

_KEEP_ALIVE_SECONDS = 30
_LAST_ANSWERS_SECONDS = 5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ServerPhase(StrEnum):
    """Where a served gateway stands."""

    LISTENING = "listening"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Served:
    """What `observe` is told: the phase, and the address."""

    phase: ServerPhase
    url: str


Observe = Callable[[Served], None]


class _Server(uvicorn.Server):
    """uvicorn's server without its own handling of signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def serve(
    engine_factory: Callable[[], ServedEngine],
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    settings: GatewaySettings | None = None,
    environment: Mapping[str, str] = os.environ,
    observe: Observe | None = None,
    version: str = "0",
) -> None:
    """Serve until a signal says stop. Raises what kept it from starting: `EnsueError`s, each one clear line."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(
            serve_async(
                engine_factory,
                host=host,
                port=port,
                settings=settings,
                environment=environment,
                observe=observe,
                version=version,
            )
        )


async def serve_async(
    engine_factory: Callable[[], ServedEngine],
    *,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    settings: GatewaySettings | None = None,
    environment: Mapping[str, str] = os.environ,
    observe: Observe | None = None,
    version: str = "0",
    stop: asyncio.Event | None = None,
) -> None:
    """As `serve`, in a loop that runs already; `stop` is what a signal would say."""
    check_exposure(host, ())
    with listen(host, port) as listener:
        engine = engine_factory()
        check_exposure(host, engine.pipelines.values())
        app = create_app(engine, settings=settings, environment=environment, version=version)
        url = url_of(listener)
        tell = observe or _silence
        await _Life(engine, app, listener, stop or asyncio.Event(), lambda phase: tell(Served(phase, url))).run()


class _Life:
    """One life of a gateway, from listening to stopped."""

    def __init__(
        self,
        engine: ServedEngine,
        app: Gateway,
        listener: socket.socket,
        stop: asyncio.Event,
        tell: Callable[[ServerPhase], None],
    ) -> None:
        self._engine = engine
        self._app = app
        self._listener = listener
        self._stop = stop
        self._tell = tell
        self._server = _Server(_config(app))

    async def run(self) -> None:
        """All of it."""
        with _handled(self._on_signal) as take_signals:
            serving = asyncio.create_task(self._server.serve([self._listener]))
            try:
                self._tell(ServerPhase.LISTENING)
                await self._start_and_wait(serving, take_signals)
            finally:
                self._app.reading.close()
                self._server.should_exit = True
                await serving
        self._tell(ServerPhase.STOPPED)

    async def _start_and_wait(self, serving: asyncio.Task[None], take_signals: Callable[[], None]) -> None:
        self._engine.on_ray_started = take_signals
        starting = asyncio.ensure_future(self._engine.__aenter__())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await _give_up(starting)
                return
            await starting
            self._tell(ServerPhase.READY)
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            self._tell(ServerPhase.DRAINING)
            await self._engine.__aexit__(None, None, None)
        finally:
            stopping.cancel()

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)
        self._stop.set()


async def _give_up(starting: asyncio.Future[Any]) -> None:
    """Stop a start that is under way; it clears up behind itself."""
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting


@contextmanager
def _handled(handler: Callable[[int], None]) -> Generator[Callable[[], None]]:
    """Signals go to `handler`; what is yielded takes them again, from whoever took them since."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def take() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, handler, number)

    try:
        take()
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or Windows: `stop` has to do
        yield lambda: None
        return
    try:
        yield take
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _config(app: Gateway) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it is not there on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def _silence(_: Served) -> None:
    return None
