"""Traffic, errors and durations of operations, from the roll-ups: over all of a range, and step by step."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from dashboard.queries.query import MINUTES, Query, Resolution, Row, nanoseconds, query, resolution_for_all
from dashboard.queries.query import resolution_for_one as finest
from dashboard.time_range import DAY_NS, TimeRange
from tracecore.buckets import bounds_of

#: A heat map's row: eight of the fine buckets, an eighth of a power of two.
COARSE: Final = 8

#: What a service served: its server's and consumer's spans; of a service that has none, all of its spans.
_SERVED: Final = """
    stretch AS (
        SELECT * FROM operation_{suffix} WHERE start_time >= %(start)s AND start_time < %(end)s {only}
    ), serving AS (
        SELECT DISTINCT service FROM stretch WHERE kind IN (2, 5)
    ), served AS (
        SELECT * FROM stretch WHERE kind IN (2, 5) OR service NOT IN (SELECT service FROM serving)
    )
"""
_QUANTILE: Final = "histogram_quantile(array_agg(bucket ORDER BY bucket), array_agg(count ORDER BY bucket), {q})"


@dataclass(frozen=True, slots=True)
class Point:
    """What happened in one step that begins at ``at_ns``; durations in nanoseconds, None where nothing did."""

    at_ns: int
    spans: float
    errors: float
    p50_ns: float | None = None
    p95_ns: float | None = None
    p99_ns: float | None = None


def service_counts(span: TimeRange, points: int) -> Query:
    """A row a service and step: ``service, at, spans, errors``."""
    resolution = MINUTES if span.duration_ns <= 2 * DAY_NS else resolution_for_all(span)
    return _query(
        f"""
        WITH {_SERVED.format(suffix=resolution.suffix, only="")}
        SELECT service, date_bin(%(step)s, start_time, %(start)s) AS at,
               sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
        FROM served GROUP BY service, at ORDER BY service, at
        """,
        span,
        resolution,
        points,
    )


def service_p95(span: TimeRange, points: int) -> Query:
    """A row a service and step: ``service, at, p95_ns``."""
    resolution = resolution_for_all(span)
    return _query(
        f"""
        WITH {_SERVED.format(suffix=resolution.suffix, only="")}, merged AS (
            SELECT service, date_bin(%(step)s, start_time, %(start)s) AS at, bucket, sum(count)::bigint AS count
            FROM served, unnest(duration_buckets, duration_counts) AS histogram (bucket, count)
            GROUP BY service, at, bucket
        )
        SELECT service, at, {_QUANTILE.format(q=0.95)} AS p95_ns FROM merged GROUP BY service, at ORDER BY service, at
        """,
        span,
        resolution,
        points,
    )


def operation_series(span: TimeRange, service: str, operation: str, points: int, *, own_time: bool = False) -> Query:
    """A row a step: ``at, spans, errors, p50_ns, p95_ns, p99_ns`` of an operation, or of all that a service served."""
    resolution = finest(span)
    values = "self_time" if own_time else "duration"
    return _query(
        f"""
        WITH {_one(resolution, operation)}, merged AS (
            SELECT date_bin(%(step)s, start_time, %(start)s) AS at, bucket, sum(count)::bigint AS count
            FROM served, unnest({values}_buckets, {values}_counts) AS histogram (bucket, count) GROUP BY at, bucket
        ), quantiles AS (
            SELECT at, {_QUANTILE.format(q=0.5)} AS p50_ns, {_QUANTILE.format(q=0.95)} AS p95_ns,
                   {_QUANTILE.format(q=0.99)} AS p99_ns
            FROM merged GROUP BY at
        ), totals AS (
            SELECT date_bin(%(step)s, start_time, %(start)s) AS at,
                   sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM served GROUP BY at
        )
        SELECT at, spans, errors, p50_ns, p95_ns, p99_ns FROM totals LEFT JOIN quantiles USING (at) ORDER BY at
        """,
        span,
        resolution,
        points,
        **_named(service, operation),
    )


def heat(span: TimeRange, service: str, operation: str, points: int) -> Query:
    """A row a step and coarse bucket: ``at, coarse, count`` (thousandths)."""
    resolution = finest(span)
    return _query(
        f"""
        WITH {_one(resolution, operation)}
        SELECT date_bin(%(step)s, start_time, %(start)s) AS at, bucket / {COARSE} AS coarse, sum(count)::bigint AS count
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
    resolution = finest(span)
    start, end = resolution.bounds(span)
    return query(
        f"""
        WITH {_one(resolution, operation)}
        SELECT bucket / {COARSE} AS coarse, sum(count)::bigint AS count
        FROM served, unnest(duration_buckets, duration_counts) AS histogram (bucket, count)
        GROUP BY coarse ORDER BY coarse
        """,
        start=start,
        end=end,
        **_named(service, operation),
    )


def operations_table(span: TimeRange, service: str) -> Query:
    """``service, operation, kind, spans, errors, p50_ns, p95_ns, p99_ns`` of one service or of all."""
    resolution = finest(span) if service else resolution_for_all(span)
    start, end = resolution.bounds(span)
    return query(
        f"""
        WITH stretch AS (
            SELECT * FROM operation_{resolution.suffix}
            WHERE start_time >= %(start)s AND start_time < %(end)s {"AND service = %(service)s" if service else ""}
        ), merged AS (
            SELECT service, operation, kind, bucket, sum(count)::bigint AS count
            FROM stretch, unnest(duration_buckets, duration_counts) AS histogram (bucket, count)
            GROUP BY service, operation, kind, bucket
        ), quantiles AS (
            SELECT service, operation, kind, {_QUANTILE.format(q=0.5)} AS p50_ns, {_QUANTILE.format(q=0.95)} AS p95_ns,
                   {_QUANTILE.format(q=0.99)} AS p99_ns
            FROM merged GROUP BY service, operation, kind
        ), totals AS (
            SELECT service, operation, kind, sum(count_milli)::float8 / 1000 AS spans,
                   sum(error_milli)::float8 / 1000 AS errors
            FROM stretch GROUP BY service, operation, kind
        )
        SELECT * FROM totals LEFT JOIN quantiles USING (service, operation, kind)
        ORDER BY p95_ns DESC NULLS LAST LIMIT 300
        """,
        start=start,
        end=end,
        **({"service": service} if service else {}),
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
        return f"""served AS (
            SELECT * FROM operation_{resolution.suffix}
            WHERE start_time >= %(start)s AND start_time < %(end)s
              AND service = %(service)s AND operation = %(operation)s
        )"""
    return _SERVED.format(suffix=resolution.suffix, only="AND service = %(service)s")


def _named(service: str, operation: str) -> Mapping[str, Any]:
    return {"service": service, **({"operation": operation} if operation else {})}


def _query(sql: str, span: TimeRange, resolution: Resolution, points: int, **parameters: Any) -> Query:
    start, end = resolution.bounds(span)
    step = timedelta(microseconds=max(span.step_ns(points), resolution.step_ns) // 1000)
    return query(sql, start=start, end=end, step=step, **parameters)
