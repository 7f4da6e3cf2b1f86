"""The graph of a pipeline as data: steps, event types, webhooks, and the edges between them.

Rules: a graph is frozen, holds nothing that cannot be written as JSON, and reads back equal to what was written. It
names things by id (`step:charge`, `event:orders.charged`, `webhook:github`), so equal names of two kinds never clash.
`Graph.version` is the version of the pipeline: it changes with what a run depends on (steps and their code, what they
hear and emit, the schemas of their events), never with a policy or a docstring, since those may change under a run.
"""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.errors import PydanticUserError

from ..errors import PipelineInvalid
from ..model.event import Event, describe_problems
from ..model.failure import StepFailed
from ..model.webhook import Endpoint
from .pipeline import Pipeline
from .reachability import entries_of, wire
from .step import Resources, Step

__all__ = [
    "FORMAT",
    "Claims",
    "Edge",
    "EventNode",
    "Graph",
    "Node",
    "StepNode",
    "WebhookNode",
    "graph_of",
    "structure_hash",
    "version_of",
]

FORMAT = 1
"""The version of the JSON; a reader refuses a newer one."""

_PROSE = frozenset({"title", "description", "examples", "deprecated"})
_NAMED = frozenset({"properties", "$defs", "patternProperties"})
_LATER = frozenset({"data_omitted"})
"""What `StepFailed` was given later, with a default: runs that hear it keep their version."""


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Claims(_Data):
    """What each worker of a step claims from Ray."""

    cpus: float = 0.0
    gpus: float = 0.0
    memory_bytes: int | None = None
    custom: dict[str, float] = {}


class StepNode(_Data):
    """A step with its policies.

    code: the module-qualified name. attempts: None where a tenacity strategy decides. join: more than one event
    parameter. gathers: a parameter takes a list. handler: it hears failures. compensates: the name of the step that it
    undoes. pivot: once it is done its run only goes forward. breaker: the name of its circuit breaker.
    """

    kind: Literal["step"] = "step"
    id: str
    name: str
    code: str
    description: str = ""
    style: str = "sync"
    attempts: int | None = None
    timeout_seconds: float
    replicas: int = 1
    concurrency: int = 1
    claims: Claims = Claims()
    join: bool = False
    gathers: bool = False
    handler: bool = False
    compensates: str | None = None
    pivot: bool = False
    breaker: str | None = None


class EventNode(_Data):
    """An event type.

    trigger: a run is meant to begin with it. result: a step emits it and nothing hears it. failure: the engine emits it when a
    step gives up. data_schema: the JSON schema of its fields, where it was asked for.
    """

    kind: Literal["event"] = "event"
    id: str
    name: str
    version: int = 1
    key: str | None = None
    description: str = ""
    trigger: bool = False
    result: bool = False
    failure: bool = False
    data_schema: dict[str, Any] | None = None


class WebhookNode(_Data):
    """An endpoint: where it listens and how it verifies."""

    kind: Literal["webhook"] = "webhook"
    id: str
    name: str
    path: str
    method: str = "POST"
    scheme: str
    content_types: tuple[str, ...] = ()


Node = StepNode | EventNode | WebhookNode


class Edge(_Data):
    """One arrow: an event is heard or emitted, a step's failure goes to a handler, a step is undone by another.

    parameter: the one that hears. gathers: it takes all of them as a list. many: emitted as a list or stream.
    optional: the emitter may emit nothing.
    """

    kind: Literal["hears", "emits", "fails", "undone"]
    source: str
    target: str
    parameter: str | None = None
    gathers: bool = False
    many: bool = False
    optional: bool = False


