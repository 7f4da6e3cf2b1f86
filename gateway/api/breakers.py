"""The routes of circuit breakers: their state, and opening and closing them by hand.

Rules: a name may contain '/' (`pipeline/step`), so a route takes the whole path between the prefix and the action as
the name. An unknown name is a 404.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from ...events.errors import BreakerUnknown
from ...events.policies.breaker import BreakerView
from ..engine_port import EnginePort
from ..schemas.status import BreakerOut, BreakersOut, OpenIn
from .caller import Caller

__all__ = ["breakers_of", "breakers_router"]


def breakers_router(engine: EnginePort) -> APIRouter:
    """The routes under /breakers."""
    router = APIRouter(prefix="/breakers", tags=["breakers"])

    @router.get("", summary="All circuit breakers")
    async def list_breakers() -> BreakersOut:
        views = sorted(breakers_of(engine), key=lambda view: view.name)
        return BreakersOut(breakers=[BreakerOut.of(view) for view in views])

    @router.post("/{name:path}/open", summary="Open a breaker: deliveries wait and lose no attempt")
    async def open_breaker(name: str, caller: Caller, options: OpenIn | None = None) -> BreakerOut:
        seconds = None if options is None else options.seconds
        return BreakerOut.of(
            await engine.force_breaker(_find(engine, name).name, opens=True, seconds=seconds, who=caller)
        )

    @router.post("/{name:path}/close", summary="Close a breaker: deliveries go through again")
    async def close_breaker(name: str, caller: Caller) -> BreakerOut:
        return BreakerOut.of(await engine.force_breaker(_find(engine, name).name, opens=False, who=caller))

    @router.get("/{name:path}", summary="A circuit breaker")
    async def show_breaker(name: str) -> BreakerOut:
        return BreakerOut.of(_find(engine, name))

    return router


def breakers_of(engine: EnginePort) -> Sequence[BreakerView]:
    """The breakers; none before the engine has read them from its log."""
    return () if engine.state() in ("new", "starting") else engine.breakers()


def _find(engine: EnginePort, name: str) -> BreakerView:
    views = {view.name: view for view in breakers_of(engine)}
    if name not in views:
        known = ", ".join(sorted(views)[:20])
        raise BreakerUnknown(f"there is no breaker {name[:100]!r}; known breakers: {known or 'none'}")
    return views[name]
