"""The routes of dead letters: lists, details, redrive and discard, of one or of many.

Rules: pages are cursors, newest first. Every filter is a closed set or a bound parameter. Redriving or discarding many
takes a filter, or `all`.
"""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.concurrency import run_in_threadpool

from ...cluster.log.protocol import DeadFilter
from ...events.errors import EnsueError
from ...events.ids import format_id, parse_id
from ...events.model.failure import FailureKind
from ..engine_port import Decided, EnginePort
from ..http.problems import refuse
from ..schemas.dead_letters import (
    BulkIn,
    DecidedOut,
    LetterDetailOut,
    LetterOut,
    LettersOut,
    RedriveIn,
    RedrivenOut,
    RefusedOut,
    StateFilter,
    dead_filter,
)
from .caller import Caller
from .log_queries import LogQueries

__all__ = ["dead_router"]


def dead_router(engine: EnginePort, queries: LogQueries) -> APIRouter:
    """The routes under /dead."""
    router = APIRouter(prefix="/dead", tags=["dead letters"])

    @router.get("", summary="Dead letters, newest first")
    def list_dead(  # noqa: PLR0917 - query parameters, which are given by name
        pipeline: Annotated[str | None, Query(description="only dead letters of this pipeline")] = None,
        step: Annotated[str | None, Query(description="only dead letters of this step")] = None,
        kind: Annotated[FailureKind | None, Query(description="only this kind of failure")] = None,
        error: Annotated[str | None, Query(description="only this exception type", examples=["ValueError"])] = None,
        event_type: Annotated[str | None, Query(description="only events of this type")] = None,
        run_id: Annotated[str | None, Query(description="only dead letters of this run")] = None,
        state: Annotated[StateFilter, Query(description="only dead letters in this state")] = "open",
        before: Annotated[AwareDatetime | None, Query(description="only dead letters older than this time")] = None,
        after: Annotated[AwareDatetime | None, Query(description="only dead letters since this time")] = None,
        cursor: Annotated[str | None, Query(description="next_cursor from the previous page")] = None,
        limit: Annotated[int, Query(ge=1, le=500, description="the largest number of dead letters on the page")] = 50,
    ) -> LettersOut:
        equal = {"pipeline": pipeline, "step": step, "kind": kind, "error": error, "event_type": event_type}
        last = None if cursor is None else _id("cursor", cursor, "next_cursor from the previous page")
        raw_run = None if run_id is None else format_id(_id("run_id", run_id, "the id of a run"))
        wanted = dead_filter(run_id=raw_run, before=before, after=after, state=state, **equal)
        return LettersOut.page(queries.reader().dead(wanted, after=last, limit=limit + 1), limit)

    @router.get("/{letter_id}", summary="A dead letter: events, error, attempts and audit")
    def show_letter(letter_id: str) -> LetterDetailOut:
        return queries.letter_detail(queries.letter(letter_id))

    @router.post("/redrive", summary="Run many dead letters again, by a filter")
    async def redrive_many(bulk: BulkIn, caller: Caller) -> DecidedOut:
        return _decided(await engine.redrive_all(_wanted(bulk), limit=bulk.limit, who=caller))

    @router.post("/discard", summary="Discard many dead letters, by a filter")
    async def discard_many(bulk: BulkIn, caller: Caller) -> DecidedOut:
        return _decided(await engine.discard_all(_wanted(bulk), limit=bulk.limit, who=caller))

    @router.post("/{letter_id}/redrive", summary="Run a dead letter again, with its own or with other data")
    async def redrive(letter_id: str, caller: Caller, edit: RedriveIn | None = None) -> RedrivenOut:
        letter = await run_in_threadpool(queries.letter, letter_id)
        await engine.redrive(letter.letter_id, data=edit.data if edit else None, who=caller)
        return RedrivenOut(run_id=format_id(letter.run_id))

    @router.delete("/{letter_id}", summary="Discard a dead letter")
    async def discard(letter_id: str, caller: Caller) -> LetterOut:
        letter = await run_in_threadpool(queries.letter, letter_id)
        await engine.discard(letter.letter_id, who=caller)
        return LetterOut.of(await run_in_threadpool(queries.letter, letter_id))

    return router


def _wanted(bulk: BulkIn) -> DeadFilter:
    if bulk.run_id is not None:
        _id("run_id", bulk.run_id, "the id of a run")
    return bulk.wanted()


def _decided(decided: Decided) -> DecidedOut:
    refused = [RefusedOut(id=letter_id, reason=why) for letter_id, why in decided.refused]
    return DecidedOut(decided=decided.redriven, refused=refused)


def _id(name: str, text: str, expected: str) -> bytes:
    try:
        return parse_id(text)
    except EnsueError:
        fault = {"field": name, "expected": expected, "got": text[:60]}
        raise refuse("parameter-invalid", f"{name}: expected {expected}.", fault) from None
