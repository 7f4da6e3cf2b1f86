"""EngineAdmission: from an event in the caller's hands to an input of the partition. What both engines share."""

from collections.abc import Mapping
from typing import Any

from ...cluster.clock import IdSource
from ...events.decide.inputs import Emit
from ...events.errors import EnsueError, EventInvalid, EventTypeUnknown, PipelineInvalid
from ...events.ids import check_id
from ...events.model.codec import encode
from ...events.model.event import Event, key_of
from ...events.pipelines.pipeline import Pipeline
from ...events.policies.breaker import declared_breakers

__all__ = ["EngineAdmission", "check_pipelines"]

_LONGEST_SENDER_ID = 256
"""The sender's own, and what a gateway adds to one that is not signed."""


class EngineAdmission:
    """Turns events into `Emit`s, and finds the pipeline that an event is for."""

    def __init__(self, pipelines: Mapping[str, Pipeline], ids: IdSource) -> None:
        self._pipelines = pipelines
        self._ids = ids
        self._hearing = _hearing(pipelines)

    def emit(
        self,
        event: Event,
        pipeline: str | None = None,
        *,
        key: str | None = None,
        source: str = "",
        sender_id: str | None = None,
        digest: bytes = b"",
        reply: Any = None,
    ) -> Emit:
        """The input for an event; `EventTypeUnknown` where no pipeline hears it, `EventInvalid` where several do."""
        model = type(event)
        if sender_id is not None:
            check_id(sender_id, "sender_id", _LONGEST_SENDER_ID)
        if pipeline is not None:
            self._check_served(pipeline, model)
        run_id, event_id = self._ids.pair()
        return Emit(
            pipeline or self.pipeline_for(model),
            run_id,
            event_id,
            model.__event_type__,
            model.__event_version__,
            encode(event),
            key if key is not None else key_of(event),
            source,
            sender_id,
            digest,
            None,
            reply,
        )

    def _check_served(self, pipeline: str, model: type[Event]) -> None:
        served = self._pipelines.get(pipeline)
        if served is None:
            raise EnsueError(f"no pipeline is named {pipeline!r} here; served are {', '.join(self._pipelines)}")
        if served.registry[model.__event_type__] is not model:
            name = model.__event_type__
            raise EventInvalid(f"pipeline {pipeline} knows another class by the name of {name!r}: emit that one")

    def pipeline_for(self, model: type[Event]) -> str:
        """The one pipeline that hears events of this type."""
        names = self._hearing.get(model.__event_type__, ())
        if len(names) == 1:
            return names[0]
        if not names:
            heard = ", ".join(sorted(self._hearing)) or "nothing"
            raise EventTypeUnknown(f"no pipeline hears {model.__event_type__!r}; what is heard here: {heard}")
        raise EventInvalid(f"{model.__event_type__} is heard by {', '.join(names)}: say which with pipeline=")


def _hearing(pipelines: Mapping[str, Pipeline]) -> dict[str, tuple[str, ...]]:
    table: dict[str, tuple[str, ...]] = {}
    for pipeline in pipelines.values():
        types = {m.__event_type__ for s in pipeline.steps.values() for p in s.parameters for m in p.models}
        types |= {m.__event_type__ for e in pipeline.endpoints.values() for m in e.models}
        for name in types:
            table[name] = (*table.get(name, ()), pipeline.name)
    return table


def check_pipelines(pipelines: tuple[Pipeline, ...]) -> dict[str, Pipeline]:
    """The pipelines by name, agreed on the breakers that they share; raises where a name stands twice or a check finds an error."""
    by_name: dict[str, Pipeline] = {}
    for pipeline in pipelines:
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
