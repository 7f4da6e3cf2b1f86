"""The engines and what tests start them with: each scenario of `engine/` runs on all of them.

`rig.start(pipeline)` starts the engine that a test is parametrised with, on a store that outlives it. The local engines
advance their clock when all wait; with Ray waits are short. Steps leave their traces in files, since under Ray they run
in other processes. Folders of tests get the fixtures through their `conftest.py`.
"""

import asyncio
import importlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from ensue import Engine, Event, Outcome, Pipeline
from ensue.actors.client.engine_api import EngineApi
from ensue.actors.local import LocalEngine
from ensue.cluster.ray import session
from ensue.events.decide.core import Limits

__all__ = [
    "ON_RAY",
    "ON_SQLITE",
    "SECONDS",
    "Rig",
    "Trace",
    "by_value",
    "durable",
    "local",
    "make_rig",
    "ray_session",
    "rig",
    "trace",
    "until",
]

LOCAL = ("local-memory", "local-sqlite")
RAY = pytest.param("ray-sqlite", marks=pytest.mark.services)
ON_SQLITE = pytest.mark.parametrize("rig", ["local-sqlite"], indirect=True)
"""For tests whose engine crashes where they want it: `rig` is the local engine on a SQLite store alone.

`kill -9` of whole processes is in `tests/integration`."""
ON_RAY = pytest.mark.parametrize("rig", [RAY], indirect=True)
"""For tests of what only processes can do: `rig` is the engine on Ray alone."""
SECONDS = 30.0
"""The deadline of whatever a test waits for."""


class Rig:
    """Starts engines of one kind on one store, and stops what a test left running."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.store = "memory://" if kind == "local-memory" else f"sqlite:///{folder / 'ensue.db'}"
        self._engines: list[Engine | LocalEngine] = []

    @property
    def is_ray(self) -> bool:
        """Whether steps run in processes of their own."""
        return self.kind.startswith("ray")

    @property
    def engine(self) -> EngineApi:
        """The engine that was started last."""
        return self._engines[-1]

    async def start(self, *pipelines: Pipeline, limits: Limits | None = None) -> EngineApi:
        """Start an engine."""
        engine: Engine | LocalEngine
        if self.is_ray:
            engine = Engine(*pipelines, store=self.store, limits=limits)
        else:
            engine = LocalEngine(*pipelines, store=self.store, limits=limits)
        await engine.start()
        self._engines.append(engine)
        return engine

    async def stop(self, *, grace_seconds: float = 5.0) -> None:
        """Stop all engines that still run, gracefully."""
        for engine in self._engines:
            if isinstance(engine, Engine):
                await engine.stop(grace_seconds)
            else:
                await engine.stop()
        self._engines.clear()

    async def crash(self) -> None:
        """End a local engine as `kill -9` would."""
        for engine in self._engines:
            assert isinstance(engine, LocalEngine)
            engine.crash()
        self._engines.clear()
        await asyncio.sleep(0)

    async def run(self, pipeline: Pipeline, event: Event) -> Outcome:
        """Start an engine on a pipeline and run one event to its end."""
        engine = await self.start(pipeline)
        return await (await engine.emit(event)).result(SECONDS)


class Trace:
    """A file of lines that steps write, from whatever process."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def note(self, text: object) -> None:
        """Add a line, all at once."""
        number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(number, f"{text}\n".encode())
        finally:
            os.close(number)

    @property
    def lines(self) -> list[str]:
        """What was noted so far."""
        path = Path(self.path)
        return path.read_text().splitlines() if path.exists() else []


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait for a condition that nothing announces; fails if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come to hold in time"
        await asyncio.sleep(0.01)


def by_value(module: str) -> None:
    """Ship what a test module defines to Ray's workers, which cannot import it."""
    cloudpickle = importlib.import_module("ray.cloudpickle")
    cloudpickle.register_pickle_by_value(sys.modules[module])


@pytest.fixture(scope="session")
def ray_session() -> Iterator[session.Session]:
    """One embedded Ray for all tests of the session."""
    started = session.start("local", num_cpus=4)
    yield started
    session.stop(started)


def make_rig(request: pytest.FixtureRequest, kind: str, folder: Path) -> Rig:
    """A rig of a kind, with what it needs."""
    if kind.startswith("ray"):
        assert request.node.get_closest_marker("services"), "a test on Ray says so by its parameter or its fixtures"
        request.getfixturevalue("ray_session")
        by_value(__name__)
        by_value(cast("str", request.module.__name__))
    return Rig(kind, folder)


@pytest.fixture(params=[*LOCAL, RAY])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """The engine of each kind."""
    made = make_rig(request, request.param, tmp_path)
    yield made
    await made.stop()


@pytest.fixture(params=LOCAL)
async def local(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """The engines without Ray, for what does not depend on where steps run."""
    made = make_rig(request, request.param, tmp_path)
    yield made
    await made.stop()


@pytest.fixture(params=["local-sqlite", RAY])
async def durable(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """The engines whose store outlives them."""
    made = make_rig(request, request.param, tmp_path)
    yield made
    await made.stop()


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """Where steps leave their traces."""
    return Trace(tmp_path / "trace.txt")
