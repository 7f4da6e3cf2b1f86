"""Health: live while the process answers, ready while the engine takes events in."""

from fastapi import APIRouter

from .engine_port import EnginePort
from .problems import refuse
from .schemas import HealthOut, ReadyOut

__all__ = ["health_router"]


def health_router(engine: EnginePort) -> APIRouter:
    """/healthz and /readyz."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz", summary="The process answers")
    async def healthz() -> HealthOut:  # pyright: ignore[reportUnusedFunction]
        return HealthOut(status="live")

    @router.get("/readyz", summary="Events are taken in; 503 while starting or draining")
    async def readyz() -> ReadyOut:  # pyright: ignore[reportUnusedFunction]
        state = engine.state()
        if state != "ready":
            raise refuse("not-ready", f"The engine is {state}.")
        return ReadyOut(status="ready", durability=engine.durability)

    return router
