"""The health routes: liveness, readiness, the supervision tree and the status page.

Rules: liveness means that the process answers, readiness that the engine accepts events. The tree and the status are
for people and answer 200 in every state; only /readyz answers 503.
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


def health_router(engine: EnginePort, queries: LogQueries) -> APIRouter:
    """The routes /healthz, /readyz, /health/tree and /status."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="Liveness: the process answers")
    async def healthz() -> HealthOut:  # pyright: ignore[reportUnusedFunction]
        return HealthOut(status="live")

    @router.get("/readyz", summary="Readiness: events are accepted; 503 while starting, draining or failed")
    async def readyz() -> ReadyOut:  # pyright: ignore[reportUnusedFunction]
        state = engine.state()
        if not takes_events(state):
            raise refuse("not-ready", f"The engine is {state}.")
        return ReadyOut(status="ready" if state == "ready" else "recovering", durability=engine.durability)

    @router.get("/health/tree", summary="The supervision tree: engine, pipelines, steps, workers")
    async def tree() -> NodeOut:  # pyright: ignore[reportUnusedFunction]
        return NodeOut.of(engine.tree())

    @router.get("/status", summary="The status: engine, supervision, breakers, dead letters, runs")
    async def status() -> StatusOut:  # pyright: ignore[reportUnusedFunction]
        state, tree, views = engine.state(), NodeOut.of(engine.tree()), breakers_of(engine)
        reader = await run_in_threadpool(queries.reader_or_none)
        durability = None if reader is None else engine.durability
        return await run_in_threadpool(StatusOut.of, state, durability, tree, views, reader)

    return router
