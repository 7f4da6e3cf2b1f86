"""The routes of runs: lists, details, the causal log, cancel and retry.

Rules: pages are cursors on the order of the log, so no run is shown twice or left out while runs are added. Every
filter is a closed set or a bound parameter.
"""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from ...cluster.log.protocol import RunRow
from ...events.errors import RunFinished, RunUnknown
from ...events.state.run_status import Status
from ..engine_port import EnginePort
from ..http.problems import refuse
from ..schemas.runs import EventOut, EventsOut, RunDetailOut, RunOut, RunsOut, StatusName
from .caller import Caller
from .log_queries import LogQueries

__all__ = ["runs_router"]

_RETRYABLE = frozenset({Status.FAILED, Status.CANCELLED})
_LONGEST_CURSOR = 16


def runs_router(engine: EnginePort, queries: LogQueries) -> APIRouter:
    """The routes under /runs."""
    router = APIRouter(prefix="/runs", tags=["runs"])

    @router.get("", summary="Runs, newest first")
    def list_runs(
        pipeline: Annotated[str | None, Query(description="only runs of this pipeline")] = None,
        status: Annotated[
            list[StatusName] | None, Query(description="only runs in this status; may be repeated")
        ] = None,
        cursor: Annotated[str | None, Query(description="next_cursor from the previous page")] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="the largest number of runs on the page")] = 50,
    ) -> RunsOut:
        statuses = None if status is None else [Status[name.upper()] for name in status]
        before = None if cursor is None else _read_cursor(cursor)
        rows = queries.reader().runs(pipeline=pipeline, statuses=statuses, before=before, limit=limit + 1)
        page = rows[:limit]
        more = len(rows) > limit
        return RunsOut(runs=[RunOut.of(row) for row in page], next_cursor=_cursor(page[-1]) if more else None)

    @router.get("/{run_id}", summary="A run: results, errors and steps")
    def show_run(run_id: str) -> RunDetailOut:
        row = queries.row(run_id)
        return RunDetailOut.of_view(row, queries.view(row))

    @router.get("/{run_id}/events", summary="The causal log of a run, oldest event first")
    def list_events(run_id: str) -> EventsOut:
        history = queries.history(queries.row(run_id))
        return EventsOut(events=[EventOut.of(event) for event in history.events])

    @router.post(
        "/{run_id}/cancel",
        summary="Cancel a run: it starts no further step, and its compensations run",
    )
    async def cancel_run(run_id: str, caller: Caller) -> RunOut:
        row = await run_in_threadpool(queries.row, run_id)
        if not Status(row.status).live:
            raise RunFinished(f"the run has ended with status {Status(row.status).wire}: there is nothing to cancel")
        try:
            await engine.cancel(row.run_id, who=caller)
        except RunUnknown:
            raise RunFinished("the run has just ended: there is nothing to cancel") from None
        return RunOut.of(await run_in_threadpool(queries.row, run_id))

    @router.post("/{run_id}/retry", summary="Retry a run that failed or was cancelled")
    async def retry_run(run_id: str, caller: Caller) -> RunOut:
        row = await run_in_threadpool(queries.row, run_id)
        if row.status not in _RETRYABLE:
            raise refuse(
                "conflict",
                f"The run has status {Status(row.status).wire}: only a failed or cancelled run can be retried.",
            )
        await engine.retry(row.run_id, who=caller)
        return RunOut.of(await run_in_threadpool(queries.row, run_id))

    return router


def _cursor(row: RunRow) -> str:
    return f"{row.run:x}"


def _read_cursor(text: str) -> int:
    try:
        if len(text) <= _LONGEST_CURSOR and text.isalnum():
            return int(text, 16)
    except ValueError:
        pass
    fault = {"field": "cursor", "expected": "next_cursor from the previous page", "got": text[:60]}
    raise refuse("parameter-invalid", "cursor: expected next_cursor from the previous page.", fault)
