"""Groups of errors: what fails, since when, how often, and who suffers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from dashboard.queries.query import Query, Row, minutes_of, moment, nanoseconds, query
from dashboard.time_range import DAY_NS, TimeRange

State = Literal["new", "regressed", "ongoing"]

#: A group that was quiet for this long and comes back has regressed.
QUIET_NS: Final = DAY_NS


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Errors that are alike, in a range. ``counts`` has a value a step of the range; ``origins`` began there."""

    group_id: str
    service: str
    operation: str
    error_type: str
    message: str
    state: State
    errors: int
    origins: int
    first_seen_ns: int
    last_seen_ns: int
    last_trace_id: str
    counts: tuple[int, ...]


def groups(span: TimeRange) -> Query:
    """A row a group that failed in the range, most first; ``before`` counts its errors in the quiet time before it."""
    start, end = minutes_of(span)
    return query(
        """
        SELECT g.*, seen.errors, seen.origins, coalesce(earlier.errors, 0)::bigint AS before
        FROM (
            SELECT group_id, sum(errors)::bigint AS errors, sum(origins)::bigint AS origins
            FROM error_group_minutes WHERE start_time >= %(start)s AND start_time < %(end)s GROUP BY group_id
        ) AS seen
        JOIN error_groups g USING (group_id)
        LEFT JOIN (
            SELECT group_id, sum(errors) AS errors
            FROM error_group_minutes WHERE start_time >= %(quiet)s AND start_time < %(start)s GROUP BY group_id
        ) AS earlier USING (group_id)
        ORDER BY seen.origins DESC, seen.errors DESC LIMIT 300
        """,
        start=start,
        end=end,
        quiet=start - timedelta(microseconds=QUIET_NS // 1000),
    )


def counts(span: TimeRange, points: int) -> Query:
    """A row a group and step: ``group_id, at, errors``."""
    start, end = minutes_of(span)
    return query(
        """
        SELECT group_id, date_bin(%(step)s, start_time, %(start)s) AS at, sum(errors)::bigint AS errors
        FROM error_group_minutes WHERE start_time >= %(start)s AND start_time < %(end)s
        GROUP BY group_id, at
        """,
        start=start,
        end=end,
        step=timedelta(microseconds=max(span.step_ns(points), 60 * 10**9) // 1000),
    )


def samples(span: TimeRange, service: str, operation: str, error_type: str) -> Query:
    """The newest traces with such a span: ``trace_id, start_ns, duration_ns, root_service, root_operation, impacted``.

    Impacted are the services whose spans failed in the same trace.
    """
    return query(
        """
        SELECT t.trace_id, t.start_ns, t.duration_ns, t.root_service, t.root_operation, impacted.services AS impacted
        FROM (
            SELECT DISTINCT trace_id FROM (
                SELECT trace_id FROM service_traces
                WHERE service = %(service)s AND start_time >= %(start)s AND start_time < %(end)s
                  AND status = 2 AND operation = %(operation)s AND error_type = %(error_type)s
                ORDER BY start_time DESC LIMIT 40
            ) AS newest
        ) AS failed
        JOIN traces t USING (trace_id),
        LATERAL (
            SELECT array_agg(DISTINCT service) AS services FROM service_traces s
            WHERE s.trace_id = t.trace_id AND s.start_time BETWEEN t.spans_from AND t.spans_until AND s.status = 2
        ) AS impacted
        ORDER BY t.start_ns DESC LIMIT 12
        """,
        service=service,
        operation=operation,
        error_type=error_type,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
    )


def error_groups(
    group_rows: Iterable[Row], count_rows: Iterable[Row], span: TimeRange, points: int
) -> list[ErrorGroup]:
    """The answers of ``groups`` and ``counts`` together."""
    step = max(span.step_ns(points), 60 * 10**9)
    origin = nanoseconds(minutes_of(span)[0])
    steps = max(1, -(-(span.end_ns - origin) // step))
    series: dict[str, list[int]] = {}
    for row in count_rows:
        place = (nanoseconds(row["at"]) - origin) // step
        if 0 <= place < steps:
            series.setdefault(row["group_id"], [0] * steps)[place] += row["errors"]
    made = []
    for row in group_rows:
        first_seen_ns = nanoseconds(row["first_seen"])
        state: State = "new" if first_seen_ns >= origin else "ongoing" if row["before"] else "regressed"
        made.append(
            ErrorGroup(
                row["group_id"],
                row["service"],
                row["operation"],
                row["error_type"],
                row["message"],
                state,
                int(row["errors"]),
                int(row["origins"]),
                first_seen_ns,
                nanoseconds(row["last_seen"]),
                bytes(row["last_trace_id"]).hex(),
                tuple(series.get(row["group_id"], [0] * steps)),
            )
        )
    return made
