"""Pipelines: what is served here, as it is declared, with its findings and its graph."""

from collections.abc import Mapping

from fastapi import APIRouter

from ..events.graph import Graph
from ..events.pipeline import Pipeline
from ..events.status import Status
from .definitions import PipelineOut, PipelinesOut
from .engine_port import EnginePort
from .problems import refuse
from .reading import Reading
from .schemas import StatusName

__all__ = ["pipelines_router"]


def pipelines_router(engine: EnginePort, reading: Reading) -> APIRouter:
    """The routes under /pipelines."""
    router = APIRouter(prefix="/pipelines", tags=["pipelines"])

    @router.get("", summary="The pipelines served here")
    def list_pipelines() -> PipelinesOut:
        counts = _counts(reading)
        return PipelinesOut(pipelines=[_document(engine, pipeline, counts) for pipeline in engine.pipelines.values()])

    @router.get("/{name}", summary="A pipeline: steps, webhooks, findings, counts of its runs")
    def show_pipeline(name: str) -> PipelineOut:
        return _document(engine, _find(engine, name), _counts(reading))

    @router.get("/{name}/graph", summary="The graph: nodes are steps, event types and webhooks")
    def show_graph(name: str) -> Graph:
        return _find(engine, name).graph()

    return router


def _find(engine: EnginePort, name: str) -> Pipeline:
    pipeline = engine.pipelines.get(name)
    if pipeline is None:
        served = ", ".join(sorted(engine.pipelines))
        raise refuse("pipeline-unknown", f"No pipeline {name[:100]!r} is served here; served: {served or 'none'}.")
    return pipeline


def _counts(reading: Reading) -> Mapping[str, dict[StatusName, int]]:
    counts: dict[str, dict[StatusName, int]] = {}
    for (pipeline, status), number in reading.reader().counts().items():
        counts.setdefault(pipeline, {})[Status(status).wire] = number  # type: ignore[index]  # the same closed set
    return counts


def _document(engine: EnginePort, pipeline: Pipeline, counts: Mapping[str, dict[StatusName, int]]) -> PipelineOut:
    return PipelineOut.of(pipeline, engine.versions()[pipeline.name], counts.get(pipeline.name, {}))
