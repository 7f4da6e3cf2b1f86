"""Drawings are deterministic, well formed with any names, and readable."""

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.events.drawing.layout import Layout, lay_out
from ensue.events.drawing.palette import DARK, LIGHT
from ensue.events.drawing.text import dot, mermaid, svg
from ensue.events.pipelines.graph import Claims, Edge, EventNode, Graph, Node, StepNode, WebhookNode

SVG = "{http://www.w3.org/2000/svg}"


def _graph(names: list[str]) -> Graph:
    """A webhook, a step, a result and a handler, with these names."""
    hook, step, event, handler = names
    nodes: tuple[Node, ...] = (
        WebhookNode(id="w", name=hook, path=f"/hooks/{hook}", scheme="github"),
        StepNode(
            id="s", name=step, code="m.s", timeout_seconds=60, replicas=2, claims=Claims(cpus=1), description=hook
        ),
        StepNode(id="h", name=handler, code="m.h", timeout_seconds=60, handler=True, join=True),
        EventNode(id="e", name=event, trigger=True),
        EventNode(id="r", name="Result", result=True),
        EventNode(id="f", name="ensue.step_failed", failure=True),
    )
    edges = (
        Edge(kind="emits", source="w", target="e"),
        Edge(kind="hears", source="e", target="s", parameter="event"),
        Edge(kind="emits", source="s", target="r", many=True),
        Edge(kind="emits", source="s", target="e"),
        Edge(kind="hears", source="f", target="h", parameter="failure"),
        Edge(kind="hears", source="e", target="h", parameter="all", gathers=True),
        Edge(kind="fails", source="s", target="h", parameter="failure"),
    )
    return Graph(pipeline=step, version="v", nodes=nodes, edges=edges)


PLAIN = _graph(["shop", "charge", "OrderPlaced", "mend"])
NASTY = [
    '</svg><script>alert("x")</script>',
    'a"; b -> c [x="\\',
    "n1:::evil\n  n2 --> n3 %% ]])",
    "\x00\x1b\ud7ff`#35;&amp;",
]


def test_mermaid_draws_every_node_and_edge() -> None:
    assert mermaid(PLAIN).splitlines()[:14] == [
        "flowchart TD",
        '  n0[/"/hooks/shop"/]:::webhook',
        '  n1("charge"):::step',
        '  n2("mend"):::step',
        '  n3(["OrderPlaced"]):::event',
        '  n4(["Result"]):::event',
        '  n5(["ensue.step_failed"]):::failure',
        "  n0 --> n3",
        "  n3 --> n1",
        '  n1 -- "each" --> n4',
        "  n1 --> n3",
        "  n5 --> n2",
        '  n3 -- "all" --> n2',
        '  n1 -. "fails" .-> n2',
    ]


def test_dot_draws_every_node_and_edge() -> None:
    lines = dot(PLAIN).splitlines()
    assert lines[0] == 'digraph "charge" {'
    assert '  n1 [label="charge" shape=box fillcolor="#e0e7ff" color="#4f46e5"]' in lines
    assert '  n1 -> n4 [label="each"]' in lines
    assert '  n1 -> n2 [style=dashed color="#dc2626" label="fails"]' in lines
    assert lines[-1] == "}"


names = st.one_of(st.sampled_from(NASTY), st.text(max_size=40))


@settings(max_examples=25)
@given(st.lists(names, min_size=4, max_size=4))
def test_no_name_breaks_out_of_a_label(given_names: list[str]) -> None:
    graph = _graph(given_names)
    shapes = {(tag.tag, tag.get("class")) for tag in ET.fromstring(svg(PLAIN)).iter()}  # noqa: S314 - our own
    assert {(tag.tag, tag.get("class")) for tag in ET.fromstring(svg(graph)).iter()} == shapes  # noqa: S314
    node = re.compile(r'  n\d[\[({/]*"(?:[\w .,:/()+-]|#\d+;)*"[\])}/]*:::\w+')
    assert all(node.fullmatch(line) for line in mermaid(graph).split("\n")[1:7])
    assert len(mermaid(graph).split("\n")) == len(mermaid(PLAIN).split("\n"))
    label = re.compile(r'  n\d \[label="(?:[^"\\]|\\.)*" .*\]')
    assert all(label.fullmatch(line) for line in dot(graph).split("\n")[2:8])


def test_the_svg_shows_every_name_and_describes_every_edge() -> None:
    root = ET.fromstring(svg(PLAIN))  # noqa: S314
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", "ensue-title ensue-desc")
    assert root.findtext(f"{SVG}title") == "Pipeline charge"
    account = root.findtext(f"{SVG}desc") or ""
    assert "2 steps. shop emits OrderPlaced; OrderPlaced goes to charge;" in account
    assert "charge on failure goes to mend" in account
    shown = {text.text for text in root.iter(f"{SVG}text")}
    assert {"/hooks/shop", "charge", "OrderPlaced", "Result", "mend", "each", "all", "fails"} <= shown
    assert "×2 · 1 CPU" in shown  # noqa: RUF001 - as it is drawn
    assert "error handler · join" in shown


