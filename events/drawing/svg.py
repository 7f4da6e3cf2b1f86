"""A graph as an SVG file without scripts, fonts or anything else to load; light or dark as the reader's system is.

Rules: the same graph gives the same text. Every name goes through `_text`, so it may contain any character. Readers
who cannot see the picture get its title and a description of its edges. Steps are rounded boxes with their policies
below the name, events are pills, webhooks are boxes with a bar; the edges of failures are dashed and red.
"""

import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import pairwise

from ..pipelines.graph import Edge, EventNode, Graph, Node, StepNode, WebhookNode
from .layout import Layout, Path, Point, lay_out
from .palette import variables

__all__ = ["svg"]

_MARGIN = 20.0
_LETTER = 7.4
"""The mean width of a letter of a name. A name longer than `_LONGEST` is shortened; its tooltip has all of it."""
_SMALL_LETTER = 6.2
_LONGEST = 36
_STYLE = f"""
  {variables()}
  .ensue text {{ font: 13px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); text-anchor: middle }}
  .ensue .note, .ensue .label {{ font-size: 11px; fill: var(--faint) }}
  .ensue .label {{ paint-order: stroke; stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round }}
  .ensue .name {{ font-weight: 600 }}
  .ensue .paper {{ fill: var(--paper) }}
  .ensue .step {{ fill: var(--step); stroke: var(--step-line) }}
  .ensue .event {{ fill: var(--event); stroke: var(--event-line) }}
  .ensue .webhook {{ fill: var(--hook); stroke: var(--hook-line) }} .ensue .bar {{ fill: var(--hook-line) }}
  .ensue .failure {{ fill: var(--bad); stroke: var(--bad-line); stroke-dasharray: 5 3 }}
  .ensue .result {{ stroke-width: 2.5 }}
  .ensue .edge {{ fill: none; stroke: var(--line); stroke-width: 1.4 }} .ensue .tip {{ fill: var(--line) }}
  .ensue .fails {{ stroke: var(--bad-line); stroke-dasharray: 5 3 }} .ensue .tip-fails {{ fill: var(--bad-line) }}
"""
_ILLEGAL = re.compile("[^\\t\\n\\r\\x20-\\x7e\\xa0-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def svg(graph: Graph) -> str:
    """The graph as one SVG document."""
    place = {node.id: index for index, node in enumerate(graph.nodes)}
    edges = [(place[edge.source], place[edge.target]) for edge in graph.edges]
    first = [place[event.id] for event in graph.events() if event.trigger]
    layout = lay_out([_size(node) for node in graph.nodes], edges, first)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    title, description = _text(f"Pipeline {graph.pipeline}"), _text(_description(graph))
    size = f'viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}"'
    names = 'role="img" aria-labelledby="ensue-title ensue-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="ensue" {names} {size}>',
        f'<title id="ensue-title">{title}</title>',
        f'<desc id="ensue-desc">{description}</desc>',
        f"<style>{_STYLE}</style>",
        f"<defs>{_marker('tip')}{_marker('tip-fails')}</defs>",
        f'<rect class="paper" width="{_n(width)}" height="{_n(height)}" rx="8"/>',
        f'<g transform="translate({_n(_MARGIN)} {_n(_MARGIN)})">',
        *_drawn(graph, layout),
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _drawn(graph: Graph, layout: Layout) -> Iterable[str]:
    """Lines first, then the nodes over them, then the labels of the lines."""
    edges = list(zip(graph.edges, layout.paths, strict=True))
    yield from (_line(edge, path) for edge, path in edges)
    yield from (_node(node, middle) for node, middle in zip(graph.nodes, layout.nodes, strict=True))
    yield from (_label(edge, path) for edge, path in edges if _words(edge))


def _size(node: Node) -> tuple[float, float]:
    name, note = len(_shown(node)), len(_note(node))
    width = max(name * _LETTER, note * _SMALL_LETTER) + 30
    if isinstance(node, EventNode):
        return max(width, 70.0), 28.0
    return max(width, 96.0), 46.0 if note else 36.0


def _node(node: Node, middle: Point) -> str:
    x, y = middle
    width, height = _size(node)
    kind = "failure" if isinstance(node, EventNode) and node.failure else node.kind
    radius = height / 2 if isinstance(node, EventNode) else 8 if isinstance(node, StepNode) else 3
    classes = f"{kind} result" if isinstance(node, EventNode) and node.result else kind
    left, top = x - width / 2, y - height / 2
    box = f'x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"'
    parts = [f"<g><title>{_text(_tooltip(node))}</title>", f'<rect class="{classes}" {box} rx="{_n(radius)}"/>']
    if isinstance(node, WebhookNode):
        parts.append(f'<rect class="bar" x="{_n(left)}" y="{_n(top)}" width="5" height="{_n(height)}" rx="2"/>')
    note = _note(node)
    name_y = y + 4.5 - (8 if note else 0)
    weight = "" if isinstance(node, EventNode) else ' class="name"'
    parts.append(f'<text{weight} x="{_n(x)}" y="{_n(name_y)}">{_text(_shown(node))}</text>')
    if note:
        parts.append(f'<text class="note" x="{_n(x)}" y="{_n(y + 13)}">{_text(note)}</text>')
    return "".join((*parts, "</g>"))


def _line(edge: Edge, path: Path) -> str:
    tip, kind = ("tip-fails", "edge fails") if edge.kind in ("fails", "undone") else ("tip", "edge")
    return f'<path class="{kind}" marker-end="url(#{tip})" d="{_curve(path.points)}"/>'


def _curve(points: Sequence[Point]) -> str:
    """A smooth line: vertical at its ends, and parallel to the line between its neighbours at each point between."""
    slopes = [0.0, *((c[0] - a[0]) / ((c[1] - a[1]) or 1.0) for a, c in zip(points, points[2:], strict=False)), 0.0]
    parts = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for index, ((x, y), (next_x, next_y)) in enumerate(pairwise(points)):
        half = (next_y - y) / 2
        start = f"{_n(x + half * slopes[index])} {_n(y + half)}"
        end = f"{_n(next_x - half * slopes[index + 1])} {_n(next_y - half)}"
        parts.append(f"C{start} {end} {_n(next_x)} {_n(next_y)}")
    return "".join(parts)


def _label(edge: Edge, path: Path) -> str:
    """The label of an edge, near the end that it is about: that of the parameter, or that of the emitter."""
    first, second = path.points[-2:] if edge.kind == "hears" else path.points[:2]
    x, y = (first[0] + second[0]) / 2, (first[1] + second[1]) / 2
    return f'<text class="label" x="{_n(x)}" y="{_n(y + 4)}">{_text(_words(edge))}</text>'


def _words(edge: Edge) -> str:
    if edge.kind in ("fails", "undone"):
        return edge.kind
    return "all" if edge.gathers else "each" if edge.many else ""


def _marker(name: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path class="{name}" d="M0 0.5L8 4L0 7.5z"/></marker>'
    )


def _shown(node: Node) -> str:
    name = node.path if isinstance(node, WebhookNode) else node.name
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _note(node: Node) -> str:
    """The second line of a box: what differs from the defaults."""
    if isinstance(node, EventNode):
        return ""
    if isinstance(node, WebhookNode):
        return f"{node.method} \N{MIDDLE DOT} {node.scheme}"[:_LONGEST]
    claims = node.claims
    facts = (
        (node.handler, "error handler"),
        (node.join, "join"),
        (node.replicas > 1, f"\N{MULTIPLICATION SIGN}{node.replicas}"),
        (claims.cpus > 0, f"{claims.cpus:g} CPU"),
        (claims.gpus > 0, f"{claims.gpus:g} GPU"),
    )
    return " \N{MIDDLE DOT} ".join(text for holds, text in facts if holds)


def _tooltip(node: Node) -> str:
    if isinstance(node, WebhookNode):
        return f"webhook {node.name}: {node.method} {node.path}, verified by {node.scheme}"
    about = f": {node.description}" if node.description else ""
    if isinstance(node, EventNode):
        return f"event {node.name}, version {node.version}{about}"
    attempts = "as its strategy says" if node.attempts is None else f"{node.attempts}"
    return f"step {node.name}{about} (attempts: {attempts}, timeout: {node.timeout_seconds:g} s)"


def _description(graph: Graph) -> str:
    """The graph in words, for screen readers."""
    names = {node.id: node.name for node in graph.nodes}
    verbs = {"hears": "goes to", "emits": "emits", "fails": "on failure goes to", "undone": "is compensated by"}
    told = "; ".join(f"{names[edge.source]} {verbs[edge.kind]} {names[edge.target]}" for edge in graph.edges)
    steps = sum(1 for _ in graph.steps())
    return f"{steps} step{'' if steps == 1 else 's'}. {told}."


def _text(text: str) -> str:
    return escape(_ILLEGAL.sub(" ", text).replace("\n", " "))


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
