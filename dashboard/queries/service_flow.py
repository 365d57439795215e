"""Who called whom, how often, how slowly; and how each service fared."""

import json
from collections.abc import Iterable
from typing import Any

from dashboard.figures.service_flow import ServiceEdge, ServiceNode, kinds_of
from dashboard.queries.histogram_sql import quantiles
from dashboard.queries.query import Query, Row, minutes_of, moment, query, resolution_for_all
from dashboard.time_range import DAY_NS, HOUR_NS, MINUTE_NS, TimeRange

#: A health score older than this says nothing about the end of the range.
_HEALTH_FRESH_NS = 10 * MINUTE_NS


def dependencies(span: TimeRange) -> Query:
    """A row a caller and callee: ``caller, callee, callee_type, calls, errors, mean_ns, gap_ns``."""
    start, end = minutes_of(span)
    return query(
        """
        SELECT caller, callee, callee_type,
               sum(calls_milli)::float8 / 1000 AS calls, sum(errors_milli)::float8 / 1000 AS errors,
               sum(duration_ns)::float8 / nullif(sum(calls), 0) AS mean_ns,
               sum(gap_ns)::float8 / nullif(sum(gap_calls), 0) AS gap_ns
        FROM service_dependencies
        WHERE start_time >= %(start)s AND start_time < %(end)s
        GROUP BY caller, callee, callee_type
        ORDER BY caller, callee, callee_type
        """,
        start=start,
        end=end,
    )


def usual_calls(now_ns: int) -> Query:
    """``caller, callee`` of a day: what the graph keeps room for. The same question for an hour."""
    end_ns = now_ns // HOUR_NS * HOUR_NS + HOUR_NS
    return query(
        "SELECT DISTINCT caller, callee FROM service_dependencies"
        " WHERE start_time >= %(start)s AND start_time < %(end)s",
        start=moment(end_ns - DAY_NS),
        end=moment(end_ns),
    )


def hop_p95(span: TimeRange) -> Query:
    """A row a caller and callee: ``caller, callee, p95_ns``, the caller's side."""
    resolution = resolution_for_all(span)
    start, end = resolution.bounds(span)
    return query(
        f"""
        WITH hops AS (
            SELECT caller, callee, duration_buckets, duration_counts FROM hop_{resolution.suffix}
            WHERE start_time >= %(start)s AND start_time < %(end)s
        ), {quantiles("hops", ("caller", "callee"), {"p95_ns": 0.95})}
        SELECT caller, callee, p95_ns FROM quantiles
        """,
        start=start,
        end=end,
    )


def health(span: TimeRange) -> Query:
    """A row a service: ``service, score, reasons``, the newest of the range's end."""
    return query(
        """
        SELECT DISTINCT ON (service) service, score, reasons
        FROM service_health
        WHERE start_time >= %(start)s AND start_time < %(end)s AND replay_id = ''
        ORDER BY service, start_time DESC
        """,
        start=moment(max(span.start_ns, span.end_ns - _HEALTH_FRESH_NS)),
        end=moment(span.end_ns),
    )


def edges_of(dependency_rows: Iterable[Row], p95_rows: Iterable[Row]) -> list[ServiceEdge]:
    """The answers of ``dependencies`` and ``hop_p95`` as edges; of two kinds of call to one callee, their sum."""
    p95 = {(row["caller"], row["callee"]): row["p95_ns"] for row in p95_rows}
    merged: dict[tuple[str, str], ServiceEdge] = {}
    for row in dependency_rows:
        key = (row["caller"], row["callee"])
        edge = ServiceEdge(
            row["caller"],
            row["callee"],
            row["callee_type"],
            row["calls"],
            row["errors"],
            p95.get(key),
            row["mean_ns"],
            row["gap_ns"],
        )
        if (other := merged.get(key)) is not None:
            larger = edge if edge.calls > other.calls else other
            edge = ServiceEdge(
                *key,
                larger.callee_type,
                edge.calls + other.calls,
                edge.errors + other.errors,
                larger.p95_ns,
                larger.mean_ns,
                larger.gap_ns,
            )
        merged[key] = edge
    return list(merged.values())


def nodes_of(
    statistics: Iterable[Row], health_rows: Iterable[Row], edges: list[ServiceEdge], span: TimeRange
) -> list[ServiceNode]:
    """Every service that served, has a health or stands at an edge."""
    scores = {row["service"]: row for row in health_rows}
    kinds = kinds_of(edges)
    nodes = {}
    for row in statistics:
        score = scores.get(row["service"])
        nodes[row["service"]] = ServiceNode(
            row["service"],
            "service",
            float(score["score"]) if score else None,
            row["spans"] / span.seconds,
            row["errors"] / row["spans"] if row["spans"] else None,
            row["p95_ns"],
            reasons_text(score["reasons"]) if score else "",
        )
    for edge in edges:
        for name in (edge.caller, edge.callee):
            kind = kinds.get(name, "service")
            # A caller, or a callee with spans, is a service of ours whatever a peer's attribute calls it.
            if name not in nodes:
                nodes[name] = ServiceNode(name, "service" if name == edge.caller else kind)
    return [nodes[name] for name in sorted(nodes)]


def reasons_text(reasons: Any) -> str:
    """What cost a service its health: ``3 of 40 requests failed (-9); alert ErrorSpans (-20)``."""
    if isinstance(reasons, str):
        reasons = json.loads(reasons)
    points: dict[str, int] = {}
    for reason in reasons:
        detail, name = reason.get("detail", ""), reason["reason"]
        text = f"alert {detail}" if name == "alert" and detail else detail or name
        points[text] = points.get(text, 0) + reason["points"]
    return "; ".join(f"{text} (-{cost})" for text, cost in points.items())
