"""The event router: the pipeline of an event from outside, by its type.

Rules: an event may start a run if a step takes its type, or if a webhook may emit it. If that is so in several
pipelines, the sender must name one. `StepFailed` comes from the engine only.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from ...events.errors import EventInvalid, EventTypeUnknown
from ...events.model.event import Event
from ...events.model.failure import StepFailed
from ...events.pipelines.pipeline import Pipeline
from ..http.problems import refuse

__all__ = ["EventRouter", "subscribed_types"]


def subscribed_types(pipeline: Pipeline) -> frozenset[str]:
    """The wire names of all event types that the steps of a pipeline take."""
    models = [model for step in pipeline.steps.values() for part in step.parameters for model in part.models]
    return frozenset(model.__event_type__ for model in models)


def _emitted_by_webhooks(pipeline: Pipeline) -> frozenset[str]:
    models = [model for endpoint in pipeline.endpoints.values() for model in endpoint.models]
    return frozenset(model.__event_type__ for model in models)


class EventRouter:
    """The routing table from event types to the served pipelines."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = pipelines
        self._names_by_type: dict[str, list[str]] = {}
        for name, pipeline in pipelines.items():
            triggers = subscribed_types(pipeline) | _emitted_by_webhooks(pipeline)
            for type_name in triggers - {StepFailed.__event_type__}:
                self._names_by_type.setdefault(type_name, []).append(name)

    def find(self, type_name: str, wanted: str | None) -> tuple[str, type[Event]]:
        """The pipeline and the model for an event of this type; `wanted` is the pipeline that the sender named.

        Raises `EventInvalid` if that pipeline is not served, `EventTypeUnknown` if no pipeline takes the type, and
        refuses with `pipeline-ambiguous` if several do.
        """
        name = self._choose(type_name, wanted)
        return name, self._pipelines[name].registry[type_name]

    def _choose(self, type_name: str, wanted: str | None) -> str:
        names = self._names_by_type.get(type_name)
        if wanted is not None and wanted not in self._pipelines:
            raise _invalid("pipeline", _one_of(self._pipelines), wanted, f"pipeline {wanted!r} is not served")
        if names is None or (wanted is not None and wanted not in names):
            raise self._unknown(type_name, wanted)
        if wanted is not None:
            return wanted
        if len(names) > 1:
            fault = {"field": "pipeline", "expected": _one_of(names), "got": "nothing"}
            raise refuse(
                "pipeline-ambiguous",
                f"Several pipelines take {type_name}: name one of {', '.join(names)} in `pipeline`.",
                fault,
            )
        return names[0]

    def _unknown(self, type_name: str, wanted: str | None) -> EventTypeUnknown:
        known = sorted(name for name, heard in self._names_by_type.items() if wanted is None or wanted in heard)
        close = get_close_matches(type_name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known event types: {', '.join(known) or 'none'}"
        fault = {"field": "type", "expected": _one_of(known), "got": type_name}
        where = "" if wanted is None else f" of pipeline {wanted}"
        return EventTypeUnknown(f"no step{where} takes {type_name!r}; {hint}", [fault])


def _one_of(names: Iterable[str]) -> str:
    return "one of " + (", ".join(sorted(names)) or "(none)")


def _invalid(field: str, expected: str, got: str, message: str) -> EventInvalid:
    return EventInvalid(f"{message}: expected {expected}.", [{"field": field, "expected": expected, "got": got}])
