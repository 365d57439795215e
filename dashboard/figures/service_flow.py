"""The service graph as drawing data: nodes, edges and their differences between two ranges, placed and worded."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10
from typing import Any, Final, Literal

from dashboard.figures.graph_layout import layered_layout
from dashboard.figures.palette import GLYPHS, Grade, Palette, grade_of_error_rate, grade_of_health, worst_grade
from dashboard.formats import MISSING, change_text, count_text, duration_text, percent_text, rate_text

Change = Literal["", "new", "gone", "slower", "faster", "failing"]

#: Above this many nodes they are drawn smaller and without their second line.
_COMPACT_ABOVE: Final = 40
#: Above this many edges only those that a person should look at carry a label.
_LABELS_UP_TO: Final = 24
#: A p95 that moved by this factor, either way, is a change; below this many calls it is noise.
_SLOWER_BY: Final = 1.3
_MIN_CALLS: Final = 20


@dataclass(frozen=True, slots=True)
class ServiceNode:
    """A service, database, queue or external peer, over a range. ``kind`` as in ``ServiceLink.callee_type``.

    Spans are those it served; None where it sends none itself.
    """

    name: str
    kind: str = "service"
    health: float | None = None
    rate: float | None = None
    error_ratio: float | None = None
    p95_ns: float | None = None
    reason: str = ""

    @property
    def grade(self) -> Grade:
        """The worse of what its health and its errors say: health looks back minutes, the range may be longer."""
        return worst_grade((grade_of_health(self.health), grade_of_error_rate(self.error_ratio)))


@dataclass(frozen=True, slots=True)
class ServiceEdge:
    """Calls of one service to another over a range; ``gap_ns`` is the mean network gap of a call."""

    caller: str
    callee: str
    callee_type: str
    calls: float
    errors: float
    p95_ns: float | None
    mean_ns: float | None
    gap_ns: float | None
    change: Change = ""
    p95_before_ns: float | None = None

    @property
    def error_ratio(self) -> float | None:
        """Share of calls that failed."""
        return self.errors / self.calls if self.calls else None

    @property
    def typical_ns(self) -> float | None:
        """The p95 where it is known, else the mean."""
        return self.mean_ns if self.p95_ns is None else self.p95_ns


def compared_edges(now: Sequence[ServiceEdge], before: Sequence[ServiceEdge]) -> list[ServiceEdge]:
    """``now``'s edges with what changed since ``before``; edges that only ``before`` had come last, as gone."""
    earlier = {(edge.caller, edge.callee): edge for edge in before}
    compared = []
    for edge in now:
        past = earlier.pop((edge.caller, edge.callee), None)
        past_ns = past.typical_ns if past else None
        compared.append(replace(edge, change=_change(edge, past), p95_before_ns=past_ns))
    gone = [replace(edge, change="gone", p95_before_ns=edge.typical_ns) for edge in earlier.values()]
    return compared + sorted(gone, key=lambda edge: (edge.caller, edge.callee))


def flow_drawing(
    nodes: Sequence[ServiceNode],
    edges: Sequence[ServiceEdge],
    seconds: float,
    palette: Palette,
    selected: str = "",
    usual: Collection[tuple[str, str]] = (),
) -> dict[str, Any]:
    """What the service graph's script draws; lengths in pixels. ``seconds`` is the length of the range.

    ``usual`` are calls that keep their room though nobody made them now, so that nodes stand where they stood.
    """
    known = {node.name: node for node in nodes}
    for edge in edges:
        known.setdefault(edge.caller, ServiceNode(edge.caller))
        known.setdefault(edge.callee, ServiceNode(edge.callee, edge.callee_type))
    everyone = known.keys() | {name for call in usual for name in call}
    layout = layered_layout(everyone, {*usual, *((edge.caller, edge.callee) for edge in edges)})
    compact = len(everyone) > _COMPACT_ABOVE
    width, height = (150, 26) if compact else (176, 46)
    column, row = (width + 70, height + 10) if compact else (width + 92, height + 24)
    drawn_edges = [edge for edge in edges if (edge.caller, edge.callee) in layout.routes]
    labelled = len(drawn_edges) <= _LABELS_UP_TO
    return {
        "width": round(layout.width * column - (column - width) + 24),
        "height": round((layout.height - 1) * row + height + 24),
        "node": {"width": width, "height": height, "compact": compact},
        "palette": {name: getattr(palette, name) for name in _CSS_COLOURS},
        "selected": selected,
        "nodes": [
            _drawn_node(node, layout.nodes[name][0] * column + 12, layout.nodes[name][1] * row + 12)
            for name, node in sorted(known.items())
        ],
        "edges": [
            _drawn_edge(
                edge,
                [(x * column + 12, y * row + 12 + height / 2) for x, y in layout.routes[(edge.caller, edge.callee)]],
                seconds,
                labelled,
            )
            for edge in drawn_edges
        ],
    }


