"""Breakers: how each circuit stands, and an operator's hand on it.

Rules: a name may hold '/' (`pipeline/step`), so it is all of the path between the prefix and the action, which the
route says; a name that nobody knows is a 404.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from ...events.errors import BreakerUnknown
from ...events.policies.breaker import BreakerView
from ..engine_port import EnginePort
from ..schemas.status import BreakerOut, BreakersOut, OpenIn
from .caller import Who

__all__ = ["breakers_of", "breakers_router"]


def breakers_router(engine: EnginePort) -> APIRouter:
    """The routes under /breakers."""
    router = APIRouter(prefix="/breakers", tags=["breakers"])

    @router.get("", summary="All circuit breakers")
    async def list_breakers() -> BreakersOut:
        views = sorted(breakers_of(engine), key=lambda view: view.name)
        return BreakersOut(breakers=[BreakerOut.of(view) for view in views])

    @router.post("/{name:path}/open", summary="Open a breaker: nothing is called, what waits loses no attempt")
    async def open_breaker(name: str, who: Who, how: OpenIn | None = None) -> BreakerOut:
        seconds = None if how is None else how.seconds
        return BreakerOut.of(await engine.force_breaker(_find(engine, name).name, opens=True, seconds=seconds, who=who))

    @router.post("/{name:path}/close", summary="Close a breaker: calls go through again")
    async def close_breaker(name: str, who: Who) -> BreakerOut:
        return BreakerOut.of(await engine.force_breaker(_find(engine, name).name, opens=False, who=who))

    @router.get("/{name:path}", summary="A circuit breaker")
    async def show_breaker(name: str) -> BreakerOut:
        return BreakerOut.of(_find(engine, name))

    return router


def breakers_of(engine: EnginePort) -> Sequence[BreakerView]:
    """The breakers; none while the engine has not read them from its log yet."""
    return () if engine.state() in ("new", "starting") else engine.breakers()


def _find(engine: EnginePort, name: str) -> BreakerView:
    views = {view.name: view for view in breakers_of(engine)}
    if name not in views:
        known = ", ".join(sorted(views)[:20])
        raise BreakerUnknown(f"no breaker is called {name[:100]!r}; there are: {known or 'none'}")
    return views[name]
