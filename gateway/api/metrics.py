"""The metrics route: Prometheus metrics, collected at each scrape.

Rules: each scrape has its own registry, so metrics of other code in the process neither show up nor collide. The log
is read in a thread. A scrape is answered in every state of the engine; if the log cannot be read, its metrics are left
out and `ensue_log_readable` is 0.
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


def metrics_router(engine: EnginePort, queries: LogQueries, admission: HttpAdmission) -> APIRouter:
    """The route /metrics."""
    router = APIRouter(tags=["health"])

    @router.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:  # pyright: ignore[reportUnusedFunction]
        scrape = Scrape(
            engine.state(),
            engine.tree(),
            breakers_of(engine),
            dict(admission.accepted),
            dict(admission.refusals.numbers),
            queries,
        )
        return Response(await run_in_threadpool(scrape.text), media_type=_CONTENT_TYPE)

    return router


@dataclass(frozen=True, slots=True, eq=False)
class Scrape(Collector):
    """One scrape. The engine's state is taken on the event loop; the log is read in the thread that runs `text`."""

    state: str
    tree: Mapping[str, Any]
    breakers: Sequence[BreakerView]
    accepted: Mapping[str, int]
    refused: Mapping[tuple[str, str], int]
    queries: LogQueries

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def describe(self) -> Iterable[Metric]:
        """No metrics ahead of the scrape, so that the log is read once."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        yield self._engine()
        yield self._accepted()
        yield self._refused()
        yield from self._breakers()
        yield from self._steps()
        yield from self._log()

    def _engine(self) -> Metric:
        metric = GaugeMetricFamily(
            "ensue_engine_state", "1 for the current state of the engine, 0 for the other states", labels=["state"]
        )
        now = self.state.partition(":")[0]
        for state in _STATES:
            metric.add_metric([state], float(state == now))
        return metric

    def _accepted(self) -> Metric:
        help_ = "Events committed since the start of this process, without duplicates"
        metric = CounterMetricFamily("ensue_events_accepted", help_, labels=["pipeline"])
        for pipeline, number in self.accepted.items():
            metric.add_metric([pipeline], number)
        return metric

    def _refused(self) -> Metric:
        help_ = "Deliveries and events refused since the start of this process"
        metric = CounterMetricFamily("ensue_deliveries_refused", help_, labels=["endpoint", "reason"])
        for names, number in self.refused.items():
            metric.add_metric(list(names), number)
        return metric

    def _breakers(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            "ensue_breaker_state", "State of the breaker: 0 closed, 1 half-open, 2 open", labels=["breaker"]
        )
        waiting = GaugeMetricFamily(
            "ensue_deliveries_waiting",
            "Deliveries that wait for a breaker or for a free worker",
            labels=["breaker"],
        )
        for view in self.breakers:
            state.add_metric([view.name], _BREAKER_STATES[view.status])
            waiting.add_metric([view.name], view.waiting)
        return state, waiting

    def _steps(self) -> Iterable[Metric]:
        labels = ["pipeline", "step"]
        restarts = GaugeMetricFamily(
            "ensue_step_restarts",
            "Worker restarts of a step since an operator last restarted its pipeline",
            labels=labels,
        )
        up = GaugeMetricFamily("ensue_workers_up", "Workers of a step that are ready", labels=labels)
        pipeline_up = GaugeMetricFamily(
            "ensue_pipeline_up", "0 if the pipeline has failed, else 1", labels=["pipeline"]
        )
        for pipeline in _children(self.tree, "pipeline"):
            pipeline_up.add_metric([str(pipeline["name"])], float(pipeline["status"] != "failed"))
            for step in _children(pipeline, "step"):
                names = [str(pipeline["name"]), step_name(step)]
                restarts.add_metric(names, step.get("restarts", 0))
                workers = _children(step, "worker")
                up.add_metric(names, sum(worker["status"] == "up" for worker in workers))
        return pipeline_up, restarts, up

    def _log(self) -> Iterable[Metric]:
        readable = GaugeMetricFamily("ensue_log_readable", "1 if the log could be read for this scrape, else 0")
        reader = self.queries.reader_or_none()
        try:
            log_metrics = [] if reader is None else list(_logged(reader))
        except EnsueError:
            log_metrics = []
        readable.add_metric([], float(bool(log_metrics)))
        return [readable, *log_metrics]


def step_name(node: Mapping[str, Any]) -> str:
    """The name of a step node, without the name of its pipeline."""
    return str(node["name"]).rpartition("/")[2]


def _children(node: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [child for child in node.get("children", ()) if child["kind"] == kind]


def _logged(reader: Reader) -> Iterable[Metric]:
    labels = ["pipeline", "step"]
    depth = GaugeMetricFamily("ensue_dead_letters", "Open dead letters", labels=labels)
    age = GaugeMetricFamily(
        "ensue_dead_letters_oldest_age_seconds", "Age of the oldest open dead letter", labels=labels
    )
    now_us = time.time_ns() // 1000
    for names, (number, oldest_us) in reader.dead_depth().items():
        depth.add_metric(list(names), number)
        age.add_metric(list(names), max(0, now_us - oldest_us) / _SECOND_US)
    runs = GaugeMetricFamily("ensue_runs", "Runs, by status", labels=["pipeline", "status"])
    for (pipeline, status), number in reader.counts().items():
        runs.add_metric([pipeline, Status(status).wire], number)
    return depth, age, runs
