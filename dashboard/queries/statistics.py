"""Traffic, errors and durations of operations, from the roll-ups: over all of a range, and step by step."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from dashboard.queries.histogram_sql import coarse_histograms, quantiles
from dashboard.queries.query import (
    MINUTES,
    Query,
    Resolution,
    Row,
    moment,
    nanoseconds,
    query,
    resolution_for_all,
    whole_hours,
)
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
#: The rows that add up to a range of some hours, to the minute: a whole hour is one row instead of sixty.
_SUMMED: Final = " UNION ALL ".join(
    f"""
        SELECT service, operation, kind, count_milli, error_milli, duration_buckets, duration_counts
        FROM {table} WHERE start_time >= %({start})s AND start_time < %({end})s {{only}}"""
    for table, start, end in (
        ("operation_minutes", "start", "first_hour"),
        ("operation_hours", "first_hour", "last_hour"),
        ("operation_minutes", "last_hour", "end"),
    )
)
#: What a service served: its server's and consumer's spans; of a service that has none, all of its spans.
_SERVED: Final = """
    stretch AS MATERIALIZED ({stretch}
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
        WITH {_SERVED.format(stretch=_STRETCH.format(suffix=resolution.suffix, only=""))},
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
        WITH {_SERVED.format(stretch=_STRETCH.format(suffix=resolution.suffix, only=""))},
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
    """A row a step: ``at, spans, errors, p50_ns, p95_ns, p99_ns, levels, counts`` of an operation or a service.

    Of a service it is what it served. The last two are the histogram that the quantiles are cut from, in coarse
    buckets (counts in thousandths).
    """
    resolution = finest(span)
    return _query(
        f"""
        WITH {_one(_STRETCH.format(suffix=resolution.suffix, only=_only(operation)), operation)},
        {quantiles("served", ("at",), _THREE, values="self_time" if own_time else "duration")},
        {coarse_histograms(("at",), COARSE)}, totals AS (
            SELECT at, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM served GROUP BY at
        )
        SELECT at, spans, errors, p50_ns, p95_ns, p99_ns, levels, counts
        FROM totals LEFT JOIN quantiles USING (at) LEFT JOIN histograms USING (at) ORDER BY at
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


def distribution(span: TimeRange, service: str, operation: str) -> Query:
    """A row a coarse bucket: ``coarse, count`` (thousandths)."""
    return _sum_query(
        lambda stretch: (
            f"""
        WITH {_one(stretch, operation)}, parts AS (
            SELECT unnest(duration_buckets) / {COARSE} AS coarse, unnest(duration_counts) AS count FROM served
        )
        SELECT coarse, sum(count::float8)::bigint AS count FROM parts GROUP BY coarse ORDER BY coarse
        """
        ),
        span,
        _only(operation),
        **_named(service, operation),
    )


def operations_table(span: TimeRange, service: str) -> Query:
    """``operation, kind, spans, errors, p50_ns, p95_ns, p99_ns`` of a service, the slowest first."""
    return _sum_query(
        lambda stretch: (
            f"""
        WITH stretch AS MATERIALIZED ({stretch}),
        {quantiles("stretch", ("operation", "kind"), _THREE)}, totals AS (
            SELECT operation, kind, sum(count_milli)::float8 / 1000 AS spans, sum(error_milli)::float8 / 1000 AS errors
            FROM stretch GROUP BY operation, kind
        )
        SELECT * FROM totals LEFT JOIN quantiles USING (operation, kind) ORDER BY p95_ns DESC NULLS LAST LIMIT 300
        """
        ),
        span,
        _only(""),
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


def heat_of(rows: Iterable[Row]) -> list[Row]:
    """The histograms of ``operation_series`` as a row a step and coarse bucket: ``at, coarse, count`` (thousandths)."""
    return [
        {"at": row["at"], "coarse": level, "count": count}
        for row in rows
        for level, count in zip(row["levels"] or (), row["counts"] or (), strict=True)
    ]


def counts_by_level(cells: Iterable[Row]) -> dict[int, float]:
    """Spans by coarse bucket, of ``distribution`` or of all steps of a heat map."""
    counts: defaultdict[int, float] = defaultdict(float)
    for cell in cells:
        counts[cell["coarse"]] += cell["count"] / 1000
    return dict(counts)


def coarse_bounds_ns(coarse: int) -> tuple[int, int]:
    """The durations that a coarse bucket holds: from, and up to but not including."""
    return bounds_of(coarse * COARSE)[0], bounds_of(coarse * COARSE + COARSE)[0]


def _one(stretch: str, operation: str) -> str:
    return f"served AS ({stretch})" if operation else _SERVED.format(stretch=stretch)


def _only(operation: str) -> str:
    return "AND service = %(service)s" + (" AND operation = %(operation)s" if operation else "")


def _named(service: str, operation: str) -> Mapping[str, Any]:
    return {"service": service, **({"operation": operation} if operation else {})}


def _query(sql: str, span: TimeRange, resolution: Resolution, points: int, **parameters: Any) -> Query:
    start, end = resolution.bounds(span)
    step = timedelta(microseconds=max(span.step_ns(points), resolution.step_ns) // 1000)
    return query(sql, start=start, end=end, step=step, **parameters)


def _sum_query(sql: Callable[[str], str], span: TimeRange, only: str, **parameters: Any) -> Query:
    """A question about the sum over a range; ``sql`` is given where the rows come from."""
    resolution = finest(span)
    if resolution is not MINUTES:
        stretch = _STRETCH.format(suffix=resolution.suffix, only=only)
        return _query(sql(stretch), span, resolution, 1, **parameters)
    start, end = resolution.bounds(span)
    first_hour, last_hour = whole_hours(span)
    return query(
        sql(_SUMMED.format(only=only)), start=start, end=end, first_hour=first_hour, last_hour=last_hour, **parameters
    )
