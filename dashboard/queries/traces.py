"""Traces: searched, sampled for a scatter, and one of them whole."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from dashboard.figures.timeline import TimelineSpan
from dashboard.queries.query import Query, Row, moment, query
from dashboard.time_range import TimeRange

Order = Literal["newest", "slowest", "spans", "errors"]

LIST_SIZE: Final = 30
SCATTER_SIZE: Final = 2000
#: Bars of a trace's shape in the list: what 200 pixels can show.
SHAPE_SPANS: Final = 40
#: A timeline shows no more; the largest traces are cut, and say so.
MAX_SPANS: Final = 20_000

_ORDERS: Final[dict[str, str]] = {
    "newest": "start_time DESC",
    "slowest": "duration_ns DESC",
    "spans": "span_count DESC",
    "errors": "error_count DESC, start_time DESC",
}
_DURATION: Final = re.compile(r"^\s*(\d+(?:[.,]\d+)?)\s*(ns|us|µs|μs|ms|s|m|min)?\s*$", re.IGNORECASE)
_UNIT_NS: Final = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "min": 60e9}


@dataclass(frozen=True, slots=True)
class TraceSearch:
    """What a person looks for; empty fields ask nothing. Service, operation and tags must meet in one span."""

    service: str = ""
    operation: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    min_ns: int | None = None
    max_ns: int | None = None
    status: Literal["", "error", "ok", "incomplete"] = ""
    order: Order = "newest"

    @property
    def asks_for_spans(self) -> bool:
        """Whether the traces' own rows cannot answer."""
        return bool(self.operation or self.tags)


def tags_of(text: str) -> tuple[tuple[str, str], ...]:
    """``http.method=GET "db.statement=SELECT 1"`` as pairs. Raises ``ValueError`` with a sentence for a person."""
    pairs = []
    for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', text):
        key, equals, value = (quoted or bare).partition("=")
        if not key or not equals:
            raise ValueError(f"“{(quoted or bare)[:40]}” is no tag: write key=value, in quotes if it has spaces.")
        pairs.append((key, value.strip('"')))
    return tuple(pairs)


def duration_of(text: str) -> int | None:
    """``250ms``, ``1.5 s``; a bare number is milliseconds. None if empty; raises ``ValueError`` with a sentence."""
    if not text.strip():
        return None
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(f"“{text[:20]}” is no duration: write 250ms or 1.5s.")
    return round(float(match[1].replace(",", ".")) * _UNIT_NS[(match[2] or "ms").lower()])


def trace_id_of(text: str) -> bytes | None:
    """A trace id as people paste it: 16 or 32 hex digits, dashes or a traceparent around them; None if it is none."""
    parts = text.strip().lower().split("-")
    digits = parts[1] if len(parts) == 4 and len(parts[1]) == 32 else "".join(parts)
    if not re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{32}", digits):
        return None
    return bytes.fromhex(digits.rjust(32, "0"))


def found(span: TimeRange, search: TraceSearch, limit: int = LIST_SIZE) -> Query:
    """The list: a row a trace, ``limit`` of them in the order asked for."""
    where, parameters = _conditions(span, search)
    return query(
        f"""
        SELECT trace_id, start_ns, duration_ns, span_count, error_count, root_service, root_operation, error_service,
               cardinality(services) AS service_count, is_complete, replay_id
        FROM traces t WHERE {where} ORDER BY {_ORDERS[search.order]} LIMIT %(limit)s
        """,
        limit=limit,
        **parameters,
    )


def counted(span: TimeRange, search: TraceSearch) -> Query:
    """One row: ``traces`` and ``failed`` of them; for a search within spans, of the first ten thousand alone."""
    where, parameters = _conditions(span, search)
    bound = "LIMIT 10000" if search.asks_for_spans else ""
    return query(
        f"""
        SELECT count(*) AS traces, count(*) FILTER (WHERE error_count > 0) AS failed
        FROM (SELECT error_count FROM traces t WHERE {where} {bound}) AS matching
        """,
        **parameters,
    )


def scattered(span: TimeRange, search: TraceSearch, matching: int) -> Query:
    """Dots for the scatter: an even sample by trace id, and beside it the slowest and some of the failed.

    ``matching`` is how many there are. Rows: ``trace_id, start_ns, duration_ns, error_count, root_service,
    root_operation, span_count``.
    """
    where, parameters = _conditions(span, search)
    columns = "trace_id, start_ns, duration_ns, error_count, root_service, root_operation, span_count"
    share = min(65536, max(1, round(65536 * SCATTER_SIZE / max(matching, 1))))
    sample = "" if share == 65536 else "AND get_byte(trace_id, 14) * 256 + get_byte(trace_id, 15) < %(share)s"
    return query(
        f"""
        (SELECT {columns} FROM traces t WHERE {where} {sample} LIMIT %(limit)s)
        UNION (SELECT {columns} FROM traces t WHERE {where} ORDER BY duration_ns DESC LIMIT 60)
        UNION (SELECT {columns} FROM traces t WHERE {where} AND error_count > 0 ORDER BY start_time DESC LIMIT 300)
        """,
        limit=SCATTER_SIZE + 500,
        **({"share": share} if sample else {}),
        **parameters,
    )


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
    """The trace of the same request, without errors, whose duration is the median of the range; ``trace_id``."""
    return query(
        """
        SELECT trace_id FROM traces
        WHERE root_service = %(service)s AND root_operation = %(operation)s AND error_count = 0 AND is_complete
          AND start_time >= %(start)s AND start_time < %(end)s AND trace_id <> %(id)s
        ORDER BY duration_ns
        OFFSET (
            SELECT count(*) / 2 FROM traces
            WHERE root_service = %(service)s AND root_operation = %(operation)s AND error_count = 0 AND is_complete
              AND start_time >= %(start)s AND start_time < %(end)s AND trace_id <> %(id)s
        ) LIMIT 1
        """,
        service=trace["root_service"],
        operation=trace["root_operation"],
        id=bytes(trace["trace_id"]),
        start=moment(span.start_ns),
        end=moment(span.end_ns),
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


def _conditions(span: TimeRange, search: TraceSearch) -> tuple[str, Mapping[str, Any]]:
    parts = ["t.start_time >= %(start)s", "t.start_time < %(end)s"]
    parameters: dict[str, Any] = {"start": moment(span.start_ns), "end": moment(span.end_ns)}
    if search.min_ns is not None:
        parts.append("t.duration_ns >= %(min_ns)s")
        parameters["min_ns"] = search.min_ns
    if search.max_ns is not None:
        parts.append("t.duration_ns <= %(max_ns)s")
        parameters["max_ns"] = search.max_ns
    status = {"error": "t.error_count > 0", "ok": "t.error_count = 0", "incomplete": "NOT t.is_complete"}
    if search.status:
        parts.append(status[search.status])
    if search.service:
        parts.append("%(service)s = ANY (t.services)")
        parameters["service"] = search.service
    if search.asks_for_spans:
        within = ["s.trace_id = t.trace_id", "s.start_time BETWEEN t.spans_from AND t.spans_until"]
        if search.service:
            within.append("s.service = %(service)s")
        if search.operation:
            within.append("s.operation = %(operation)s")
            parameters["operation"] = search.operation
        for place, (key, value) in enumerate(search.tags):
            within.append(f"s.attributes ->> %(key{place})s = %(value{place})s")
            parameters |= {f"key{place}": key, f"value{place}": value}
        parts.append(f"EXISTS (SELECT FROM service_traces s WHERE {' AND '.join(within)})")
    return " AND ".join(parts), parameters
