"""Traffic, errors and durations of operations, from the roll-ups: over all of a range, and step by step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from dashboard.queries.histogram_sql import quantiles
from dashboard.queries.query import Query, Resolution, Row, moment, nanoseconds, query, resolution_for_all
from dashboard.queries.query import resolution_for_one as finest
from dashboard.time_range import TimeRange
from tracecore.buckets import bounds_of

#: A heat map's row: eight of the fine buckets, an eighth of a power of two.
COARSE: Final = 8

#: The rows of a range, each with the step that it belongs to.
_STRETCH: Final = """
        SELECT date_bin(%(step)s, start_time, %(start)s) AS at, service, operation, kind, count_milli, error_milli,
               duration_buckets, duration_counts, self_time_buckets, self_time_counts
        FROM operation_{suffix} WHERE start_time >= %(start)s AND start_time < %(end)s {only}"""
#: What a service served: its server's and consumer's spans; of a service that has none, all of its spans.
_SERVED: Final = f"""
    stretch AS MATERIALIZED ({_STRETCH}
    ), serving AS (
        SELECT DISTINCT service FROM stretch WHERE kind IN (2, 5)
    ), served AS (
        SELECT * FROM stretch WHERE kind IN (2, 5) OR service NOT IN (SELECT service FROM serving)
    )
"""
_THREE: Final = {"p50_ns": 0.5, "p95_ns": 0.95, "p99_ns": 0.99}


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in one step that begins at ``at_ns``; durations in nanoseconds, None where nothing did."""

    at_ns: int
    spans: float
    errors: float
    p50_ns: float | None = None
    p95_ns: float | None = None
    p99_ns: float | None = None


def service_series(span: TimeRange, points: int) -> Query:
    """A row a service and step: ``service, at, spans, errors, p95_ns``; the last to an eighth of a power of two."""
    resolution = resolution_for_all(span)
    return _query(
        f"""
        WITH {_SERVED.format(suffix=resolution.suffix, only="")},
        {quantiles("served", ("service", "at"), {"p95_ns": 0.95}, coarse=COARSE)}, totals AS (
            SELECT service, at, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM served GROUP BY service, at
        )
        SELECT service, at, spans, errors, p95_ns FROM totals LEFT JOIN quantiles USING (service, at)
        ORDER BY service, at
        """,
        span,
        resolution,
        points,
    )


def service_totals(span: TimeRange) -> Query:
    """A row a service: ``service, spans, errors, p95_ns`` of what it served."""
    resolution = resolution_for_all(span)
    return _query(
        f"""
        WITH {_SERVED.format(suffix=resolution.suffix, only="")},
        {quantiles("served", ("service",), {"p95_ns": 0.95})}, totals AS (
            SELECT service, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM served GROUP BY service
        )
        SELECT service, spans, errors, p95_ns FROM totals LEFT JOIN quantiles USING (service) ORDER BY service
        """,
        span,
        resolution,
        1,
    )


def services_by_traffic(span: TimeRange) -> Query:
    """``service, spans``, the busiest first: of whole hours, since only the order counts."""
    return query(
        """
        SELECT service, sum(count_milli)::float8 / 1000 AS spans FROM operation_hours
        WHERE start_time >= date_trunc('hour', %(start)s::timestamptz) AND start_time < %(end)s
        GROUP BY service ORDER BY sum(count_milli) FILTER (WHERE kind IN (2, 5)) DESC NULLS LAST, spans DESC
        """,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
    )


def operation_series(span: TimeRange, service: str, operation: str, points: int, *, own_time: bool = False) -> Query:
    """A row a step: ``at, spans, errors, p50_ns, p95_ns, p99_ns`` of an operation, or of all that a service served."""
    resolution = finest(span)
    return _query(
        f"""
        WITH {_one(resolution, operation)},
        {quantiles("served", ("at",), _THREE, values="self_time" if own_time else "duration")}, totals AS (
            SELECT at, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM served GROUP BY at
        )
        SELECT at, spans, errors, p50_ns, p95_ns, p99_ns FROM totals LEFT JOIN quantiles USING (at) ORDER BY at
        """,
        span,
        resolution,
        points,
        **_named(service, operation),
    )


