"""Drawings of a graph as text: Mermaid, DOT and SVG.

Rules: the same graph gives the same text; names may hold any characters, so each goes through its format's escape and
nodes have numbers as their ids. A step is a rounded box, an event a pill, a webhook a parallelogram or the like; the
edges of failures are dashed.
"""

import re
from collections.abc import Mapping

from ..pipelines.graph import Edge, EventNode, Graph, Node, StepNode, WebhookNode
from .svg import svg

__all__ = ["dot", "label_of", "mermaid", "svg"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def label_of(node: Node) -> str:
    """The label of a node."""
    return node.path if isinstance(node, WebhookNode) else node.name


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart, as GitHub shows it in a ```mermaid block."""
    ids = _numbers(graph)
    lines = ["flowchart TD"]
    lines += [f"  {ids[node.id]}{_mermaid_shape(node)}:::{_class_of(node)}" for node in graph.nodes]
    lines += [f"  {ids[edge.source]} {_mermaid_arrow(edge)} {ids[edge.target]}" for edge in graph.edges]
    lines += [f"  classDef {name} {style}" for name, style in _MERMAID_CLASSES.items()]
    return "\n".join(lines) + "\n"


_MERMAID_CLASSES: Mapping[str, str] = {
    "step": "fill:#e0e7ff,stroke:#4f46e5,color:#1e1b4b",
    "event": "fill:#ecfdf5,stroke:#059669,color:#064e3b",
    "webhook": "fill:#fef3c7,stroke:#d97706,color:#451a03",
    "failure": "fill:#fef2f2,stroke:#dc2626,color:#7f1d1d,stroke-dasharray:4 3",
}


def _mermaid_shape(node: Node) -> str:
    label = _mermaid_text(label_of(node))
    if isinstance(node, StepNode):
        return f'("{label}")'
    return f'(["{label}"])' if isinstance(node, EventNode) else f'[/"{label}"/]'


def _mermaid_arrow(edge: Edge) -> str:
    if edge.kind in ("fails", "undone"):
        return f'-. "{edge.kind}" .->'
    note = _note(edge)
    return f'-- "{note}" -->' if note else "-->"


def _mermaid_text(text: str) -> str:
    """Text for a quoted label: characters with a meaning in Mermaid or HTML become numbered entities."""
    return re.sub(r"[^\w .,:/()+-]", lambda match: f"#{ord(match.group())};", _one_line(text))


def dot(graph: Graph) -> str:
    """The graph in the DOT language of Graphviz."""
    ids = _numbers(graph)
    lines = [f"digraph {_dot_text(graph.pipeline)} {{", '  node [fontname="sans-serif" style="rounded,filled"]']
    lines += [
        f"  {ids[node.id]} [label={_dot_text(label_of(node))} {_DOT_CLASSES[_class_of(node)]}]" for node in graph.nodes
    ]
    lines += [f"  {ids[edge.source]} -> {ids[edge.target]}{_dot_arrow(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


_DOT_CLASSES: Mapping[str, str] = {
    "step": 'shape=box fillcolor="#e0e7ff" color="#4f46e5"',
    "event": 'shape=oval style=filled fillcolor="#ecfdf5" color="#059669"',
    "webhook": 'shape=cds style=filled fillcolor="#fef3c7" color="#d97706"',
    "failure": 'shape=oval style="filled,dashed" fillcolor="#fef2f2" color="#dc2626"',
}


def _dot_arrow(edge: Edge) -> str:
    if edge.kind in ("fails", "undone"):
        return f' [style=dashed color="#dc2626" label="{edge.kind}"]'
    note = _note(edge)
    return f' [label="{note}"]' if note else ""


def _dot_text(text: str) -> str:
    escaped = _one_line(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _note(edge: Edge) -> str:
    """The label of an edge: each of many, or all of them."""
    if edge.gathers:
        return "all"
    return "each" if edge.many else ""


def _class_of(node: Node) -> str:
    return "failure" if isinstance(node, EventNode) and node.failure else node.kind


def _numbers(graph: Graph) -> dict[str, str]:
    return {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()
