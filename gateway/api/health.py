"""Health: live while the process answers, ready while the engine takes events in, and the tree of what runs.

Rules: the tree and the status are for people and always answered, whatever state its parts are in; only /readyz says 503.
"""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from ..engine_port import EnginePort, takes_events
from ..http.problems import refuse
from ..schemas.runs import HealthOut, ReadyOut
from ..schemas.status import NodeOut, StatusOut
from .breakers import breakers_of
from .log_queries import LogQueries

__all__ = ["health_router"]


def health_router(engine: EnginePort, reading: LogQueries) -> APIRouter:
    """/healthz, /readyz, /health/tree and /status."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process answers")
    async def healthz() -> HealthOut:  # pyright: ignore[reportUnusedFunction]
        return HealthOut(status="live")

    @router.get("/readyz", summary="Events are taken in; 503 while starting or draining")
    async def readyz() -> ReadyOut:  # pyright: ignore[reportUnusedFunction]
        state = engine.state()
        if not takes_events(state):
            raise refuse("not-ready", f"The engine is {state}.")
        return ReadyOut(status="ready" if state == "ready" else "recovering", durability=engine.durability)

    @router.get("/health/tree", summary="The tree of supervision: engine, pipelines, steps, workers")
    async def tree() -> NodeOut:  # pyright: ignore[reportUnusedFunction]
        return NodeOut.of(engine.tree())

    @router.get("/status", summary="How things stand, on one page")
    async def status() -> StatusOut:  # pyright: ignore[reportUnusedFunction]
        state, tree, views = engine.state(), NodeOut.of(engine.tree()), breakers_of(engine)
        reader = await run_in_threadpool(reading.reader_or_none)
        durability = None if reader is None else engine.durability
        return await run_in_threadpool(StatusOut.of, state, durability, tree, views, reader)

    return router
