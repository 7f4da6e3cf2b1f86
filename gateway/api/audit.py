"""The audit route. It only reads: the engine writes the audit in the same commit as the action."""

from typing import Annotated

from fastapi import APIRouter, Query

from ..schemas.dead_letters import AuditListOut, AuditOut
from .log_queries import LogQueries

__all__ = ["audit_router"]


def audit_router(queries: LogQueries) -> APIRouter:
    """The route /audit."""
    router = APIRouter(tags=["audit"])

    @router.get("/audit", summary="The audit: who did what, newest first")
    def list_audit(  # pyright: ignore[reportUnusedFunction]
        subject: Annotated[
            str | None, Query(description="only rows about this dead letter, run, breaker or pipeline")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=1000, description="the largest number of rows")] = 100,
    ) -> AuditListOut:
        rows = queries.reader().audit(subject=subject, limit=limit)
        return AuditListOut(audit=[AuditOut.of(row) for row in rows])

    return router
