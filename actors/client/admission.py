"""EngineAdmission: from an event in the caller's hands to an input of the partition."""

from collections.abc import Mapping
from typing import Any

from ...cluster.clock import IdSource
from ...events.decide.inputs import Emit
from ...events.errors import EnsueError, EventInvalid, EventTypeUnknown
from ...events.ids import check_id
from ...events.model.arguments import check_bytes, check_key, check_text, is_text
from ...events.model.codec import encode
from ...events.model.event import Event, key_of
from ...events.pipelines.pipeline import Pipeline

__all__ = ["EngineAdmission"]

_MAX_SENDER_ID_CHARACTERS = 256
"""The sender's own id, and what a gateway adds to one that is not signed."""


class EngineAdmission:
    """Turns events into `Emit`s, and finds the pipeline that an event is for."""

    def __init__(self, pipelines: Mapping[str, Pipeline], ids: IdSource) -> None:
        self._pipelines = pipelines
        self._ids = ids
        self._subscribers = _subscribers(pipelines)

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
        """The input for an event.

        Raises `EventTypeUnknown` if no pipeline subscribes to it, `EventInvalid` if several do and none is named, or
        if an argument cannot be stored.
        """
        model = type(event)
        if pipeline is None:
            pipeline = self.pipeline_for(model)
        else:
            self._check_served(pipeline, model)
        if key is not None:
            check_key(key)
        if source != "":
            check_text(source, "source")
        if sender_id is not None:
            check_text(sender_id, "sender_id", _MAX_SENDER_ID_CHARACTERS)
            check_id(sender_id, "sender_id", _MAX_SENDER_ID_CHARACTERS)
            check_bytes(digest, "digest")
        run_id, event_id = self._ids.pair()
        return Emit(
            pipeline,
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
        _check_is_event(model)
        served = self._pipelines.get(pipeline) if is_text(pipeline) else None
        if served is None:
            raise EnsueError(
                f"no pipeline is named {ascii(pipeline)[:80]} here; served are {', '.join(self._pipelines)}"
            )
        known = served.registry[model.__event_type__]
        if known is not model:
            raise _another_class(pipeline, known, model)

    def pipeline_for(self, model: type[Event]) -> str:
        """The one pipeline that subscribes to events of this type. Raises as `emit` does."""
        names = self._subscribers.get(model, ())
        if len(names) == 1:
            return names[0]
        if not names:
            _check_is_event(model)
            for other, (pipeline, *_) in self._subscribers.items():
                if other.__event_type__ == model.__event_type__:
                    raise _another_class(pipeline, other, model)
            known = ", ".join(sorted({other.__event_type__ for other in self._subscribers})) or "none"
            raise EventTypeUnknown(f"no pipeline subscribes to {model.__event_type__!r}; known event types: {known}")
        raise EventInvalid(
            f"several pipelines subscribe to {model.__event_type__} ({', '.join(names)}): name one with pipeline="
        )


def _check_is_event(model: type) -> None:
    if not issubclass(model, Event):
        raise EventInvalid(f"emit takes an event, not a {model.__name__}: e.g. emit(OrderPlaced(...))")


def _another_class(pipeline: str, known: type[Event], given: type[Event]) -> EventInvalid:
    """Two classes of one wire name are two types, also if one was made by importing a module twice."""
    places = f"{known.__module__}.{known.__qualname__}, not {given.__module__}.{given.__qualname__}"
    name = known.__event_type__
    return EventInvalid(f"pipeline {pipeline} knows another class by the name of {name!r}: emit {places}")


def _subscribers(pipelines: Mapping[str, Pipeline]) -> dict[type[Event], tuple[str, ...]]:
    """The names of the pipelines that take each event type."""
    table: dict[type[Event], tuple[str, ...]] = {}
    for pipeline in pipelines.values():
        types = {m for s in pipeline.steps.values() for p in s.parameters for m in p.models}
        types |= {m for e in pipeline.endpoints.values() for m in e.models}
        for model in types:
            table[model] = (*table.get(model, ()), pipeline.name)
    return table
