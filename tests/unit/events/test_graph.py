"""A graph shows the signatures, reads back equal, and has a version that changes with the structure alone."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from ensue.events.errors import PipelineInvalid
from ensue.events.model.event import Event
from ensue.events.model.failure import StepFailed
from ensue.events.model.webhook import Webhook
from ensue.events.pipelines.graph import Claims, Edge, EventNode, Graph, StepNode, WebhookNode
from ensue.events.pipelines.graph_builder import graph_of
from ensue.events.pipelines.pipeline import Pipeline
from ensue.events.pipelines.version import version_of
from ensue.events.policies.retry import Retry


class Trusting:
    """Verifies nothing."""

    scheme = "insecure"
    body_limit_bytes = 1_000

    def verify(self, headers: Mapping[str, list[str]], body: bytes, now_seconds: float) -> str | None:
        return None


class Placed(Event, key="id"):
    """Somebody wants something.

    At last.
    """

    id: str


class Charged(Event, type="orders.charged", version=2): ...


class Declined(Event): ...


class Packed(Event): ...


class Shipped(Event): ...


def from_shop(hook: Webhook) -> Placed | None: ...


def charge(event: Placed) -> Charged | Declined | None:
    """Take the money."""


def pack(event: Placed) -> Iterator[Packed]:
    yield Packed()


def ship(money: Charged, boxes: list[Packed]) -> Shipped:
    return Shipped()


def mend(failure: StepFailed) -> None: ...


def mourn(failure: StepFailed) -> None: ...


def _orders() -> Pipeline:
    pipeline = Pipeline("orders", description="From shop to door")
    pipeline.webhook("shop", verify=Trusting())(from_shop)
    pipeline.step(retry=3, timeout=5, replicas=2, num_gpus=0.5, resources={"tpu": 1})(charge)
    for step in (pack, ship):
        pipeline.step(step)
    pipeline.on_error(charge)(mend)
    pipeline.on_error()(mourn)
    return pipeline


def test_every_step_event_and_webhook_is_a_node() -> None:
    graph = _orders().graph()
    assert [node.id for node in graph.nodes] == [
        "webhook:shop",
        *(f"step:{name}" for name in ("charge", "pack", "ship", "mend", "mourn")),
        *(
            f"event:{name}"
            for name in ("ensue.step_failed", "Placed", "orders.charged", "Declined", "Packed", "Shipped")
        ),
    ]
    assert (graph.pipeline, graph.description, graph.version) == (
        "orders",
        "From shop to door",
        version_of(_orders().declaration),
    )


def test_a_step_shows_its_policies() -> None:
    nodes = {node.name: node for node in graph_of(_orders().declaration).steps()}
    assert nodes["charge"] == StepNode(
        id="step:charge",
        name="charge",
        code=f"{__name__}.charge",
        description="Take the money.",
        attempts=3,
        timeout_seconds=5,
        replicas=2,
        concurrency=1,
        claims=Claims(gpus=0.5, custom={"tpu": 1}),
    )
    flags = {name: (node.style, node.join, node.gathers, node.handler) for name, node in nodes.items()}
    assert flags == {
        "charge": ("sync", False, False, False),
        "pack": ("sync_stream", False, False, False),
        "ship": ("sync", True, True, False),
        "mend": ("sync", False, False, True),
        "mourn": ("sync", False, False, True),
    }


def test_attempts_are_unknown_if_a_strategy_decides() -> None:
    pipeline = Pipeline("orders")
    pipeline.step(retry=Retry(attempts=lambda state: False))(charge)
    assert next(graph_of(pipeline.declaration).steps()).attempts is None


def test_an_event_shows_whether_it_is_a_trigger_or_a_result() -> None:
    nodes = {node.name: node for node in graph_of(_orders().declaration).events()}
    assert nodes["Placed"] == EventNode(
        id="event:Placed", name="Placed", key="id", description="Somebody wants something.", trigger=True
    )
    assert nodes["orders.charged"].version == 2
    assert [name for name, node in nodes.items() if node.trigger] == ["Placed"]
    assert [name for name, node in nodes.items() if node.result] == ["Declined", "Shipped"]
    assert [name for name, node in nodes.items() if node.failure] == ["ensue.step_failed"]


def test_what_starts_a_loop_is_a_trigger() -> None:
    pipeline = Pipeline("loop")

    @pipeline.step
    def again(event: Placed) -> Placed | Shipped: ...  # type: ignore[empty-body]

    assert [node.name for node in graph_of(pipeline.declaration).events() if node.trigger] == ["Placed"]


def test_a_webhook_shows_where_it_listens() -> None:
    assert graph_of(_orders().declaration).nodes[0] == WebhookNode(
        id="webhook:shop", name="shop", path="/hooks/shop", scheme="insecure", content_types=("application/json",)
    )


def test_an_event_of_a_webhook_that_no_step_receives_is_not_a_result() -> None:
    pipeline = Pipeline("vain")
    pipeline.webhook("shop", verify=Trusting())(from_shop)
    (event,) = graph_of(pipeline.declaration).events()
    assert (event.name, event.trigger, event.result) == ("Placed", True, False)


def test_edges_show_which_step_receives_and_which_emits_and_how() -> None:
    def hears(event: str, step: str, parameter: str, *, gathers: bool = False) -> Edge:
        return Edge(kind="hears", source=f"event:{event}", target=f"step:{step}", parameter=parameter, gathers=gathers)

    def emits(step: str, event: str, *, many: bool = False, optional: bool = False) -> Edge:
        return Edge(kind="emits", source=f"step:{step}", target=f"event:{event}", many=many, optional=optional)

    assert list(graph_of(_orders().declaration).edges) == [
        Edge(kind="emits", source="webhook:shop", target="event:Placed"),
        hears("Placed", "charge", "event"),
        emits("charge", "orders.charged", optional=True),
        emits("charge", "Declined", optional=True),
        hears("Placed", "pack", "event"),
        emits("pack", "Packed", many=True),
        hears("orders.charged", "ship", "money"),
        hears("Packed", "ship", "boxes", gathers=True),
        emits("ship", "Shipped"),
        Edge(kind="fails", source="step:charge", target="step:mend", parameter="failure"),
        hears("ensue.step_failed", "mourn", "failure"),
    ]


def test_schemas_are_included_if_they_are_asked_for() -> None:
    schemas = {node.name: node.data_schema for node in graph_of(_orders().declaration, schemas=True).events()}
    assert schemas["Placed"] == Placed.model_json_schema()
    assert all(node.data_schema is None for node in graph_of(_orders().declaration).events())


def test_a_pipelines_graph_reads_back_equal() -> None:
    graph = graph_of(_orders().declaration, schemas=True)
    assert Graph.from_json(graph.to_json()) == graph
    assert Graph.from_json(json.dumps(graph.to_data())) == graph


names = st.text(max_size=8)
figures = st.floats(0, 1e6)
steps = st.builds(
    StepNode,
    id=names,
    name=names,
    code=names,
    description=names,
    style=names,
    attempts=st.none() | st.integers(),
    timeout_seconds=figures,
    replicas=st.integers(),
    claims=st.builds(
        Claims, cpus=figures, memory_bytes=st.none() | st.integers(), custom=st.dictionaries(names, figures)
    ),
)
schemas = st.none() | st.dictionaries(names, st.integers() | names | st.lists(st.booleans(), max_size=2), max_size=2)
events = st.builds(EventNode, id=names, name=names, key=st.none() | names, data_schema=schemas)
webhooks = st.builds(WebhookNode, id=names, name=names, path=names, scheme=names, content_types=st.tuples(names))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    nodes = draw(st.lists(steps | events | webhooks, min_size=1, max_size=6, unique_by=lambda node: node.id))
    ends = st.sampled_from([node.id for node in nodes])
    edges = draw(st.lists(st.builds(Edge, source=ends, target=ends, parameter=st.none() | names), max_size=6))
    return Graph(pipeline=draw(names), version=draw(names), nodes=tuple(nodes), edges=tuple(edges))


@settings(max_examples=25)
@given(graphs())
def test_any_graph_reads_back_equal(graph: Graph) -> None:
    assert Graph.from_json(graph.to_json()) == graph


def _changed(change: Callable[[dict[str, Any]], object]) -> str:
    data = graph_of(_orders().declaration).to_data()
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a graph of ensue"),
        ("[]", "not a graph of ensue"),
        ("{}", "not a graph of ensue: pipeline"),
        (_changed(lambda data: data.update(format=2)), "has format 2, and this ensue reads format 1"),
        (_changed(lambda data: data.update(surplus=1)), "surplus"),
        (_changed(lambda data: data["nodes"].pop(1)), "an edge names 'step:charge', which is not one of its nodes"),
        (_changed(lambda data: data["nodes"].append(data["nodes"][0])), "two nodes share an id"),
        (_changed(lambda data: data["nodes"][0].update(kind="robot")), "nodes.0"),
    ],
)
def test_text_that_is_not_a_graph_is_refused(text: str, message: str) -> None:
    with pytest.raises(PipelineInvalid, match=message):
        Graph.from_json(text)


def test_the_version_is_sixteen_digits_and_the_same_in_every_process() -> None:
    pipeline = Pipeline("fixed")

    def charge(event: Declined) -> Packed: ...  # type: ignore[empty-body]

    charge.__module__, charge.__qualname__ = "shop", "charge"
    pipeline.step(charge)
    assert version_of(pipeline.declaration) == "944d642df91988d9"


def test_a_field_that_ensue_gave_its_own_event_later_leaves_the_version_alone() -> None:
    flow = Pipeline("failures")

    def mend(failure: StepFailed) -> None: ...

    mend.__module__, mend.__qualname__ = "tests", "mend"
    flow.step(mend)
    assert version_of(flow.declaration) == "e25054a013874cff"  # of before `data_omitted`


def test_policies_prose_webhooks_and_order_leave_the_version_alone() -> None:
    def told(event: Placed) -> Shipped: ...  # type: ignore[empty-body]

    def version(describe: str, *, late: bool = False, **options: Any) -> str:
        class Documented(Event):
            __doc__ = describe
            title: str = Field(description=describe)

        def hear(event: Documented) -> None: ...

        told.__doc__ = describe
        pipeline = Pipeline("orders", description=describe)
        if late:
            pipeline.step(hear)
        pipeline.step(**options)(told)
        if not late:
            pipeline.webhook("shop", verify=Trusting())(from_shop)
            pipeline.step(hear)
        return version_of(pipeline.declaration)

    plain = version("short")
    assert version("a longer story", late=True, retry=9, timeout=1, replicas=3, concurrency=2, num_cpus=1) == plain


def _version(*steps: Callable[..., Any], name: str = "orders") -> str:
    pipeline = Pipeline(name)
    for step in steps:
        pipeline.step(step)
    return version_of(pipeline.declaration)


def _step(source: str, events: Mapping[str, type[Event]] | None = None) -> Callable[..., Any]:
    scope: dict[str, Any] = {"__name__": "made", **globals(), **(events or {})}
    exec(source, scope)  # noqa: S102 - signatures that differ in one place
    made: Callable[..., Any] = scope["step"]
    return made


BASE = "def step(event: Placed) -> Charged: ..."


@pytest.mark.parametrize(
    "source",
    [
        "def step(order: Placed) -> Charged: ...",
        "def step(event: Placed | Declined) -> Charged: ...",
        "def step(event: list[Placed]) -> Charged: ...",
        "def step(event: Placed, more: Declined) -> Charged: ...",
        "def step(event: Placed) -> Declined: ...",
        "def step(event: Placed) -> Charged | None: ...",
        "def step(event: Placed) -> list[Charged]: ...",
        "def step(event: Placed) -> Charged | list[Charged]: ...",
        f"{BASE}\nstep.__qualname__ = 'other'",
        f"{BASE}\nstep.__module__ = 'other'",
        f"{BASE}\nstep.__name__ = 'other'",
    ],
)
def test_a_change_of_what_a_run_depends_on_changes_the_version(source: str) -> None:
    assert _version(_step(BASE)) == _version(_step(BASE))
    assert _version(_step(source)) != _version(_step(BASE))


def test_another_name_step_or_filter_changes_the_version() -> None:
    base = _version(_step(BASE))
    assert _version(_step(BASE), name="other") != base
    assert _version(_step(BASE), pack) != base
    versions: set[str] = set()
    for filtered in ((), (charge,), (pack,), (charge, pack)):
        pipeline = Pipeline("orders")
        pipeline.step(charge)
        pipeline.step(pack)
        pipeline.on_error(*filtered)(mend)
        versions.add(version_of(pipeline.declaration))
    assert len(versions) == 4


def test_another_schema_or_version_of_an_event_changes_the_version() -> None:
    def made(version: int, **fields: Any) -> type[Event]:
        class Made(Event, version=version):
            __annotations__ = fields

        return Made

    models = [
        made(1, id=str),
        made(2, id=str),
        made(1, id=int),
        made(1, number=str),
        made(1, title=str, description=str),
    ]
    versions = [_version(_step("def step(event: Made) -> None: ...", {"Made": model})) for model in models]
    assert len(set(versions)) == len(models)
    assert versions[0] == _version(_step("def step(event: Made) -> None: ...", {"Made": made(1, id=str)}))


def test_a_field_named_like_prose_is_a_field() -> None:
    class Made(Event):
        title: str = ""

    titled = _version(_step("def step(event: Made) -> None: ...", {"Made": Made}))

    class Bare(Event, type="Made"): ...

    assert _version(_step("def step(event: Made) -> None: ...", {"Made": Bare})) != titled


def test_an_event_whose_types_have_no_schema_still_gives_a_version() -> None:
    class Opaque(Event):
        handler: Callable[[int], int]

    pipeline = Pipeline("opaque")

    @pipeline.step
    def hear(event: Opaque) -> None: ...

    assert len(version_of(pipeline.declaration)) == 16
    assert next(graph_of(pipeline.declaration, schemas=True).events()).data_schema is None
