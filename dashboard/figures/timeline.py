"""One trace as drawing data for the timeline: its tree in reading order, columns of small values."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dashboard.figures.palette import Palette, service_colours

_KINDS: Final = ("", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True, slots=True)
class TimelineSpan:
    """A span on the root's clock. Ids in hex; ``parent_id`` is its place in the tree, empty for a root."""

    span_id: str
    parent_id: str
    service: str
    name: str
    kind: int
    failed: bool
    start_ns: int
    duration_ns: int
    self_time_ns: int
    critical_ns: int
    gap_ns: int | None
    warnings: tuple[str, ...]


def in_tree_order(spans: Sequence[TimelineSpan]) -> list[tuple[TimelineSpan, int]]:
    """Each span with its depth, a parent before its children, siblings by start; every span comes exactly once.

    Where a client's and a server's span share an id, the server hangs under the client and children under the
    server. Spans of a cycle, or under a parent that is not there, become roots.
    """
    holders: dict[str, list[TimelineSpan]] = defaultdict(list)
    for span in spans:
        holders[span.span_id].append(span)
    children: dict[int, list[TimelineSpan]] = defaultdict(list)
    roots: list[TimelineSpan] = []
    for span in spans:
        twins = holders[span.span_id]
        above = None
        if len(twins) > 1 and span.kind == 2:
            above = next((twin for twin in twins if twin is not span), None)
        elif span.parent_id != span.span_id:
            candidates = holders.get(span.parent_id, [])
            above = max(candidates, key=lambda twin: twin.kind == 2, default=None)
        (roots if above is None else children[id(above)]).append(span)
    ordered: list[tuple[TimelineSpan, int]] = []
    placed: set[int] = set()

    def place(start: Iterable[TimelineSpan]) -> None:
        stack = [(span, 0) for span in sorted(start, key=_by_start, reverse=True)]
        while stack:
            span, depth = stack.pop()
            if id(span) in placed:
                continue
            placed.add(id(span))
            ordered.append((span, depth))
            stack.extend((child, depth + 1) for child in sorted(children[id(span)], key=_by_start, reverse=True))

    place(roots)
    for span in sorted(spans, key=_by_start):
        if id(span) not in placed:
            place([span])
    return ordered


def timeline_drawing(
    spans: Sequence[TimelineSpan],
    critical_path: Sequence[tuple[str, int, int]],
    palette: Palette,
    *,
    selected: str = "",
    error_origin: str = "",
) -> dict[str, Any]:
    """What the timeline's script draws: columns over the spans in tree order; times in µs from the start."""
    ordered = in_tree_order(spans)
    begin = min((span.start_ns for span in spans), default=0)
    end = max((span.start_ns + span.duration_ns for span in spans), default=0)
    colours = service_colours((span.service for span in spans), palette)
    services = sorted(colours)
    service_index = {service: index for index, service in enumerate(services)}
    names = sorted({span.name for span in spans})
    name_index = {name: index for index, name in enumerate(names)}
    segments: dict[str, list[float]] = defaultdict(list)
    for span_id, start_ns, end_ns in critical_path:
        segments[span_id] += [_micros(start_ns - begin), _micros(end_ns - begin)]
    return {
        "palette": {name: getattr(palette, name) for name in _CSS_COLOURS},
        "duration": _micros(end - begin),
        "services": services,
        "colours": [colours[service] for service in services],
        "names": names,
        "ids": [span.span_id for span, _ in ordered],
        "depth": [depth for _, depth in ordered],
        "service": [service_index[span.service] for span, _ in ordered],
        "name": [name_index[span.name] for span, _ in ordered],
        "kind": [_KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "" for span, _ in ordered],
        "start": [_micros(span.start_ns - begin) for span, _ in ordered],
        "length": [_micros(span.duration_ns) for span, _ in ordered],
        "self": [_micros(span.self_time_ns) for span, _ in ordered],
        "gap": [_micros(span.gap_ns) if span.gap_ns is not None else -1 for span, _ in ordered],
        "failed": [int(span.failed) for span, _ in ordered],
        "warnings": {index: list(span.warnings) for index, (span, _) in enumerate(ordered) if span.warnings},
        "critical": {
            index: segments[span.span_id]
            for index, (span, _) in enumerate(ordered)
            if span.critical_ns > 0 and span.span_id in segments
        },
        "origin": error_origin,
        "selected": selected,
    }


def time_by_service(spans: Sequence[TimelineSpan]) -> list[tuple[str, int, int, int]]:
    """Service, spans, self time and part of the critical path (ns), by the latter, then the former."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for span in spans:
        total = totals[span.service]
        total[0] += 1
        total[1] += span.self_time_ns
        total[2] += span.critical_ns
    rows = [(service, count, own, critical) for service, (count, own, critical) in totals.items()]
    return sorted(rows, key=lambda row: (-row[3], -row[2], row[0]))


def compared_operations(
    left: Sequence[TimelineSpan], right: Sequence[TimelineSpan]
) -> list[tuple[str, str, int, int, int, int]]:
    """Two traces by what they did: service, operation, calls and self time (ns) left, the same right.

    Ordered by how far the self times lie apart.
    """
    sides = []
    for spans in (left, right):
        totals: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
        for span in spans:
            calls, own = totals[(span.service, span.name)]
            totals[(span.service, span.name)] = calls + 1, own + span.self_time_ns
        sides.append(totals)
    keys = {*sides[0], *sides[1]}
    rows = [(service, name, *sides[0][service, name], *sides[1][service, name]) for service, name in keys]
    return sorted(rows, key=lambda row: (-abs(row[5] - row[3]), row[0], row[1]))


def shape_of(spans: Iterable[Mapping[str, Any]], start_ns: int, duration_ns: int) -> list[list[Any]]:
    """A trace in miniature: ``[left, width, depth, service, failed]`` a span; left and width are shares."""
    whole = max(duration_ns, 1)
    return [
        [
            round((span["start_ns"] - start_ns) / whole, 4),
            round(max(span["duration_ns"], 0) / whole, 4),
            span["depth"],
            span["service"],
            bool(span["failed"]),
        ]
        for span in spans
    ]


_CSS_COLOURS: Final = ("ink", "muted", "line", "surface", "background", "accent", "good", "warn", "bad", "unknown")


def _by_start(span: TimelineSpan) -> tuple[int, int, str]:
    return span.start_ns, -span.duration_ns, span.span_id


def _micros(duration_ns: int) -> float:
    return round(duration_ns / 1000, 1)