def test_the_svg_loads_nothing_and_has_a_dark_theme() -> None:
    text = svg(PLAIN)
    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "<script" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_a_long_name_is_shortened_and_whole_in_its_tooltip() -> None:
    root = ET.fromstring(svg(_graph(["shop", "x" * 90, "E", "h"])))  # noqa: S314
    assert f"{'x' * 35}…" in {text.text for text in root.iter(f"{SVG}text")}
    assert any(f"step {'x' * 90}: shop" in (title.text or "") for title in root.iter(f"{SVG}title"))


@pytest.mark.parametrize("draw", [svg, mermaid, dot])
def test_an_empty_pipeline_can_be_drawn(draw: object) -> None:
    assert callable(draw)
    assert draw(Graph(pipeline="empty", version="v")) == draw(Graph(pipeline="empty", version="v"))


sizes = st.tuples(st.floats(10, 200), st.floats(10, 60))


@st.composite
def drawings(draw: st.DrawFn) -> tuple[list[tuple[float, float]], list[tuple[int, int]]]:
    nodes = draw(st.lists(sizes, min_size=1, max_size=12))
    ends = st.integers(0, len(nodes) - 1)
    return nodes, draw(st.lists(st.tuples(ends, ends), max_size=20))


@settings(max_examples=40)
@given(drawings())
def test_nodes_never_overlap_and_all_is_within_the_frame(
    drawing: tuple[list[tuple[float, float]], list[tuple[int, int]]],
) -> None:
    nodes, edges = drawing
    layout = lay_out(nodes, edges)
    assert layout == lay_out(nodes, edges)
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for (x, y), (w, h) in zip(layout.nodes, nodes, strict=True)]
    for index, one in enumerate(boxes):
        assert one[0] >= -0.01
        assert one[1] >= -0.01
        assert one[2] <= layout.width + 0.01
        assert one[3] <= layout.height + 0.01
        for other in boxes[index + 1 :]:
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


@settings(max_examples=40)
@given(drawings())
def test_every_arrow_goes_from_its_source_to_its_target(
    drawing: tuple[list[tuple[float, float]], list[tuple[int, int]]],
) -> None:
    nodes, edges = drawing
    layout = lay_out(nodes, edges)
    for (source, target), path in zip(edges, layout.paths, strict=True):
        assert _touches(layout, nodes, source, path.points[0])
        assert _touches(layout, nodes, target, path.points[-1])


def _touches(layout: Layout, nodes: list[tuple[float, float]], node: int, point: tuple[float, float]) -> bool:
    (x, y), (width, height) = layout.nodes[node], nodes[node]
    return abs(point[0] - x) <= width / 2 + 0.01 and abs(point[1] - y) <= height / 2 + 0.01


def test_without_cycles_every_edge_leads_down() -> None:
    layout = lay_out([(50, 20)] * 5, [(0, 1), (1, 2), (0, 2), (3, 2), (2, 4)])
    assert not any(path.turned for path in layout.paths)
    assert all(path.points[0][1] < path.points[-1][1] for path in layout.paths)


def test_a_cycle_has_one_edge_up_and_begins_where_it_is_told() -> None:
    edges = [(0, 1), (1, 2), (2, 0)]
    assert [path.turned for path in lay_out([(50, 20)] * 3, edges).paths] == [False, False, True]
    assert [path.turned for path in lay_out([(50, 20)] * 3, edges, first=[1]).paths] == [True, False, False]


def test_a_chain_is_straight_and_a_crossing_is_removed() -> None:
    chain = lay_out([(50, 20)] * 3, [(0, 1), (1, 2)])
    assert len({round(x, 3) for x, _ in chain.nodes}) == 1
    crossed = lay_out([(50, 20)] * 5, [(0, 1), (0, 2), (1, 4), (2, 3)])
    (left, right) = sorted((1, 2), key=lambda node: crossed.nodes[node])
    below = {1: 4, 2: 3}
    assert crossed.nodes[below[left]] < crossed.nodes[below[right]]


def test_the_way_back_does_not_lie_on_the_way_there() -> None:
    there, back = lay_out([(80, 20), (80, 20)], [(0, 1), (1, 0)]).paths
    assert abs(there.points[0][0] - back.points[-1][0]) > 10
    assert abs(there.points[-1][0] - back.points[0][0]) > 10


def _luminance(colour: str) -> float:
    """The relative luminance of a colour, as WCAG 2.1 defines it."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_line_and_text_can_be_told_from_its_background(colours: Mapping[str, str]) -> None:
    lines = {name: _contrast(colour, colours["paper"]) for name, colour in colours.items() if name.endswith("line")}
    assert {name: ratio for name, ratio in lines.items() if ratio < 3} == {}
    backgrounds = ("paper", "step", "event", "hook", "bad")
    texts = {(text, on): _contrast(colours[text], colours[on]) for text in ("ink", "faint") for on in backgrounds}
    assert {pair: ratio for pair, ratio in texts.items() if ratio < 4.5} == {}


def test_the_contrast_of_black_on_white_is_that_of_the_standard() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#94a3b8", "#ffffff") == pytest.approx(2.56, abs=0.01)


def test_the_svg_uses_the_colours_of_both_themes() -> None:
    text = svg(PLAIN)
    light, dark = text.split("prefers-color-scheme: dark")
    assert all(f"--{name}: {colour}" in light for name, colour in LIGHT.items())
    assert all(f"--{name}: {colour}" in dark for name, colour in DARK.items())
    assert set(LIGHT) == set(DARK)
