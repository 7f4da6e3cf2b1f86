"""The schemas of pipelines: the declaration, the steps, the webhooks and the findings of the check."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from ...events.model.webhook import Endpoint
from ...events.pipelines.check import Finding
from ...events.pipelines.pipeline import Pipeline
from ...events.pipelines.step import Step
from .runs import Out, StatusName

__all__ = ["EndpointOut", "FindingOut", "PipelineOut", "PipelinesOut", "RestartedOut", "StepDefinitionOut"]


class FindingOut(Out):
    """A finding of the check. `hint` says what to do."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    hint: str
    step: str | None
    event: str | None

    @classmethod
    def of(cls, finding: Finding) -> "FindingOut":
        """The document of a finding."""
        return cls(**asdict(finding))


class EndpointOut(Out):
    """A webhook endpoint."""

    name: str
    path: str
    scheme: str
    insecure: bool
    content_types: list[str]
    emits: list[str]

    @classmethod
    def of(cls, endpoint: Endpoint) -> "EndpointOut":
        """The document of an endpoint."""
        return cls(
            name=endpoint.name,
            path=f"/hooks/{endpoint.name}",
            scheme=endpoint.verify.scheme,
            insecure=endpoint.verify.scheme == "insecure",
            content_types=list(endpoint.content_types),
            emits=[model.__event_type__ for model in endpoint.models],
        )


class StepDefinitionOut(Out):
    """A step, as it is declared."""

    name: str
    description: str
    hears: list[str]
    emits: list[str]
    replicas: int
    concurrency: int
    timeout_seconds: float

    @classmethod
    def of(cls, step: Step) -> "StepDefinitionOut":
        """The document of a step."""
        heard = [model.__event_type__ for parameter in step.parameters for model in parameter.models]
        return cls(
            name=step.name,
            description=step.description,
            hears=list(dict.fromkeys(heard)),
            emits=[model.__event_type__ for model in step.emission.models],
            replicas=step.replicas,
            concurrency=step.concurrency,
            timeout_seconds=step.timeout_seconds,
        )


class PipelineOut(Out):
    """A pipeline, as it is declared, with the number of its runs by status."""

    name: str
    description: str
    version: str
    steps: list[StepDefinitionOut]
    webhooks: list[EndpointOut]
    findings: list[FindingOut]
    runs: Mapping[StatusName, int]

    @classmethod
    def of(cls, pipeline: Pipeline, version: str, counts: Mapping[StatusName, int]) -> "PipelineOut":
        """The document of a pipeline."""
        return cls(
            name=pipeline.name,
            description=pipeline.description,
            version=version,
            steps=[StepDefinitionOut.of(step) for step in pipeline.steps.values()],
            webhooks=[EndpointOut.of(endpoint) for endpoint in pipeline.endpoints.values()],
            findings=[FindingOut.of(finding) for finding in pipeline.check()],
            runs=counts,
        )


class PipelinesOut(Out):
    """The pipelines that are served."""

    pipelines: list[PipelineOut]


class RestartedOut(Out):
    """The pipeline that is being restarted. Its progress is in the supervision tree."""

    pipeline: str