_CSS_COLOURS: Final = ("ink", "muted", "line", "surface", "background", "accent", "good", "warn", "bad", "unknown")


def _change(now: ServiceEdge, past: ServiceEdge | None) -> Change:
    if past is None:
        return "new"
    if min(now.calls, past.calls) < _MIN_CALLS:
        return ""
    if (now.error_ratio or 0) >= 0.01 and (now.error_ratio or 0) > 2 * (past.error_ratio or 0):
        return "failing"
    if now.typical_ns and past.typical_ns:
        ratio = now.typical_ns / past.typical_ns
        return "slower" if ratio >= _SLOWER_BY else "faster" if ratio <= 1 / _SLOWER_BY else ""
    return ""


def _drawn_node(node: ServiceNode, x: float, y: float) -> dict[str, Any]:
    grade = node.grade
    facts = _facts(("", rate_text(node.rate)), ("", percent_text(node.error_ratio)), ("", duration_text(node.p95_ns)))
    rows = [
        ["Health", MISSING if node.health is None else f"{node.health:.0f} of 100"],
        ["Traffic", rate_text(node.rate)],
        ["Errors", percent_text(node.error_ratio)],
        ["p95", duration_text(node.p95_ns)],
    ]
    return {
        "id": node.name,
        "kind": node.kind,
        "x": round(x, 1),
        "y": round(y, 1),
        "grade": grade,
        "glyph": GLYPHS[grade],
        "facts": facts or {"service": "no spans of its own"}.get(node.kind, node.kind),
        "rows": rows,
        "reason": node.reason,
    }


def _drawn_edge(
    edge: ServiceEdge, points: Sequence[tuple[float, float]], seconds: float, labelled: bool
) -> dict[str, Any]:
    grade = grade_of_error_rate(edge.error_ratio)
    rate = edge.calls / seconds if seconds else 0.0
    label = duration_text(edge.typical_ns)
    if edge.change in ("new", "gone"):
        label = edge.change
    elif edge.change in ("slower", "faster"):
        label = f"{label} {change_text(edge.typical_ns, edge.p95_before_ns)}"
    if (edge.error_ratio or 0) >= 0.01 and edge.change != "gone":
        label = f"{percent_text(edge.error_ratio)} errors"
    rows = [
        ["Calls", f"{count_text(edge.calls)} ({rate_text(rate)})"],
        ["Errors", f"{count_text(edge.errors)} ({percent_text(edge.error_ratio)})"],
        ["p95" if edge.p95_ns is not None else "Mean", duration_text(edge.typical_ns)],
        ["Network gap", duration_text(edge.gap_ns)],
    ]
    if edge.p95_before_ns is not None:
        rows.append(["Before", duration_text(edge.p95_before_ns)])
    return {
        "caller": edge.caller,
        "callee": edge.callee,
        "points": [[round(x, 1), round(y, 1)] for x, y in points],
        "width": round(min(1.2 + 1.1 * log10(1 + rate * 60), 6.0), 1),
        "grade": grade,
        "change": edge.change,
        "label": label if labelled or edge.change or grade in ("warn", "bad") else "",
        "rows": rows,
    }


def _facts(*pairs: tuple[str, str]) -> str:
    return " · ".join(value for _, value in pairs if value != MISSING)


def kinds_of(edges: Sequence[ServiceEdge]) -> Mapping[str, str]:
    """What each callee is; a callee that is called in two ways is a service if one of them says so."""
    kinds: dict[str, str] = {}
    for edge in edges:
        if kinds.get(edge.callee) != "service":
            kinds[edge.callee] = edge.callee_type
    return kinds