class Graph(_Data):
    """A pipeline's nodes and edges, in the order in which they were declared."""

    format: Literal[1] = 1
    pipeline: str
    version: str
    description: str = ""
    nodes: tuple[Annotated[Node, Field(discriminator="kind")], ...] = ()
    edges: tuple[Edge, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """The graph as plain JSON data."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """The graph as a JSON text, indented."""
        return self.model_dump_json(indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Graph":
        """The graph that `to_json` wrote; `PipelineInvalid` where the text is none."""
        try:
            graph = cls.model_validate_json(text)
        except ValidationError as error:
            raise PipelineInvalid(_unreadable(error)) from None
        _check_edges(graph)
        return graph

    def steps(self) -> Iterator[StepNode]:
        """The nodes that are steps."""
        return (node for node in self.nodes if isinstance(node, StepNode))

    def events(self) -> Iterator[EventNode]:
        """The nodes that are event types."""
        return (node for node in self.nodes if isinstance(node, EventNode))


def graph_of(pipeline: Pipeline, *, schemas: bool = False) -> Graph:
    """The graph of a pipeline; `schemas` adds the JSON schema of every event type.

    A handler with a filter has a "fails" edge from each step of it; one that hears every failure hears the event type
    `ensue.step_failed`, so that the picture does not fill with an arrow from each step.
    """
    edges = tuple(dict.fromkeys(_edges(pipeline)))
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    steps = (_step_node(step) for step in pipeline.steps.values())
    webhooks = (_webhook_node(endpoint) for endpoint in pipeline.endpoints.values())
    entries = entries_of(wire(pipeline))
    models = [model for model in pipeline.registry if _event_id(model) in ends]
    events = (_event_node(model, edges, entries, schemas=schemas) for model in models)
    return Graph(
        pipeline=pipeline.name,
        version=version_of(pipeline),
        description=pipeline.description,
        nodes=(*webhooks, *steps, *events),
        edges=edges,
    )


def version_of(pipeline: Pipeline) -> str:
    """The version that a run is pinned to: 16 hexadecimal digits, the same in every process for the same structure."""
    return structure_hash(pipeline)


def structure_hash(pipeline: Pipeline) -> str:
    """The digest of the pipeline's name, its steps (code, parameters, emissions, filters) and its events' schemas."""
    structure = {
        "pipeline": pipeline.name,
        "order": "by name",  # of the steps in a plan: another one would number the deliveries of a log in another way
        "steps": {name: _structure(step) for name, step in pipeline.steps.items()},
        "events": {
            model.__event_type__: _event_structure(model) for model in pipeline.registry if _in_steps(pipeline, model)
        },
    }
    text = json.dumps(structure, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _structure(step: Step) -> dict[str, Any]:
    emission = step.emission
    return {
        "code": code_id(step),
        "parameters": [[p.name, sorted(m.__event_type__ for m in p.models), p.is_list] for p in step.parameters],
        "emits": sorted(model.__event_type__ for model in emission.single),
        "many": sorted(model.__event_type__ for model in emission.many),
        "optional": emission.optional,
        "handles": None if step.failed_steps is None else sorted(step.failed_steps),
        **({"compensates": step.compensates} if step.compensates else {}),
        **({"pivot": True} if step.pivot else {}),
    }


def _event_structure(model: type[Event]) -> dict[str, Any]:
    schema = schema_of(model)
    fields = {name: repr(field.annotation) for name, field in model.model_fields.items()}
    if schema is not None and model is StepFailed:
        schema["properties"] = {name: field for name, field in schema["properties"].items() if name not in _LATER}
    return {"version": model.__event_version__, "schema": fields if schema is None else _without_prose(schema)}


def _in_steps(pipeline: Pipeline, model: type[Event]) -> bool:
    """Whether a step hears or emits it: an event that only a webhook knows is no part of what a run does."""
    return any(
        model in step.emission.models or any(model in parameter.models for parameter in step.parameters)
        for step in pipeline.steps.values()
    )


def code_id(step: Step) -> str:
    """The module-qualified name of a step's code."""
    return f"{step.target.__module__}.{step.target.__qualname__}"


def schema_of(model: type[Event]) -> dict[str, Any] | None:
    """The JSON schema of an event type; None where a field's type has no schema."""
    try:
        return model.model_json_schema()
    except PydanticUserError:
        return None


def _without_prose(schema: Any) -> Any:
    """A schema without its titles and descriptions; what is merely named so (a property) stays."""
    if isinstance(schema, list):
        return [_without_prose(item) for item in cast("Iterable[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    kept = ((key, value) for key, value in cast("dict[str, Any]", schema).items() if key not in _PROSE)
    return {key: _named(value) if key in _NAMED else _without_prose(value) for key, value in kept}


def _named(schemas: dict[str, Any]) -> dict[str, Any]:
    return {name: _without_prose(schema) for name, schema in schemas.items()}


def _edges(pipeline: Pipeline) -> Iterator[Edge]:
    for endpoint in pipeline.endpoints.values():
        for model in endpoint.models:
            yield Edge(kind="emits", source=f"webhook:{endpoint.name}", target=_event_id(model))
    for step in pipeline.steps.values():
        yield from _hearing(step)
        for model in step.emission.models:
            emission = step.emission
            many = model in emission.many
            yield Edge(
                kind="emits", source=_step_id(step.name), target=_event_id(model), many=many, optional=emission.optional
            )


def _hearing(step: Step) -> Iterator[Edge]:
    here = _step_id(step.name)
    if step.compensates is not None:
        yield Edge(kind="undone", source=_step_id(step.compensates), target=here)
        return
    for name, models, is_list in step.parameters:
        for model in models:
            if model is StepFailed and step.failed_steps:
                for failed in sorted(step.failed_steps):
                    yield Edge(kind="fails", source=_step_id(failed), target=here, parameter=name, gathers=is_list)
            else:
                yield Edge(kind="hears", source=_event_id(model), target=here, parameter=name, gathers=is_list)


def _step_node(step: Step) -> StepNode:
    return StepNode(
        id=_step_id(step.name),
        name=step.name,
        code=code_id(step),
        description=step.description,
        style=step.style.value,
        attempts=step.retry.attempts if isinstance(step.retry.attempts, int) else None,
        timeout_seconds=step.timeout_seconds,
        replicas=step.replicas,
        concurrency=step.concurrency,
        claims=_claims(step.resources),
        join=len(step.parameters) > 1,
        gathers=any(parameter.is_list for parameter in step.parameters),
        handler=any(StepFailed in parameter.models for parameter in step.parameters),
        compensates=step.compensates,
        pivot=step.pivot,
        breaker=step.breaker.name if step.breaker is not None else None,
    )


def _claims(resources: Resources) -> Claims:
    return Claims(
        cpus=resources.cpus,
        gpus=resources.gpus,
        memory_bytes=resources.memory_bytes,
        custom=dict(resources.custom),
    )


def _event_node(model: type[Event], edges: tuple[Edge, ...], entries: frozenset[str], *, schemas: bool) -> EventNode:
    here = _event_id(model)
    emitted = any(edge.target == here and edge.source.startswith("step:") for edge in edges)
    heard = any(edge.source == here for edge in edges)
    return EventNode(
        id=here,
        name=model.__event_type__,
        version=model.__event_version__,
        key=model.__event_key__,
        description=(model.__doc__ or "").strip().partition("\n")[0],
        trigger=model.__event_type__ in entries,
        result=emitted and not heard,
        failure=model is StepFailed,
        data_schema=schema_of(model) if schemas else None,
    )


def _webhook_node(endpoint: Endpoint) -> WebhookNode:
    return WebhookNode(
        id=f"webhook:{endpoint.name}",
        name=endpoint.name,
        path=f"/hooks/{endpoint.name}",
        method=endpoint.method,
        scheme=endpoint.verify.scheme,
        content_types=endpoint.content_types,
    )


def _step_id(name: str) -> str:
    return f"step:{name}"


def _event_id(model: type[Event]) -> str:
    return f"event:{model.__event_type__}"


def _unreadable(error: ValidationError) -> str:
    first = describe_problems(error)[0]
    if first["field"] == "format":
        return (
            f"this graph has format {first['got']}, and this ensue reads format {FORMAT}: use the ensue that wrote it"
        )
    return f"not a graph of ensue: {first['field']}: {first['expected']}; write one with `ensue graph --format json`"


def _check_edges(graph: Graph) -> None:
    ids = {node.id for node in graph.nodes}
    if len(ids) != len(graph.nodes):
        raise PipelineInvalid("not a graph of ensue: two nodes share an id")
    for edge in graph.edges:
        for end in (edge.source, edge.target):
            if end not in ids:
                raise PipelineInvalid(f"not a graph of ensue: an edge names {end[:80]!r}, which is no node of it")
