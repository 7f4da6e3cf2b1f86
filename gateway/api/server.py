"""The server: the gateway and the engine in one process and one event loop, from start to drain.

Rules: the start checks the address, binds the socket and reads the secrets, in this order; then the port answers
(/healthz 200, /readyz 503) while the engine starts. A failure before that stops the start with one clear error. The
first SIGTERM or SIGINT drains: /readyz is 503, no event is accepted, and the queries answer until the engine is
closed; then the port closes. A second signal ends the process at once, which loses nothing that was accepted. Ray
installs signal handlers of its own when it starts, so ours are installed again after that.
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
    """The phases of a served gateway."""

    LISTENING = "listening"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Served:
    """The argument of `observe`: the phase and the address."""

    phase: ServerPhase
    url: str


Observe = Callable[[Served], None]


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handling."""

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
    """Serve until SIGTERM or SIGINT. Raises an `EnsueError` of one line if the server or the engine cannot start."""
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
    """Serve on the running event loop. Setting `stop` has the effect of the first signal."""
    check_exposure(host, ())
    with listen(host, port) as listener:
        engine = engine_factory()
        check_exposure(host, engine.pipelines.values())
        app = create_app(engine, settings=settings, environment=environment, version=version)
        url = url_of(listener)
        notify = observe or _ignore
        await _Lifecycle(engine, app, listener, stop or asyncio.Event(), lambda phase: notify(Served(phase, url))).run()


class _Lifecycle:
    """A served gateway, from listening to stopped."""

    def __init__(
        self,
        engine: ServedEngine,
        app: Gateway,
        listener: socket.socket,
        stop: asyncio.Event,
        notify: Callable[[ServerPhase], None],
    ) -> None:
        self._engine = engine
        self._app = app
        self._listener = listener
        self._stop = stop
        self._notify = notify
        self._server = _Server(_config(app))

    async def run(self) -> None:
        """Listen, start the engine, wait for the stop, drain."""
        with _handled(self._on_signal) as install_signals:
            serving = asyncio.create_task(self._server.serve([self._listener]))
            try:
                self._notify(ServerPhase.LISTENING)
                await self._start_and_wait(serving, install_signals)
            finally:
                self._app.queries.close()
                self._server.should_exit = True
                await serving
        self._notify(ServerPhase.STOPPED)

    async def _start_and_wait(self, serving: asyncio.Task[None], install_signals: Callable[[], None]) -> None:
        self._engine.on_ray_started = install_signals
        starting = asyncio.ensure_future(self._engine.__aenter__())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                await _cancel(starting)
                return
            await starting
            self._notify(ServerPhase.READY)
            await asyncio.wait({stopping, serving}, return_when=asyncio.FIRST_COMPLETED)
            self._notify(ServerPhase.DRAINING)
            await self._engine.__aexit__(None, None, None)
        finally:
            stopping.cancel()

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + number)
        self._stop.set()


async def _cancel(starting: asyncio.Future[Any]) -> None:
    """Cancel a start that is under way; it cleans up after itself."""
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting


@contextmanager
def _handled(handler: Callable[[int], None]) -> Generator[Callable[[], None]]:
    """Route the signals to `handler` in the block. The yielded function installs the handlers again."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def install() -> None:
        for number in _SIGNALS:
            loop.add_signal_handler(number, handler, number)

    try:
        install()
    except (ValueError, RuntimeError, NotImplementedError):  # not the main thread, or Windows: only `stop` works
        yield lambda: None
        return
    try:
        yield install
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
        import uvloop  # noqa: PLC0415 - not available on Windows
    except ImportError:
        return None
    return uvloop.new_event_loop


def _ignore(_: Served) -> None:
    return None
