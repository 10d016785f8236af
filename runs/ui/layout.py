"""Where the deployments stand in a drawing of the graph: in layers, what is read to the left of its readers.

Owns positions alone: knows no database, no pixels and no names. igraph finds an order of each layer with few crossings;
the coordinates are drawn together here, because a layout that keeps room for every long edge is mostly empty.
The same graph has the same layout every time; the last few are remembered by their shape.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import ceil, sqrt
from typing import NamedTuple

import igraph

BETWEEN_LAYERS = 0.3
"""Columns that are left free between two layers, for the edges."""
BETWEEN_PARTS = 0.6
"""Rows that are left free between parts of the graph that do not hang together."""

_COLUMN = 3.85
"""How many times as wide as a row is high a column is, as it is drawn."""
_ASPECT = 1.7
"""Width to height of the screens that it is drawn for."""
_UNFOLDED = 24
"""A layer of so many is one column, whatever the shape of the drawing."""
_SWEEPS = 6
_MOST_PASSED = 20_000
"""How many layers the edges may pass together while crossings are counted: each is a node more for igraph."""

Edge = tuple[int, int]
"""(what is read, who reads it), by number."""


class Position(NamedTuple):
    """The middle of a node."""

    x: float
    """In columns; a node is less than one wide."""
    y: float
    """In rows; a node is less than one high."""


class _Ties(NamedTuple):
    """The neighbours of each node."""

    read: Sequence[Sequence[int]]
    readers: Sequence[Sequence[int]]


class _Part(NamedTuple):
    """A part of the graph that hangs together, laid out by itself; its corner is at 0, 0."""

    positions: Mapping[int, Position]
    width: float
    height: float


def layout(num_nodes: int, edges: Iterable[Edge]) -> tuple[Position, ...]:
    """Return where each node stands: `x` rises along every edge, and no two nodes lie on one another.

    Of edges in a circle, some do not rise.
    """
    return _layout(num_nodes, tuple(sorted({edge for edge in edges if edge[0] != edge[1]})))


@lru_cache(maxsize=8)
def _layout(num_nodes: int, edges: tuple[Edge, ...]) -> tuple[Position, ...]:
    graph = igraph.Graph(num_nodes, edges, directed=True)
    if not graph.is_dag():
        graph.delete_edges(graph.feedback_arc_set())
    ties = _Ties(graph.get_adjlist(mode="in"), graph.get_adjlist(mode="out"))
    layers = [0] * num_nodes
    for node in graph.topological_sorting(mode="out"):
        for reader in ties.readers[node]:
            layers[reader] = max(layers[reader], layers[node] + 1)
    parts = [_part(ties, sorted(members), layers) for members in graph.connected_components(mode="weak")]
    return _packed(num_nodes, parts)


def _part(ties: _Ties, members: Sequence[int], layers: Sequence[int]) -> _Part:
    if len(members) == 1:
        return _Part({members[0]: Position(0.0, 0.0)}, 1.0, 1.0)
    ordered = _ordered(ties, members, layers)
    columns = _columns([len(layer) for layer in ordered])
    heights = _heights(ties, ordered, columns)
    top = min(heights.values())
    positions, left = {}, 0.0
    for layer, num_columns in zip(ordered, columns, strict=True):
        for place, node in enumerate(layer):
            positions[node] = Position(round(left + place % num_columns, 2), round(heights[node] - top, 2))
        left += num_columns + BETWEEN_LAYERS
    return _Part(positions, left - BETWEEN_LAYERS, max(heights.values()) - top + 1)


def _ordered(ties: _Ties, members: Sequence[int], layers: Sequence[int]) -> list[list[int]]:
    """Return the nodes of each layer in an order that has few crossings."""
    number = {node: at for at, node in enumerate(members)}
    of_members = [layers[node] for node in members]
    edges = sorted(
        ((number[node], number[reader]) for node in members for reader in ties.readers[node]),
        key=lambda edge: (of_members[edge[1]] - of_members[edge[0]], edge),
    )
    kept, passed = [], 0
    for edge in edges:
        passed += of_members[edge[1]] - of_members[edge[0]] - 1
        if passed > _MOST_PASSED:
            break  # the longest ones: they cross much whatever the order is
        kept.append(edge)
    found = igraph.Graph(len(members), kept, directed=True).layout_sugiyama(layers=of_members)
    ordered: list[list[int]] = [[] for _ in range(max(of_members) + 1)]
    for at in sorted(range(len(members)), key=lambda at: (found[at][0], at)):
        ordered[of_members[at]].append(members[at])
    return ordered


def _columns(sizes: Sequence[int]) -> list[int]:
    """Return how many columns each layer takes: more than one where a single one would make the drawing a thread."""

    def extent(rows: int) -> float:
        width = sum(ceil(size / rows) for size in sizes) + BETWEEN_LAYERS * (len(sizes) - 1)
        return max(width * _COLUMN / _ASPECT, min(rows, max(sizes)))

    most = max(*sizes, _UNFOLDED)
    rows = min(range(_UNFOLDED, most + 1), key=lambda rows: (extent(rows), -rows))
    return [ceil(size / rows) for size in sizes]


def _heights(ties: _Ties, ordered: Sequence[Sequence[int]], columns: Sequence[int]) -> dict[int, float]:
    """Return how far down each node stands: near those that it reads and its readers, in the order of its layer."""
    heights = {}
    for layer, num_columns in zip(ordered, columns, strict=True):
        for place, node in enumerate(layer):
            heights[node] = (place - (len(layer) - 1) / 2) / num_columns
    layers = list(zip(ordered, columns, strict=True))
    for sweep in range(_SWEEPS):
        is_last, is_downward = sweep == _SWEEPS - 1, sweep % 2 == 0
        for layer, num_columns in layers if is_downward else reversed(layers):
            wanted = []
            for node in layer:
                near = list(ties.read[node]) if is_downward or is_last else []
                near += ties.readers[node] if not is_downward or is_last else []
                wanted.append(sum(heights[other] for other in near) / len(near) if near else heights[node])
            heights.update(zip(layer, _apart(wanted, 1 / num_columns), strict=True))
    return heights


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Return values in order, at least `gap` apart, as near to the wanted ones as that allows (least squares).

    Source: the pool-adjacent-violators algorithm for isotonic regression.
    """
    pools: list[tuple[float, int]] = []
    for place, value in enumerate(wanted):
        mean, count = value - place * gap, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, count = (mean * count + other * others) / (count + others), count + others
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + place * gap for place, mean in enumerate(means)]


def _packed(num_nodes: int, parts: Iterable[_Part]) -> tuple[Position, ...]:
    """Set the parts side by side in rows, the highest first, so that all of it has about the shape of a screen."""
    ordered = sorted(parts, key=lambda part: (-part.height, -part.width, min(part.positions)))
    area = sum((part.width + BETWEEN_LAYERS) * (part.height + BETWEEN_PARTS) for part in ordered)
    wanted = max([sqrt(area * _ASPECT / _COLUMN), *(part.width for part in ordered)], default=0.0)
    placed: dict[int, Position] = {}
    left = top = below = 0.0
    for part in ordered:
        if left and left + part.width > wanted:
            left, top = 0.0, below
        for node, (x, y) in part.positions.items():
            placed[node] = Position(round(x + left, 2), round(y + top, 2))
        left += part.width + BETWEEN_LAYERS  # so that it stands in the columns of those above it
        below = max(below, top + part.height + BETWEEN_PARTS)
    return tuple(placed[node] for node in range(num_nodes))
