"""Audit: who did what, when, to what. It is read here; the engine writes it with what was done."""

from typing import Annotated

from fastapi import APIRouter, Query

from ..schemas.dead_letters import AuditListOut, AuditOut
from .log_queries import LogQueries

__all__ = ["audit_router"]


def audit_router(reading: LogQueries) -> APIRouter:
    """/audit."""
    router = APIRouter(tags=["audit"])

    @router.get("/audit", summary="Who did what, newest first")
    def list_audit(  # pyright: ignore[reportUnusedFunction]
        subject: Annotated[str | None, Query(description="only about this letter, run, breaker or pipeline")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> AuditListOut:
        rows = reading.reader().audit(subject=subject, limit=limit)
        return AuditListOut(audit=[AuditOut.of(row) for row in rows])

    return router
