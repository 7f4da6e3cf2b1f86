"""What tests of supervision under Ray share: an engine with all its supervisors, and its parts by name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ensue import Engine, PartitionTakenOver, Pipeline, StepEscalated, StepRestarted

from ..conformance.engines import Rig, Trace, by_value, make_rig, until

__all__ = [
    "begin",
    "child",
    "crash",
    "keeper",
    "parts",
    "pids",
    "remembers",
    "rig",
    "shown",
    "supervised",
    "supervisor",
    "watcher",
]


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
    """Wait until all supervisors are there: the keeper starts once the workers are up."""
    await until(lambda: all(part["pid"] for part in parts(engine.tree()) if is_supervised(part)))


def is_supervised(part: Any) -> bool:
    """Whether a part of the tree is a supervisor that should be there: not below a pipeline that was given up."""
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

    The engine shows what the supervisor of a step reported last, which may come after the worker: wait for it.
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
    """The process of a pipeline's or step's supervisor: the keeper's, or None while the supervisor is not there."""
    found = child(engine.tree(), pipeline)
    return (child(found, step) if step else found)["pid"]


def keeper(engine: Engine) -> Any:
    """The process of the keeper; None while there is none."""
    return child(engine.tree(), "root")["pid"]


async def crash(engine: Engine, path: str) -> None:
    """Have a supervisor in the keeper raise an exception: a message that it does not know is a bug.

    Waits until its parent has counted that, if it is one that has a parent.
    """
    pipeline, _, step = path.partition("/")
    before = engine._pool.keeper.histories.of(pipeline) if step else engine._pool.keeper.histories.root.get(pipeline)
    assert engine._pool.keeper.order(path, "not a message")

    def is_counted() -> bool:
        histories = engine._pool.keeper.histories
        return (histories.of(pipeline) if step else histories.root.get(pipeline)) != before

    await until(is_counted)


def remembers(engine: Engine, name: str) -> bool:
    """Whether the history of a supervisor is in the log."""
    return name in [fact.name for fact in engine.reader().facts("supervision")]
