"""An engine was given something else than it takes, at the wrong time or from the wrong loop, and half did it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import ensue
from ensue import Engine, Event, Pipeline, Retry
from ensue.actors.local import LocalEngine
from ensue.events.errors import EnsueError, EventInvalid, LogUnavailable, PipelineInvalid

UNKNOWN = "01234567-89ab-7def-8123-456789abcdef"


class A(Event):
    n: int


def another_class() -> type[Event]:
    class A(Event):
        n: int

    return A


def pipeline_of(seen: list[int]) -> Pipeline:
    pipeline = Pipeline("arguments")

    @pipeline.step
    def take(event: A) -> None:
        seen.append(event.n)

    return pipeline


async def test_another_class_of_the_same_name_is_refused() -> None:
    seen: list[int] = []
    async with LocalEngine(pipeline_of(seen)) as engine:
        for named in (None, "arguments"):
            with pytest.raises(EventInvalid, match="knows another class by the name of 'A'"):
                await engine.emit(another_class()(n=1), pipeline=named)  # type: ignore[call-arg]
        await engine.idle()
    assert seen == []


@pytest.mark.parametrize("given", [5, A, "A", {"n": 1}, None], ids=str)
async def test_only_events_are_emitted(given: Any) -> None:
    async with LocalEngine(pipeline_of([])) as engine:
        for named in (None, "arguments"):
            with pytest.raises(EventInvalid, match="emit takes an event"):
                await engine.emit(given, pipeline=named)


@pytest.mark.parametrize("kind", [Engine, LocalEngine])
async def test_nothing_is_emitted_before_the_start(kind: type[Engine | LocalEngine]) -> None:
    engine = kind(pipeline_of([]), store="memory://")
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: engine.emit(A(n=1)),
        lambda: engine.emit_many([A(n=1)]),
        lambda: engine.accept("arguments", A(n=1)),
        lambda: engine.run(UNKNOWN),
        lambda: engine.cancel(UNKNOWN),
        lambda: engine.retry(UNKNOWN),
        lambda: engine.redrive(UNKNOWN),
        lambda: engine.discard(UNKNOWN),
        lambda: engine.force_breaker("take", opens=True),
    ]
    for call in calls:
        with pytest.raises(EnsueError, match="the engine has not been started"):
            await call()
    assert engine.breakers() == []


async def test_another_event_loop_is_refused_and_starts_nothing() -> None:
    seen: list[int] = []
    async with LocalEngine(pipeline_of(seen)) as engine:

        def elsewhere() -> None:
            for call in (engine.emit(A(n=1)), engine.emit_many([A(n=1)]), engine.accept("arguments", A(n=1))):
                with pytest.raises(EnsueError, match="another event loop, and nothing was done"):
                    asyncio.run(call)

        await asyncio.to_thread(elsewhere)
        await engine.idle()
        loop = asyncio.get_running_loop()
        future = await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(engine.emit(A(n=2)), loop))
        await (await asyncio.wrap_future(future)).result()
    assert seen == [2]


@pytest.mark.parametrize("kind", [Engine, LocalEngine])
def test_an_engine_says_what_it_takes(kind: Any) -> None:
    pipeline = pipeline_of([])
    with pytest.raises(PipelineInvalid, match=r"one by one, not in one container: Engine\(\*pipelines\)"):
        kind([pipeline])
    with pytest.raises(PipelineInvalid, match="an engine takes pipelines, not 'arguments'"):
        kind("arguments")
    with pytest.raises(LogUnavailable, match="neither a URL nor a path"):
        kind(pipeline, store=None)
    with pytest.raises(LogUnavailable, match="neither a URL nor a path"):
        kind(pipeline, store=Path("a?b.db"))


async def test_a_store_may_be_a_path(tmp_path: Path) -> None:
    seen: list[int] = []
    async with LocalEngine(pipeline_of(seen), store=tmp_path / "a b%20.db") as engine:
        await (await engine.emit(A(n=3))).result()
    assert (tmp_path / "a b%20.db").exists()
    assert engine.store == f"sqlite:///{tmp_path}/a b%20.db"
    assert Engine(pipeline_of([]), store=Path("x.db")).store == "sqlite:///x.db"


async def test_run_in_a_running_loop_names_arun() -> None:
    with pytest.raises(EnsueError, match=r"await ensue.arun\(...\)"):
        ensue.run(pipeline_of([]), A(n=1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attempts": "3"}, "attempts='3'"),
        ({"attempts": 2.5}, "attempts=2.5"),
        ({"wait": "5"}, "wait='5'"),
        ({"wait": None}, "wait=None"),
        ({"deadline": "60"}, "deadline='60'"),
        ({"attempts": True}, "attempts=True"),
    ],
    ids=str,
)
def test_a_retry_says_what_it_takes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PipelineInvalid, match=message):
        Retry(**arguments)


def test_a_pipeline_says_what_it_takes() -> None:
    with pytest.raises(PipelineInvalid, match="pipeline p: supervision=None"):
        Pipeline("p", supervision=None)  # type: ignore[arg-type]
    with pytest.raises(PipelineInvalid, match="pipeline name None: write text"):
        Pipeline(None)  # type: ignore[arg-type]


async def test_arun_runs_one_event_in_a_running_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def local(pipeline: Pipeline, *, store: str, address: str | None) -> LocalEngine:
        assert address is None
        return LocalEngine(pipeline, store=store)

    monkeypatch.setattr("ensue.actors.run_once.Engine", local)
    seen: list[int] = []
    outcome = await ensue.arun(pipeline_of(seen), A(n=5))
    assert (outcome.status, seen) == ("completed", [5])
