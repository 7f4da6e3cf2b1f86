"""The builder of graphs: from a declaration to its nodes and edges.

Rules: nodes and edges come in the order of the declaration, so a graph of the same code is always the same.
"""

from collections.abc import Iterator

from ..model.event import Event
from ..model.failure import StepFailed
from ..model.schema import schema_of
from ..model.webhook import Endpoint
from .declaration import Declaration
from .graph import Claims, Edge, EventNode, Graph, StepNode, WebhookNode
from .reachability import entry_events, subscriptions_of
from .step import Resources, Step
from .version import code_id, version_of

__all__ = ["graph_of"]


def graph_of(declaration: Declaration, *, schemas: bool = False) -> Graph:
    """The graph of a pipeline; `schemas` adds the JSON schema of every event type.

    An error handler of certain steps has a "fails" edge from each of them. A handler of every failure has a "hears"
    edge from the event type `ensue.step_failed` instead, so that the picture has no arrow from each step.
    """
    edges = tuple(dict.fromkeys(_edges(declaration)))
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    steps = (_step_node(step) for step in declaration.steps.values())
    webhooks = (_webhook_node(endpoint) for endpoint in declaration.endpoints.values())
    entries = entry_events(subscriptions_of(declaration))
    models = [model for model in declaration.events if _event_id(model) in ends]
    events = (_event_node(model, edges, entries, schemas=schemas) for model in models)
    return Graph(
        pipeline=declaration.name,
        version=version_of(declaration),
        description=declaration.description,
        nodes=(*webhooks, *steps, *events),
        edges=edges,
    )


def _edges(declaration: Declaration) -> Iterator[Edge]:
    for endpoint in declaration.endpoints.values():
        for model in endpoint.models:
            yield Edge(kind="emits", source=f"webhook:{endpoint.name}", target=_event_id(model))
    for step in declaration.steps.values():
        yield from _incoming(step)
        for model in step.emission.models:
            emission = step.emission
            many = model in emission.many
            yield Edge(
                kind="emits", source=_step_id(step.name), target=_event_id(model), many=many, optional=emission.optional
            )


def _incoming(step: Step) -> Iterator[Edge]:
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
