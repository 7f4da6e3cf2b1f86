"""run and arun: start an engine, run one event to its end, and stop the engine."""

import asyncio
from os import PathLike

from ..events.errors import EnsueError
from ..events.model.event import Event
from ..events.pipelines.pipeline import Pipeline
from .client.handles import Outcome
from .engine import Engine

__all__ = ["arun", "run"]


def run(
    pipeline: Pipeline,
    event: Event,
    *,
    store: str | PathLike[str] = "memory://",
    address: str | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Run a pipeline on one event and return the outcome; blocks. For code without an event loop.

    timeout: in seconds.

    Raises: what `Engine` raises, `TimeoutError` (the run then continues at the next start), and `EnsueError` if it is
        called while an event loop runs, as in a notebook: `await ensue.arun(...)` is for that.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(arun(pipeline, event, store=store, address=address, timeout=timeout))
    raise EnsueError("ensue.run blocks, and an event loop is running here: write `await ensue.arun(...)` instead")


async def arun(
    pipeline: Pipeline,
    event: Event,
    *,
    store: str | PathLike[str] = "memory://",
    address: str | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the public interface
) -> Outcome:
    """Run a pipeline on one event and return the outcome; for code in an event loop, as in a notebook.

    timeout: in seconds.

    Raises: what `Engine` raises, and `TimeoutError`; the run then continues at the next start.
    """
    async with Engine(pipeline, store=store, address=address) as engine:
        return await (await engine.emit(event)).result(timeout)
