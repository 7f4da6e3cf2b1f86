"""A walk: one signed webhook through the real code, from a TCP socket to its step and back, and the files it enters.

Everything is the product's own: uvicorn's server with our protocol, the gateway, `Engine`, the partition's thread, the
SQLite log, the ZeroMQ lane and `Worker`. Only what starts processes is replaced: workers are threads of this process,
and there is no Ray. So one profiler sees every function that is entered, in every thread, in order.
"""

import asyncio
import hashlib
import hmac
import inspect
import json
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import httpx
import pytest

from ensue import Engine, Event, Pipeline, Webhook, hooks
from ensue.actors import engine as engine_module
from ensue.actors.transport.messages import Tag
from ensue.actors.transport.ray_links import RayLinks
from ensue.actors.worker import worker as worker_module
from ensue.actors.worker.worker import Worker
from ensue.events.decide.inputs import WorkerUp
from ensue.events.model.codec import pack
from ensue.gateway.api import server

__all__ = ["Entered", "walk_webhook"]

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a-secret"
SECONDS = 30.0


class Parcel(Event):
    number: int


class Weighed(Event):
    grams: int


parcels = Pipeline("parcels")
_may_return = threading.Event()
"""The step returns when its result is awaited, so every walk enters the same functions."""
_OTHER_THREADS = frozenset({"ensue-reconciler"})
"""What runs now and then, whether a webhook comes or not."""


@parcels.webhook("scales", verify=hooks.GitHub(secret_env="SCALES_SECRET"))
def from_scales(hook: Webhook) -> Parcel:
    return Parcel(number=hook.json()["number"])


@parcels.step
def weigh(parcel: Parcel) -> Weighed:
    assert _may_return.wait(SECONDS)
    return Weighed(grams=parcel.number * 10)


class Entered:
    """The functions of the package that were entered while it was on: (file, name), in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.on = False

    @property
    def files(self) -> set[str]:
        """The files of these functions."""
        return {file for file, _ in self.calls}

    def note(self, code: CodeType) -> None:
        """A function is entered."""
        name = _in_package(code.co_filename)
        if self.on and name is not None and threading.current_thread().name not in _OTHER_THREADS:
            self.calls.append((name, code.co_name))


def _in_package(filename: str) -> str | None:
    for folder in ("events", "cluster", "actors", "gateway"):
        before, found, name = filename.partition(f"/{folder}/")
        if found and (Path(before) == ROOT or before.endswith("/ensue")):
            return f"{folder}/{name}"
    return None


class ThreadPool:
    """In the place of `WorkerPool`: one worker a step, as a thread. `arguments` are those that a pool gets."""

    def __init__(self, *arguments: Any) -> None:
        self._links = next(a for a in arguments if isinstance(a, RayLinks))
        self._post = next(a for a in arguments if inspect.ismethod(a))
        self._worker = Worker(1, parcels.steps["weigh"], list(parcels.registry))
        self._thread = threading.Thread(target=self._worker.serve, args=(self._links.address,), daemon=True)
        self._is_up = threading.Event()

    def start(self, *_: Any) -> None:
        self._thread.start()

    def up(self, worker: int) -> None:
        self._post(WorkerUp(worker, "parcels", "weigh", 1))
        self._is_up.set()

    def wait_ready(self, _seconds: float) -> bool:
        return self._is_up.wait(SECONDS)

    def stop(self, *_: Any) -> None:
        if self._thread.is_alive():
            self._links.send_soon(1, pack([int(Tag.STOP), None]))
            self._thread.join(SECONDS)

    def tree(self) -> list[Any]:
        return []


class NoRay:
    """In the place of `ensue.cluster.ray.session`: there is no Ray, and it is well."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def start(self, *_: Any, **__: Any) -> "NoRay":
        return self

    def stop(self, _session: Any) -> None:
        """Nothing was started."""

    def alive(self, _session: Any) -> bool:
        return True

    def check_listeners(self, _session: Any) -> None:
        """Nothing listens."""


def _print_as_usual(_sink: object, _step: str) -> None:
    """In the place of `forward_prints`, which gives a worker's process another stdout."""


class Walk(NamedTuple):
    """What a webhook entered until its run had a result, and what asking for that run entered."""

    webhook: Entered
    query: Entered


async def walk_webhook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Walk:
    """Send one webhook, wait for the result of its run, and ask for the run over HTTP."""
    monkeypatch.setattr(engine_module, "ray_session", NoRay(folder))
    monkeypatch.setattr(engine_module, "WorkerPool", ThreadPool)
    monkeypatch.setattr(worker_module, "forward_prints", _print_as_usual)
    walk = Walk(Entered(), Entered())
    _may_return.clear()

    def profile(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            for entered in walk:
                entered.note(frame.f_code)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        await _walk(Engine(parcels, store=f"sqlite:///{folder}/walk.db"), walk)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return walk


async def _walk(engine: Engine, walk: Walk) -> None:
    stop = asyncio.Event()
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def observe(served: server.Served) -> None:
        if served.phase == server.ServerPhase.READY:
            ready.set_result(served.url)

    environment = {"SCALES_SECRET": SECRET}
    serving = asyncio.create_task(
        server.serve_async(lambda: engine, port=0, environment=environment, observe=observe, stop=stop)
    )
    try:
        begun: set[asyncio.Future[Any]] = {ready, serving}
        await asyncio.wait(begun, timeout=SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert ready.done(), serving
        async with httpx.AsyncClient(base_url=ready.result()) as client:
            walk.webhook.on = True
            answer = await client.post("/hooks/scales", **_delivery())
            assert answer.status_code == 202, answer.text
            run = await engine.run(answer.json()["run_id"])
            asked = asyncio.ensure_future(run.result(SECONDS))
            async with asyncio.timeout(SECONDS):
                while not run.is_awaited:  # noqa: ASYNC110 - the engine tells nobody when somebody waits
                    await asyncio.sleep(0)
            _may_return.set()
            outcome = await asked
            walk.webhook.on = False
            assert outcome.event == Weighed(grams=70)
            walk.query.on = True
            assert (await client.get(f"/runs/{run.id}")).json()["status"] == "completed"
            walk.query.on = False
    finally:
        stop.set()
        await serving


def _delivery() -> dict[str, Any]:
    body = json.dumps({"number": 7}).encode()
    headers = {
        "content-type": "application/json",
        "x-github-event": "weighing",
        "x-github-delivery": "one",
        "x-hub-signature-256": "sha256=" + hmac.digest(SECRET.encode(), body, hashlib.sha256).hex(),
    }
    return {"content": body, "headers": headers}
