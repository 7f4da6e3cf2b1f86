"""Trees: what tests of supervision under Ray share: an engine with all its supervisors, and its parts by name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ensue import Engine, PartitionTakenOver, Pipeline, StepEscalated, StepRestarted

from ..conformance.engines import Rig, Trace, by_value, make_rig, until

__all__ = ["begin", "child", "parts", "pids", "rig", "shown", "supervised", "supervisor", "watcher"]


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    made = make_rig(request, "ray-sqlite", tmp_path)
    by_value("tests.conformance.engines")
    by_value("tests.integration.trees")
    yield made
    await made.stop()


async def begin(rig: Rig, *pipelines: Pipeline) -> Engine:
    engine = await rig.start(*pipelines)
    assert isinstance(engine, Engine)
    await supervised(engine)
    return engine


async def supervised(engine: Engine) -> None:
    """Wait until all supervisors are there: they start once the workers are."""
    await until(lambda: all(part["pid"] for part in parts(engine.tree()) if is_supervised(part)))


def is_supervised(part: Any) -> bool:
    """Whether a part of the tree is a supervisor that should be there: a pipeline that was given up has none below it."""
    return part["kind"] in ("supervisor", "pipeline", "step") and part["status"] not in ("failed", "down")


def parts(tree: Any) -> list[Any]:
    """A tree's parts, itself first."""
    return [tree, *(part for child in tree["children"] for part in parts(child))]


def watcher(trace: Trace) -> Pipeline:
    """A pipeline that notes what supervisors do."""
    watch = Pipeline("watch")

    @watch.step
    def restarted(event: StepRestarted) -> None:
        trace.note(f"restarted {event.pipeline}/{event.step}")

    @watch.step
    def escalated(event: StepEscalated) -> None:
        trace.note(f"escalated {event.supervisor} to {event.to or 'nobody'} failed {event.failed}")

    @watch.step
    def taken(event: PartitionTakenOver) -> None:
        trace.note(f"taken over from {event.previous} at epoch {event.epoch}")

    return watch


def child(tree: Any, name: str) -> Any:
    """The part of a tree with this name."""
    return next(part for part in tree["children"] if part["name"] == name)


def shown(engine: Engine, *path: str) -> tuple[str, int, int | None]:
    """The status, restarts and process of a part of the tree, by the names that lead to it.

    What an engine shows of a step is what its supervisor said last, and the worker's own word may be quicker: wait for it.
    """
    part: Any = engine.tree()
    for name in path:
        part = child(part, name)
    return part["status"], part["restarts"], part["pid"]


def pids(engine: Engine, step: str) -> set[int]:
    found = {worker["pid"] for worker in engine.workers() if worker["step"] == step and worker["up"]}
    assert 0 not in found
    return found


def supervisor(engine: Engine, pipeline: str, step: str | None) -> Any:
    """The process of a pipeline's supervisor, or of a step's."""
    found = child(engine.tree(), pipeline)
    return (child(found, step) if step else found)["pid"]
