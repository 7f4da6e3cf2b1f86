"""Metrics: what a Prometheus scrape reads, put together when it asks.

Rules: a registry of its own, so that what else lives in the process neither shows up nor collides; the log is read in
a thread through the reader; a scrape is answered in every state of the engine, and what cannot be read then is left
out (`ensue_log_readable` says so).
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ...cluster.log.protocol import Reader
from ...events.errors import EnsueError
from ...events.policies.breaker import BreakerView
from ...events.state.run_status import Status
from ..engine_port import EnginePort
from ..ingest.admission import HttpAdmission
from .breakers import breakers_of
from .log_queries import LogQueries

__all__ = ["metrics_router"]

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ("new", "starting", "ready", "recovering", "draining", "stopped", "failed")
_BREAKER_STATES = {"closed": 0, "half_open": 1, "open": 2}
_SECOND_US = 1_000_000


def metrics_router(engine: EnginePort, reading: LogQueries, intake: HttpAdmission) -> APIRouter:
    """/metrics."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        scrape = Scrape(engine.state(), engine.tree(), breakers_of(engine), dict(intake.accepted), reading)
        return Response(await run_in_threadpool(scrape.text), media_type=_CONTENT_TYPE)

    return router


@dataclass(frozen=True, slots=True, eq=False)
class Scrape(Collector):
    """What one scrape sees: the engine's part is taken in its own thread, the log's is read where `text` runs."""

    state: str
    tree: Mapping[str, Any]
    breakers: Sequence[BreakerView]
    accepted: Mapping[str, int]
    reading: LogQueries

    def text(self) -> bytes:
        """The page."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of the scrape: the log is read once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        yield self._engine()
        yield self._accepted()
        yield from self._breakers()
        yield from self._steps()
        yield from self._log()

    def _engine(self) -> Metric:
        metric = GaugeMetricFamily("ensue_engine_state", "1 for the state that the engine is in", labels=["state"])
        now = self.state.partition(":")[0]
        for state in _STATES:
            metric.add_metric([state], float(state == now))
        return metric

    def _accepted(self) -> Metric:
        help_ = "Events committed since this process began, without duplicates"
        metric = CounterMetricFamily("ensue_events_accepted", help_, labels=["pipeline"])
        for pipeline, number in self.accepted.items():
            metric.add_metric([pipeline], number)
        return metric

    def _breakers(self) -> Iterable[Metric]:
        state = GaugeMetricFamily("ensue_breaker_state", "0 closed, 1 half-open, 2 open", labels=["breaker"])
        waiting = GaugeMetricFamily(
            "ensue_deliveries_waiting",
            "Ready at a step: held back by its breaker, or until a worker is free",
            labels=["breaker"],
        )
        for view in self.breakers:
            state.add_metric([view.name], _BREAKER_STATES[view.status])
            waiting.add_metric([view.name], view.waiting)
        return state, waiting

    def _steps(self) -> Iterable[Metric]:
        labels = ["pipeline", "step"]
        restarts = GaugeMetricFamily(
            "ensue_step_restarts", "Restarts since an operator last restarted it", labels=labels
        )
        up = GaugeMetricFamily("ensue_workers_up", "Workers that are ready", labels=labels)
        standing = GaugeMetricFamily("ensue_pipeline_up", "0 where a pipeline was given up", labels=["pipeline"])
        for pipeline in _children(self.tree, "pipeline"):
            standing.add_metric([str(pipeline["name"])], float(pipeline["status"] != "failed"))
            for step in _children(pipeline, "step"):
                names = [str(pipeline["name"]), step_name(step)]
                restarts.add_metric(names, step.get("restarts", 0))
                workers = _children(step, "worker")
                up.add_metric(names, sum(worker["status"] == "up" for worker in workers))
        return standing, restarts, up

    def _log(self) -> Iterable[Metric]:
        readable = GaugeMetricFamily("ensue_log_readable", "1 where the log could be read for this scrape")
        reader = self.reading.reader_or_none()
        try:
            found = [] if reader is None else list(_logged(reader))
        except EnsueError:
            found = []
        readable.add_metric([], float(bool(found)))
        return [readable, *found]


def step_name(node: Mapping[str, Any]) -> str:
    """The name of a step in the tree, without its pipeline's."""
    return str(node["name"]).rpartition("/")[2]


def _children(node: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [child for child in node.get("children", ()) if child["kind"] == kind]


def _logged(reader: Reader) -> Iterable[Metric]:
    labels = ["pipeline", "step"]
    depth = GaugeMetricFamily("ensue_dead_letters", "Dead letters that are open", labels=labels)
    age = GaugeMetricFamily("ensue_dead_letters_oldest_age_seconds", "Age of the oldest open one", labels=labels)
    now_us = time.time_ns() // 1000
    for names, (number, oldest_us) in reader.dead_depth().items():
        depth.add_metric(list(names), number)
        age.add_metric(list(names), max(0, now_us - oldest_us) / _SECOND_US)
    runs = GaugeMetricFamily("ensue_runs", "Runs by status", labels=["pipeline", "status"])
    for (pipeline, status), number in reader.counts().items():
        runs.add_metric([pipeline, Status(status).wire], number)
    return depth, age, runs
