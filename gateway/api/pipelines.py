"""The routes of pipelines: the declaration of each served pipeline, its findings, its graph, and its restart."""

from collections.abc import Mapping

from fastapi import APIRouter

from ...events.pipelines.graph import Graph
from ...events.pipelines.pipeline import Pipeline
from ..engine_port import EnginePort
from ..http.problems import refuse
from ..schemas.pipelines import PipelineOut, PipelinesOut, RestartedOut
from ..schemas.runs import StatusName
from ..schemas.status import counts_of
from .caller import Caller
from .log_queries import LogQueries

__all__ = ["pipelines_router"]


def pipelines_router(engine: EnginePort, queries: LogQueries) -> APIRouter:
    """The routes under /pipelines."""
    router = APIRouter(prefix="/pipelines", tags=["pipelines"])

    @router.get("", summary="The pipelines that are served")
    def list_pipelines() -> PipelinesOut:
        counts = counts_of(queries.reader())
        return PipelinesOut(pipelines=[_document(engine, pipeline, counts) for pipeline in engine.pipelines.values()])

    @router.get("/{name}", summary="A pipeline: steps, webhooks, findings and run counts")
    def show_pipeline(name: str) -> PipelineOut:
        return _document(engine, _find(engine, name), counts_of(queries.reader()))

    @router.post("/{name}/restart", summary="Restart a pipeline, also one that has failed", status_code=202)
    async def restart_pipeline(name: str, caller: Caller) -> RestartedOut:
        await engine.restart_pipeline(_find(engine, name).name, who=caller)
        return RestartedOut(pipeline=name)

    @router.get("/{name}/graph", summary="The graph of a pipeline: steps, event types and webhooks")
    def show_graph(name: str) -> Graph:
        return _find(engine, name).graph()

    return router


def _find(engine: EnginePort, name: str) -> Pipeline:
    pipeline = engine.pipelines.get(name)
    if pipeline is None:
        served = ", ".join(sorted(engine.pipelines))
        raise refuse("pipeline-unknown", f"There is no pipeline {name[:100]!r}; served: {served or 'none'}.")
    return pipeline


def _document(engine: EnginePort, pipeline: Pipeline, counts: Mapping[str, dict[StatusName, int]]) -> PipelineOut:
    return PipelineOut.of(pipeline, engine.versions()[pipeline.name], counts.get(pipeline.name, {}))
