"""The layout of a graph: layers from top to bottom, few crossings, straight lines.

Rules: the same graph gives the same layout, which depends on sizes only. The four stages are Sugiyama's: reverse the
edges that would close a cycle, put each node below its predecessors, sort each layer by the middle of its neighbours,
and give every node the place nearest to its neighbours that leaves room for the others. An edge over several layers
runs through one dummy node in each.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Layout", "Path", "Point", "lay_out"]

Point = tuple[float, float]
Edge = tuple[int, int]
_SWEEPS = 12
_GAP_X = 28.0
_GAP_Y = 40.0
_ASIDE = 18.0
"""How far from the middle an edge upwards starts and ends, so that it does not cover one that leads down."""
_STRAIGHT = 8.0
"""How much stronger a dummy node pulls towards its neighbours than a node: long edges should be straight."""


@dataclass(frozen=True, slots=True)
class Path:
    """The points of one edge, from its source to its target."""

    points: tuple[Point, ...]
    turned: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """The middles of the nodes, the paths of the edges, and the size of the drawing."""

    nodes: tuple[Point, ...]
    paths: tuple[Path, ...]
    width: float
    height: float


@dataclass(slots=True)
class _Grid:
    """The nodes and, after them, the dummy nodes: their layers, sizes, and neighbours above and below."""

    layer: list[int]
    size: list[tuple[float, float]]
    above: list[list[int]]
    below: list[list[int]]
    places: int

    def rows(self) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in range(max(self.layer, default=-1) + 1)]
        for node, layer in enumerate(self.layer):
            rows[layer].append(node)
        return rows


def lay_out(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], first: Sequence[int] = ()) -> Layout:
    """Lay out a graph; its connected components are placed side by side.

    sizes: the width and height of each node.
    edges: the nodes that each edge connects, from and to.
    first: where cycles begin, if one of these is in them.
    """
    middles: list[Point] = [(0.0, 0.0)] * len(sizes)
    paths: list[Path] = [Path((), turned=False)] * len(edges)
    width = height = 0.0
    for component in _components(len(sizes), edges):
        own = {node: index for index, node in enumerate(component)}
        inner = [index for index, (source, _) in enumerate(edges) if source in own]
        part = _component(
            [sizes[n] for n in component], [_renamed(edges[i], own) for i in inner], [own[n] for n in first if n in own]
        )
        left = width + 2 * _GAP_X if width else 0.0
        for node, (x, y) in zip(component, part.nodes, strict=True):
            middles[node] = (x + left, y)
        for index, path in zip(inner, part.paths, strict=True):
            paths[index] = Path(tuple((x + left, y) for x, y in path.points), turned=path.turned)
        width, height = left + part.width, max(height, part.height)
    return Layout(tuple(middles), tuple(paths), width, height)


def _renamed(edge: Edge, names: Mapping[int, int]) -> Edge:
    return names[edge[0]], names[edge[1]]


def _components(count: int, edges: Sequence[Edge]) -> list[list[int]]:
    """The connected components, largest first."""
    beside: list[set[int]] = [set() for _ in range(count)]
    for source, target in edges:
        beside[source].add(target)
        beside[target].add(source)
    seen: set[int] = set()
    components: list[list[int]] = []
    for start in range(count):
        found, waiting = set[int](), [start]
        while waiting:
            node = waiting.pop()
            if node not in seen:
                seen.add(node)
                found.add(node)
                waiting.extend(beside[node])
        if found:
            components.append(sorted(found))
    return sorted(components, key=len, reverse=True)


def _component(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge], first: Sequence[int]) -> Layout:
    turned = _circles(len(sizes), edges, frozenset(first))
    downward = [(b, a) if i in turned else (a, b) for i, (a, b) in enumerate(edges)]
    grid, chains = _grid(sizes, downward)
    rows = _sorted(grid)
    xs = _across(grid, rows)
    ys, height = _down(grid, rows)
    paths = tuple(_path(grid, chain, xs, ys, turned=i in turned) for i, chain in enumerate(chains))
    width = max(
        *(x + grid.size[node][0] / 2 for node, x in enumerate(xs)),
        *(x for path in paths for x, _ in path.points),
        0.0,
    )
    return Layout(tuple((xs[n], ys[n]) for n in range(len(sizes))), paths, width, height)


def _circles(count: int, edges: Sequence[Edge], first: frozenset[int]) -> set[int]:
    """The back edges of a depth-first search from the top; an edge from a node to itself is one of them."""
    leaving: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    entered = [0] * count
    for index, (source, target) in enumerate(edges):
        leaving[source].append((index, target))
        entered[target] += source != target
    state = [0] * count
    back: set[int] = set()
    for start in sorted(range(count), key=lambda node: (entered[node] > 0, node not in first, node)):
        _walk(start, leaving, state, back)
    return back


def _walk(start: int, leaving: Sequence[Sequence[tuple[int, int]]], state: list[int], back: set[int]) -> None:
    """A depth-first search without recursion: state 1 is under way, 2 is done."""
    if state[start]:
        return
    stack = [(start, iter(leaving[start]))]
    state[start] = 1
    while stack:
        node, rest = stack[-1]
        for index, target in rest:
            if state[target] == 1:
                back.add(index)
            elif not state[target]:
                state[target] = 1
                stack.append((target, iter(leaving[target])))
                break
        else:
            state[node] = 2
            stack.pop()


def _grid(sizes: Sequence[tuple[float, float]], edges: Sequence[Edge]) -> tuple[_Grid, list[list[int]]]:
    layers = _layers(len(sizes), edges)
    grid = _Grid(list(layers), list(sizes), [[] for _ in sizes], [[] for _ in sizes], len(sizes))
    return grid, [_chain(grid, source, target) for source, target in edges]


def _chain(grid: _Grid, source: int, target: int) -> list[int]:
    """The nodes that an edge runs through, with a new dummy node in each layer between."""
    chain = [source]
    for layer in range(grid.layer[source] + 1, grid.layer[target]):
        grid.layer.append(layer)
        grid.size.append((0.0, 0.0))
        grid.above.append([])
        grid.below.append([])
        chain.append(len(grid.layer) - 1)
    if target != source:
        chain.append(target)
    for upper, lower in pairwise(chain):
        grid.below[upper].append(lower)
        grid.above[lower].append(upper)
    return chain


def _layers(count: int, edges: Sequence[Edge]) -> list[int]:
    """The layer of each node: below all its predecessors; a node without any is just above its successors."""
    below: list[list[int]] = [[] for _ in range(count)]
    waits = [0] * count
    for source, target in edges:
        if source != target:
            below[source].append(target)
            waits[target] += 1
    roots = [node for node in range(count) if not waits[node]]
    layers, ready = [0] * count, list(roots)
    while ready:
        node = ready.pop()
        for target in below[node]:
            layers[target] = max(layers[target], layers[node] + 1)
            waits[target] -= 1
            if not waits[target]:
                ready.append(target)
    for node in roots:
        if below[node]:
            layers[node] = min(layers[target] for target in below[node]) - 1
    return layers


def _sorted(grid: _Grid) -> list[list[int]]:
    """The rows in the order with the fewest crossings that a few sweeps find."""
    rows = grid.rows()
    best, fewest = [list(row) for row in rows], _crossings(grid, rows)
    for sweep in range(_SWEEPS):
        downward = sweep % 2 == 0
        for row in rows[1:] if downward else rows[-2::-1]:
            _sort_row(row, grid.above if downward else grid.below, rows)
        crossings = _crossings(grid, rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _sort_row(row: list[int], beside: Sequence[Sequence[int]], rows: Sequence[Sequence[int]]) -> None:
    place = {node: index for other in rows for index, node in enumerate(other)}
    own = {node: index for index, node in enumerate(row)}
    row.sort(key=lambda node: (_mean([place[n] for n in beside[node]], own[node]), own[node]))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(grid: _Grid, rows: Sequence[Sequence[int]]) -> int:
    return sum(_crossings_below(grid, upper, lower) for upper, lower in pairwise(rows))


def _crossings_below(grid: _Grid, upper: Sequence[int], lower: Sequence[int]) -> int:
    place = {node: index for index, node in enumerate(lower)}
    ends = [place[target] for node in upper for target in sorted(grid.below[node], key=place.__getitem__)]
    return sum(later < earlier for index, earlier in enumerate(ends) for later in ends[index + 1 :])


def _across(grid: _Grid, rows: Sequence[Sequence[int]]) -> list[float]:
    """The x of each node: first side by side, then in sweeps as near to its neighbours as there is room."""
    xs = [0.0] * len(grid.layer)
    for row in rows:
        _place(grid, row, xs, lambda _: 0.0)
    for sweep in range(4 * _SWEEPS):
        sides = ((grid.above, grid.below), (grid.above,), (grid.below,))[sweep % 3 if sweep < 2 * _SWEEPS else 0]
        for row in rows if sweep % 2 == 0 else reversed(rows):
            _place(grid, row, xs, _middle_of(sides, xs))
    left = min((x - grid.size[node][0] / 2 for node, x in enumerate(xs)), default=0.0)
    return [x - left for x in xs]


def _middle_of(sides: Sequence[Sequence[Sequence[int]]], xs: Sequence[float]) -> Callable[[int], float]:
    """The wished x of a node: the middle of its neighbours on these sides; both sides have the same weight."""

    def wish(node: int) -> float:
        return _mean([_mean([xs[n] for n in side[node]], 0.0) for side in sides if side[node]], xs[node])

    return wish


def _place(grid: _Grid, row: Sequence[int], xs: list[float], wish: Callable[[int], float]) -> None:
    """Give a row the places nearest to its wishes (least squares) that keep its order and its gaps.

    Minus the room of the nodes before it, a node may not be left of the node before it. That is isotonic regression,
    solved exactly by pooling neighbours that want to pass each other.
    """
    pools: list[tuple[float, float, int]] = []  # sum of weighted wishes, sum of weights, number of nodes
    room = 0.0
    rooms: list[float] = []
    for index, node in enumerate(row):
        if index:
            room += (grid.size[row[index - 1]][0] + grid.size[node][0]) / 2 + _GAP_X
        rooms.append(room)
        weight = 1.0 if node < grid.places else _STRAIGHT
        pools.append((weight * (wish(node) - room), weight, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] >= pools[-1][0] / pools[-1][1]:
            last, before = pools.pop(), pools.pop()
            pools.append((before[0] + last[0], before[1] + last[1], before[2] + last[2]))
    places = [total / weight for total, weight, count in pools for _ in range(count)]
    for node, place, offset in zip(row, places, rooms, strict=True):
        xs[node] = place + offset


def _down(grid: _Grid, rows: Sequence[Sequence[int]]) -> tuple[list[float], float]:
    ys = [0.0] * len(grid.layer)
    top = 0.0
    for row in rows:
        height = max((grid.size[node][1] for node in row), default=0.0)
        for node in row:
            ys[node] = top + height / 2
        top += height + _GAP_Y
    return ys, max(top - _GAP_Y, 0.0)


def _path(grid: _Grid, chain: Sequence[int], xs: Sequence[float], ys: Sequence[float], *, turned: bool) -> Path:
    """From the lower side of the first node through the dummy nodes to the upper side of the last."""
    if len(chain) == 1:
        return Path(_round(grid, chain[0], xs, ys), turned=True)
    first, last = chain[0], chain[-1]
    aside = _ASIDE if turned else 0.0
    points = [
        (xs[first] + min(aside, grid.size[first][0] / 4), ys[first] + grid.size[first][1] / 2),
        *((xs[node], ys[node]) for node in chain[1:-1]),
        (xs[last] + min(aside, grid.size[last][0] / 4), ys[last] - grid.size[last][1] / 2),
    ]
    return Path(tuple(reversed(points)) if turned else tuple(points), turned=turned)


def _round(grid: _Grid, node: int, xs: Sequence[float], ys: Sequence[float]) -> tuple[Point, ...]:
    x, y, (width, height) = xs[node], ys[node], grid.size[node]
    return ((x + width / 2, y - height / 4), (x + width / 2 + _GAP_X / 2, y), (x + width / 2, y + height / 4))
