"""Traces: their shapes in a list, and one of them whole."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from dashboard.figures.timeline import TimelineSpan
from dashboard.queries.query import Query, Row, moment, query
from dashboard.time_range import TimeRange

#: Bars of a trace's shape in the list: what 200 pixels can show.
SHAPE_SPANS: Final = 40
#: The typical trace is that of the newest so many: enough for a median.
TYPICAL_OF: Final = 2000
#: A timeline shows no more; the largest traces are cut, and say so.
MAX_SPANS: Final = 20_000


def shapes(traces: Sequence[Row]) -> Query:
    """The upper spans of these traces: ``trace_id, start_ns, duration_ns, service, depth, failed``, tops first."""
    starts = [row["start_ns"] for row in traces]
    ends = [row["start_ns"] + row["duration_ns"] for row in traces]
    return query(
        """
        SELECT trace_id, start_ns, duration_ns, service, depth, failed
        FROM unnest(%(ids)s::bytea[]) AS wanted (id),
        LATERAL (
            SELECT trace_id, start_ns + skew_ns AS start_ns, duration_ns, service, depth, status = 2 AS failed
            FROM service_traces
            WHERE trace_id = id AND start_time >= %(start)s AND start_time <= %(end)s
            ORDER BY depth, start_ns LIMIT %(spans)s
        ) AS span
        """,
        ids=tuple(bytes(row["trace_id"]) for row in traces),
        # A span may have been sent by a clock an hour off.
        start=moment(min(starts, default=0) - 3600 * 10**9),
        end=moment(max(ends, default=0) + 3600 * 10**9),
        spans=SHAPE_SPANS,
    )


def services(span: TimeRange) -> Query:
    """Names of services that took part in traces of the range: ``service``."""
    return query(
        """
        SELECT DISTINCT service FROM operation_hours
        WHERE start_time >= date_trunc('hour', %(start)s::timestamptz) AND start_time < %(end)s
        UNION SELECT DISTINCT unnest(services) FROM (
            SELECT services FROM traces WHERE start_time >= %(start)s AND start_time < %(end)s
            ORDER BY start_time DESC LIMIT 2000
        ) AS recent
        ORDER BY service
        """,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
    )


def operations(span: TimeRange, service: str) -> Query:
    """Operations of a service, busiest first: ``operation``."""
    return query(
        """
        SELECT operation FROM operation_hours
        WHERE service = %(service)s AND start_time < %(end)s
          AND start_time >= date_trunc('hour', %(start)s::timestamptz)
        GROUP BY operation ORDER BY sum(count_milli) DESC LIMIT 500
        """,
        service=service,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
    )


def one_trace(trace_id: bytes) -> Query:
    """The trace's own row, or none."""
    return query("SELECT * FROM traces WHERE trace_id = %(id)s", id=trace_id)


def typical_trace(span: TimeRange, trace: Row) -> Query:
    """Of the newest traces of the same request without errors, the one of median duration; ``trace_id``."""
    return query(
        """
        WITH alike AS MATERIALIZED (
            SELECT trace_id, duration_ns FROM traces
            WHERE root_service = %(service)s AND root_operation = %(operation)s AND error_count = 0 AND is_complete
              AND start_time >= %(start)s AND start_time < %(end)s AND trace_id <> %(id)s
            ORDER BY start_time DESC LIMIT %(newest)s
        )
        SELECT trace_id FROM alike ORDER BY duration_ns OFFSET (SELECT count(*) / 2 FROM alike) LIMIT 1
        """,
        service=trace["root_service"],
        operation=trace["root_operation"],
        id=bytes(trace["trace_id"]),
        start=moment(span.start_ns),
        end=moment(span.end_ns),
        newest=TYPICAL_OF,
    )


def spans_of_trace(trace: Row) -> Query:
    """The spans of a trace without what only the details show."""
    return query(
        """
        SELECT span_id, tree_parent_id, parent_span_id, service, operation, kind, status, start_ns, skew_ns,
               duration_ns, self_time_ns, critical_path_ns, gap_ns, warnings, error_type
        FROM service_traces
        WHERE trace_id = %(id)s AND start_time >= %(start)s AND start_time <= %(end)s
        ORDER BY depth, start_ns LIMIT %(limit)s
        """,
        id=bytes(trace["trace_id"]),
        start=trace["spans_from"],
        end=trace["spans_until"],
        limit=MAX_SPANS,
    )


def span_details(trace: Row, span_id: bytes) -> Query:
    """All there is about a span, or about the two that share its id."""
    return query(
        """
        SELECT s.*, r.attributes AS resource, c.name AS scope_name, c.version AS scope_version
        FROM service_traces s LEFT JOIN resources r USING (resource_id) LEFT JOIN scopes c USING (scope_id)
        WHERE trace_id = %(id)s AND span_id = %(span)s AND start_time >= %(start)s AND start_time <= %(end)s
        ORDER BY s.kind DESC
        """,
        id=bytes(trace["trace_id"]),
        span=span_id,
        start=trace["spans_from"],
        end=trace["spans_until"],
    )


def whole_spans(trace: Row) -> Query:
    """A trace's spans with their bytes, for a download."""
    return query(
        """
        SELECT s.raw, s.attributes, s.events, s.span_id, s.parent_span_id, s.service, s.operation, s.kind, s.status,
               s.start_ns, s.duration_ns, s.warnings, s.status_message,
               r.raw AS resource_raw, r.schema_url AS resource_schema, r.attributes AS resource, s.resource_id,
               c.raw AS scope_raw, c.schema_url AS scope_schema, c.name AS scope_name, c.version AS scope_version
        FROM service_traces s LEFT JOIN resources r USING (resource_id) LEFT JOIN scopes c USING (scope_id)
        WHERE trace_id = %(id)s AND start_time >= %(start)s AND start_time <= %(end)s
        ORDER BY s.depth, s.start_ns
        """,
        id=bytes(trace["trace_id"]),
        start=trace["spans_from"],
        end=trace["spans_until"],
    )


def timeline_spans(rows: Iterable[Row]) -> list[TimelineSpan]:
    """The answer of ``spans_of_trace`` as the timeline takes it, on the root's clock."""
    return [
        TimelineSpan(
            span_id=bytes(row["span_id"]).hex(),
            parent_id=bytes(row["tree_parent_id"]).hex() if row["tree_parent_id"] is not None else "",
            service=row["service"],
            name=row["operation"],
            kind=row["kind"],
            failed=row["status"] == 2,
            start_ns=row["start_ns"] + row["skew_ns"],
            duration_ns=max(row["duration_ns"], 0),
            self_time_ns=row["self_time_ns"],
            critical_ns=row["critical_path_ns"],
            gap_ns=row["gap_ns"],
            warnings=tuple(row["warnings"] or ()),
        )
        for row in rows
    ]


def critical_segments(trace: Row) -> list[tuple[str, int, int]]:
    """The critical path of a trace's row: span id in hex, start and end on the root's clock."""
    segments = trace["critical_path"]
    if isinstance(segments, str):
        segments = json.loads(segments)
    return [(str(span_id), int(start_ns), int(end_ns)) for span_id, start_ns, end_ns in segments]
