"""ServedPipelines: the pipelines of an engine with their versions and plans.

Rules: they are checked when the engine is made, and agree on the breakers that they share.
"""

from collections.abc import Mapping

from ...cluster.log.protocol import Log
from ...events.errors import EnsueError, PipelineInvalid
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.plan import Plan, compile_plan
from ...events.pipelines.version import earlier_versions, version_of
from ...events.policies.breaker import declared_breakers

__all__ = ["ServedPipelines"]


class ServedPipelines:
    """The pipelines by name. Raises `PipelineInvalid` if two have one name or a check finds an error."""

    def __init__(self, pipelines: tuple[Pipeline, ...]) -> None:
        self.by_name = _checked(pipelines)
        self.versions: Mapping[str, str] = {
            name: version_of(pipeline.declaration) for name, pipeline in self.by_name.items()
        }
        self.plans: Mapping[str, Plan] = {
            name: compile_plan(pipeline.declaration, self.versions[name], earlier_versions(pipeline.declaration))
            for name, pipeline in self.by_name.items()
        }

    def check_served(self, name: str) -> None:
        """Raises `EnsueError` if no pipeline has this name."""
        if name not in self.by_name:
            raise EnsueError(f"no pipeline {name!r} is served here")

    def define_in(self, log: Log, now_us: int) -> None:
        """Write the graph of each version to the log."""
        for name, pipeline in self.by_name.items():
            log.define(name, self.versions[name], pipeline.graph().to_json().encode(), now_us)


def _checked(pipelines: tuple[Pipeline, ...]) -> dict[str, Pipeline]:
    by_name: dict[str, Pipeline] = {}
    for pipeline in pipelines:
        _check_is_pipeline(pipeline)
        if pipeline.name in by_name:
            raise PipelineInvalid(f"two pipelines are named {pipeline.name!r}: rename one")
        by_name[pipeline.name] = pipeline
        errors = [finding for finding in pipeline.check() if finding.severity == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more: run `ensue check`)" if len(errors) > 1 else ""
            raise PipelineInvalid(f"pipeline {pipeline.name}: {errors[0].message}; {errors[0].hint}{more}")
    if not by_name:
        raise EnsueError("an engine needs at least one pipeline: Engine(pipeline)")
    breakers = declared_breakers(step.breaker for pipeline in pipelines for step in pipeline.steps.values())
    return {name: pipeline.with_breakers(breakers) for name, pipeline in by_name.items()}


def _check_is_pipeline(given: object) -> None:
    if isinstance(given, list | tuple | set | frozenset | dict):
        raise PipelineInvalid("an engine takes its pipelines one by one, not in one container: Engine(*pipelines)")
    if not isinstance(given, Pipeline):
        raise PipelineInvalid(f"an engine takes pipelines, not {given!r}: Engine(pipeline)")
