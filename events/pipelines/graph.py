"""The graph of a pipeline as data: steps, event types, webhooks, and the edges between them.

Rules: a graph is frozen, holds only what can be written as JSON, and reads back equal to what was written. It names
things by id (`step:charge`, `event:orders.charged`, `webhook:github`), so equal names of two kinds never clash.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import PipelineInvalid
from ..model.event import describe_problems

__all__ = ["FORMAT", "Claims", "Edge", "EventNode", "Graph", "Node", "StepNode", "WebhookNode"]

FORMAT = 1
"""The version of the JSON; a reader refuses a newer one."""


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

    code: the module-qualified name of its function or class.
    attempts: the most attempts of a delivery; None if a tenacity strategy decides.
    timeout_seconds: the limit of one attempt.
    join: it has more than one event parameter.
    gathers: one of its parameters takes a list.
    handler: it receives failures.
    compensates: the name of the step that it compensates.
    pivot: after it has succeeded, its run is not compensated any more.
    breaker: the name of its circuit breaker.
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

    trigger: a run is meant to begin with it.
    result: a step emits it, and no step receives it.
    failure: the engine emits it when a step gives up.
    data_schema: the JSON schema of its fields, if it was asked for.
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
    """A webhook endpoint: its path, and the scheme that verifies its deliveries."""

    kind: Literal["webhook"] = "webhook"
    id: str
    name: str
    path: str
    method: str = "POST"
    scheme: str
    content_types: tuple[str, ...] = ()


Node = StepNode | EventNode | WebhookNode


class Edge(_Data):
    """One edge.

    kind: "hears", an event goes to a step; "emits", a step or webhook emits an event; "fails", a step's failure goes
        to its handler; "undone", a step leads to its compensation.
    parameter: the parameter that receives the event.
    gathers: that parameter takes all of them as a list.
    many: they are emitted as a list or stream.
    optional: the step may emit nothing.
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
        """The graph that `to_json` wrote.

        Raises: `PipelineInvalid` if the text is not a graph, or is of a newer format.
        """
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
                raise PipelineInvalid(
                    f"not a graph of ensue: an edge names {end[:80]!r}, which is not one of its nodes"
                )
