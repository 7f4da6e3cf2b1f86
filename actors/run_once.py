"""run: starts an engine, runs one event to its end, and stops the engine."""

import asyncio

from ..events.model.event import Event
from ..events.pipelines.pipeline import Pipeline
from .client.handles import Outcome
from .engine import Engine

__all__ = ["run"]


def run(
    pipeline: Pipeline,
    event: Event,
    *,
    store: str = "memory://",
    address: str | None = None,
    timeout: float | None = None,
) -> Outcome:
    """Run a pipeline on one event and return the outcome; blocks. For code without an event loop.

    `timeout` is in seconds. Raises what `Engine` raises, and `TimeoutError`; the run then continues at the next start.
    """

    async def go() -> Outcome:
        async with Engine(pipeline, store=store, address=address) as engine:
            return await (await engine.emit(event)).result(timeout)

    return asyncio.run(go())