def own_time_series(span: TimeRange, service: str, points: int) -> Query:
    """A row a step: ``at, own_ns, gap_ns``, means of a service's own time a span, and of the network of calls to it."""
    resolution = finest(span)
    bounds = "start_time >= %(start)s AND start_time < %(end)s"

    def mean(values: str, table: str, who: str, name: str) -> str:
        return f"""
            SELECT date_bin(%(step)s, start_time, %(start)s) AS at,
                   sum(histogram_bucket_middle(bucket) * count) / sum(count) AS {name}
            FROM {table}_{resolution.suffix}, unnest({values}_buckets, {values}_counts) AS histogram (bucket, count)
            WHERE {bounds} AND {who} = %(service)s GROUP BY at"""

    return _query(
        f"""
        SELECT at, own_ns, gap_ns
        FROM ({mean("self_time", "operation", "service", "own_ns")}) AS own
        LEFT JOIN ({mean("gap", "hop", "callee", "gap_ns")}) AS gaps USING (at) ORDER BY at
        """,
        span,
        resolution,
        points,
        service=service,
    )


def heat(span: TimeRange, service: str, operation: str, points: int) -> Query:
    """A row a step and coarse bucket: ``at, coarse, count`` (thousandths)."""
    resolution = finest(span)
    return _query(
        f"""
        WITH {_one(resolution, operation)}
        SELECT at, bucket / {COARSE} AS coarse, sum(count)::bigint AS count
        FROM served, unnest(duration_buckets, duration_counts) AS histogram (bucket, count)
        GROUP BY at, coarse ORDER BY at, coarse
        """,
        span,
        resolution,
        points,
        **_named(service, operation),
    )


def distribution(span: TimeRange, service: str, operation: str) -> Query:
    """A row a coarse bucket: ``coarse, count`` (thousandths)."""
    return _query(
        f"""
        WITH {_one(finest(span), operation)}
        SELECT bucket / {COARSE} AS coarse, sum(count)::bigint AS count
        FROM served, unnest(duration_buckets, duration_counts) AS histogram (bucket, count)
        GROUP BY coarse ORDER BY coarse
        """,
        span,
        finest(span),
        1,
        **_named(service, operation),
    )


def operations_table(span: TimeRange, service: str) -> Query:
    """``operation, kind, spans, errors, p50_ns, p95_ns, p99_ns`` of a service, the slowest first."""
    return _query(
        f"""
        WITH stretch AS ({_STRETCH.format(suffix=finest(span).suffix, only="AND service = %(service)s")}),
        {quantiles("stretch", ("operation", "kind"), _THREE)}, totals AS (
            SELECT operation, kind, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM stretch GROUP BY operation, kind
        )
        SELECT * FROM totals LEFT JOIN quantiles USING (operation, kind) ORDER BY p95_ns DESC NULLS LAST LIMIT 300
        """,
        span,
        finest(span),
        1,
        service=service,
    )


def points_of(rows: Iterable[Row]) -> list[Point]:
    """Rows with a step each as points."""
    return [
        Point(
            nanoseconds(row["at"]),
            row["spans"],
            row["errors"],
            row.get("p50_ns"),
            row.get("p95_ns"),
            row.get("p99_ns"),
        )
        for row in rows
    ]


def coarse_bounds_ns(coarse: int) -> tuple[int, int]:
    """The durations that a coarse bucket holds: from, and up to but not including."""
    return bounds_of(coarse * COARSE)[0], bounds_of(coarse * COARSE + COARSE)[0]


def _one(resolution: Resolution, operation: str) -> str:
    if operation:
        only = "AND service = %(service)s AND operation = %(operation)s"
        return f"served AS ({_STRETCH.format(suffix=resolution.suffix, only=only)})"
    return _SERVED.format(suffix=resolution.suffix, only="AND service = %(service)s")


def _named(service: str, operation: str) -> Mapping[str, Any]:
    return {"service": service, **({"operation": operation} if operation else {})}


def _query(sql: str, span: TimeRange, resolution: Resolution, points: int, **parameters: Any) -> Query:
    start, end = resolution.bounds(span)
    step = timedelta(microseconds=max(span.step_ns(points), resolution.step_ns) // 1000)
    return query(sql, start=start, end=end, step=step, **parameters)
