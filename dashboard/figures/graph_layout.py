"""Where the nodes of a directed graph stand so that a person can read it: callers left, callees right, few crossings.

Layered drawing: cycles are cut, nodes take the layer after their furthest caller, long edges are given way-points,
layers are ordered by the median of their neighbours, and heights relaxed towards straight edges. Names break every
tie, so the same graph is drawn the same way each time.

Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for visual understanding of hierarchical system structures" (1981);
E. Gansner et al., "A technique for drawing directed graphs" (1993), for median ordering.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_ORDERING_SWEEPS: Final = 12
_RELAXING_SWEEPS: Final = 24

#: A node, or a way-point of a long edge: (caller, callee, layer).
_Vertex = str | tuple[str, str, int]
Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """Positions in units of one layer (x) and one node's height (y); the origin is the top left.

    ``routes`` holds, for every edge between different nodes, its points from caller to callee. ``width`` and
    ``height`` bound everything.
    """

    nodes: dict[str, tuple[float, float]]
    routes: dict[Edge, tuple[tuple[float, float], ...]]
    width: float
    height: float


def layered_layout(nodes: Collection[str], edges: Collection[Edge]) -> Layout:
    """Place ``nodes``; edges to nodes that are not among them are ignored, so are loops. O(sweeps * edges * log)."""
    known = set(nodes)
    links = sorted({(tail, head) for tail, head in edges if tail != head and tail in known and head in known})
    if not known:
        return Layout({}, {}, 0.0, 0.0)
    forward = _without_cycles(sorted(known), links)
    layer_of = _layers(sorted(known), forward)
    layers, successors = _with_way_points(layer_of, forward)
    _reduce_crossings(layers, successors)
    height_of = _heights(layers, successors)
    nodes_at = {node: (float(layer), height_of[node]) for node, layer in layer_of.items()}
    routes: dict[Edge, tuple[tuple[float, float], ...]] = {}
    for tail, head in links:
        flipped = (tail, head) not in forward
        start, end = (head, tail) if flipped else (tail, head)
        between = [
            (float(layer), height_of[(start, end, layer)]) for layer in range(layer_of[start] + 1, layer_of[end])
        ]
        points = (nodes_at[start], *between, nodes_at[end])
        routes[(tail, head)] = points[::-1] if flipped else points
    return Layout(nodes_at, routes, float(len(layers)), max(height_of.values()) + 1)


def _without_cycles(nodes: Sequence[str], links: Sequence[Edge]) -> set[Edge]:
    """The edges with as many turned round as it takes to have no cycle.

    Nodes are ranked by taking sinks to the end, sources to the front, and then whoever calls most beyond what it is
    called. Source: P. Eades, X. Lin, W. F. Smyth, "A fast and effective heuristic for the feedback arc set" (1993).
    """
    outgoing: dict[str, set[str]] = {node: set() for node in nodes}
    incoming: dict[str, set[str]] = {node: set() for node in nodes}
    for tail, head in links:
        outgoing[tail].add(head)
        incoming[head].add(tail)
    front: list[str] = []
    back: list[str] = []
    left = set(nodes)

    def take(node: str, side: list[str]) -> None:
        side.append(node)
        left.discard(node)
        for head in outgoing[node]:
            incoming[head].discard(node)
        for tail in incoming[node]:
            outgoing[tail].discard(node)

    while left:
        if sinks := sorted(node for node in left if not outgoing[node]):
            for node in sinks:
                take(node, back)
        elif sources := sorted(node for node in left if not incoming[node]):
            for node in sources:
                take(node, front)
        else:
            take(min(left, key=lambda node: (len(incoming[node]) - len(outgoing[node]), node)), front)
    rank = {node: place for place, node in enumerate(front + back[::-1])}
    return {(tail, head) if rank[tail] < rank[head] else (head, tail) for tail, head in links}


def _layers(nodes: Sequence[str], forward: set[Edge]) -> dict[str, int]:
    """The layer of each node: one after its furthest caller. A node that nobody calls stands next to whom it calls."""
    callers: dict[str, list[str]] = defaultdict(list)
    callees: dict[str, list[str]] = defaultdict(list)
    for tail, head in sorted(forward):
        callers[head].append(tail)
        callees[tail].append(head)
    layer_of: dict[str, int] = {}
    waiting = {node: len(callers[node]) for node in nodes}
    ready = [node for node in nodes if not waiting[node]]
    order: list[str] = []
    while ready:
        node = ready.pop()
        order.append(node)
        layer_of[node] = max((layer_of[caller] + 1 for caller in callers[node]), default=0)
        for callee in callees[node]:
            waiting[callee] -= 1
            if not waiting[callee]:
                ready.append(callee)
    for node in reversed(order):
        if not callers[node] and callees[node]:
            layer_of[node] = min(layer_of[callee] for callee in callees[node]) - 1
    return layer_of


def _with_way_points(
    layer_of: Mapping[str, int], forward: set[Edge]
) -> tuple[list[list[_Vertex]], dict[_Vertex, list[_Vertex]]]:
    layers: list[list[_Vertex]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for node in sorted(layer_of):
        layers[layer_of[node]].append(node)
    successors: dict[_Vertex, list[_Vertex]] = defaultdict(list)
    for tail, head in sorted(forward):
        last: _Vertex = tail
        for layer in range(layer_of[tail] + 1, layer_of[head]):
            way_point = (tail, head, layer)
            layers[layer].append(way_point)
            successors[last].append(way_point)
            last = way_point
        successors[last].append(head)
    return layers, successors


def _predecessors(successors: Mapping[_Vertex, list[_Vertex]]) -> dict[_Vertex, list[_Vertex]]:
    predecessors: dict[_Vertex, list[_Vertex]] = defaultdict(list)
    for tail, heads in successors.items():
        for head in heads:
            predecessors[head].append(tail)
    return predecessors


def _reduce_crossings(layers: list[list[_Vertex]], successors: Mapping[_Vertex, list[_Vertex]]) -> None:
    """Order each layer by the median of its neighbours, forth and back; keep the best order seen."""
    predecessors = _predecessors(successors)
    best = [list(layer) for layer in layers]
    fewest = _crossings(layers, successors)
    for sweep in range(_ORDERING_SWEEPS):
        down = sweep % 2 == 0
        neighbours = predecessors if down else successors
        pairs = pairwise(layers if down else layers[::-1])
        for fixed, moved in pairs:
            place = {vertex: index for index, vertex in enumerate(fixed)}
            medians = {
                vertex: _median(sorted(place[other] for other in neighbours.get(vertex, ()))) for vertex in moved
            }
            # A vertex without neighbours here keeps its place.
            keys = {
                vertex: (own if (own := medians[vertex]) is not None else float(index))
                for index, vertex in enumerate(moved)
            }
            moved.sort(key=lambda vertex, keys=keys: (keys[vertex], str(vertex)))  # type: ignore[misc]
        crossings = _crossings(layers, successors)
        if crossings < fewest:
            fewest, best = crossings, [list(layer) for layer in layers]
    layers[:] = best


def _median(places: Sequence[int]) -> float | None:
    if not places:
        return None
    middle = len(places) // 2
    return float(places[middle]) if len(places) % 2 else (places[middle - 1] + places[middle]) / 2


def _crossings(layers: Sequence[Sequence[_Vertex]], successors: Mapping[_Vertex, list[_Vertex]]) -> int:
    """Pairs of edges that cross, counted as inversions with a tree of sums. O(edges * log)."""
    total = 0
    for upper, lower in pairwise(layers):
        place = {vertex: index for index, vertex in enumerate(lower)}
        ends = [end for vertex in upper for end in sorted(place[head] for head in successors.get(vertex, ()))]
        tree = [0] * (len(lower) + 1)
        for seen, end in enumerate(ends):
            index, not_greater = end + 1, 0
            while index:
                not_greater += tree[index]
                index &= index - 1
            total += seen - not_greater
            index = end + 1
            while index < len(tree):
                tree[index] += 1
                index += index & -index
    return total


def _heights(layers: Sequence[Sequence[_Vertex]], successors: Mapping[_Vertex, list[_Vertex]]) -> dict[_Vertex, float]:
    """The y of each vertex: pulled towards its neighbours, never nearer to the next than their sizes allow."""
    predecessors = _predecessors(successors)
    height: dict[_Vertex, float] = {}
    for layer in layers:
        y = 0.0
        for index, vertex in enumerate(layer):
            y += _distance(layer[index - 1], vertex) if index else 0.0
            height[vertex] = y
    tallest = max(height.values())
    for layer in layers:
        offset = (tallest - height[layer[-1]]) / 2 if layer else 0.0
        for vertex in layer:
            height[vertex] += offset
    for sweep in range(_RELAXING_SWEEPS):
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wished = []
            for vertex in layer:
                near = [*predecessors.get(vertex, ()), *successors.get(vertex, ())]
                wished.append(sum(height[other] for other in near) / len(near) if near else height[vertex])
            for vertex, y in zip(layer, _spread(layer, wished), strict=True):
                height[vertex] = y
    top = min(height.values())
    return {vertex: y - top for vertex, y in height.items()}


def _spread(layer: Sequence[_Vertex], wished: Sequence[float]) -> list[float]:
    """The positions nearest to ``wished`` (least squares) that keep the order and the distances.

    Pool adjacent violators: after the distances are taken off, it is an isotonic regression.
    """
    offsets = [0.0]
    for index in range(1, len(layer)):
        offsets.append(offsets[-1] + _distance(layer[index - 1], layer[index]))
    blocks: list[tuple[float, int]] = []
    for wish, offset in zip(wished, offsets, strict=True):
        mean, size = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    return [base + offset for base, offset in zip(flat, offsets, strict=True)]


def _distance(above: _Vertex, below: _Vertex) -> float:
    way_points = (not isinstance(above, str)) + (not isinstance(below, str))
    return (1.0, 0.7, 0.3)[way_points]
