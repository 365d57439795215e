"""A day of millions of spans for the dashboard's bench: two hours of a shop in five regions, the quiet one repeated.

Forty services, some hundred and twenty operations. Roll-ups are those of the copied hours, moved along with them, so
they agree with the spans; hours are summed from minutes.
"""

import random
import time
from collections.abc import Sequence
from typing import Final

import psycopg

from tests.dashboard.shop import ROOTS, SECOND, MadeSpan, Shop, make_trace

_MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * _MINUTE
_REGIONS: Final = ("eu", "us", "asia", "africa", "oceania")
#: One trace in so many has a span that fails on a quiet day.
_FAILS_ONE_IN: Final = 250

#: The columns of each table that move along with a copy: times, then Unix nanoseconds.
_MOVED: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "traces": (
        ("start_time", "spans_from", "spans_until", "stored_at"),
        ("start_ns", "first_arrival_ns", "last_arrival_ns"),
    ),
    "service_traces": (("start_time",), ("start_ns",)),
    **{
        table: (("start_time",), ())
        for table in (
            "service_dependencies",
            "operation_windows",
            "operation_minutes",
            "hop_windows",
            "hop_minutes",
            "error_group_minutes",
        )
    },
}
_COLUMNS: Final = "SELECT column_name FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position"


def fill(url: str, spans: int, hours: int) -> int:
    """Store about ``spans`` spans over ``hours`` hours, payment of one region failing in the last half hour.

    Returns how many it became.
    """
    end = time.time_ns() // _MINUTE * _MINUTE
    traces_an_hour = max(60, round(spans / hours / _mean_size()))
    shop = Shop()
    dice = shop.dice
    for at in _moments(end - 2 * _HOUR, end - _HOUR, traces_an_hour):
        made = make_trace(dice, dice.choices(ROOTS, (5, 4, 2))[0], at, fault=False)
        if dice.random() < 1 / _FAILS_ONE_IN:
            _fail(made, dice.choice(made))
        shop.add(_in_region(made, dice.choice(_REGIONS)))
    for at in _moments(end - _HOUR, end, traces_an_hour):
        region = dice.choice(_REGIONS)
        fault = region == _REGIONS[0] and at >= end - _HOUR // 2
        made = make_trace(dice, dice.choices(ROOTS, (5, 4, 2))[0], at, fault=fault)
        shop.add(_in_region(made, region))
    shop.alarm(end - _HOUR // 2 + 20 * SECOND, service=f"payment-{_REGIONS[0]}")
    shop.write(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(
            "UPDATE traces SET last_arrival_ns = start_ns + duration_ns,"
            " stored_at = start_time + duration_ns / 1000 * interval '1 microsecond' + interval '2.3 s'"
        )
        for number in range(1, hours - 1):
            _repeat(connection, end, number)
        _sum_hours(connection, "operation", ("service", "operation", "kind"), "self_time")
        _sum_hours(connection, "hop", ("caller", "callee", "operation"), "gap")
        connection.execute("UPDATE error_groups SET first_seen = first_seen - %s * interval '1 hour'", (hours - 2,))
        connection.execute(
            "INSERT INTO service_health SELECT at, 100, service, '[]', '' FROM (SELECT DISTINCT service FROM"
            " operation_hours) AS known, generate_series(%s::timestamptz, %s::timestamptz, '10 s') AS at"
            " ON CONFLICT DO NOTHING",
            (_moment(end - hours * _HOUR), _moment(end)),
        )
        connection.execute("VACUUM ANALYZE")
        row = connection.execute("SELECT sum(span_count) FROM traces").fetchone()
    return int(row[0]) if row else 0


def _mean_size() -> float:
    dice = random.Random(7)
    sizes = [len(make_trace(dice, dice.choices(ROOTS, (5, 4, 2))[0], 0, fault=False)) for _ in range(500)]
    return sum(sizes) / len(sizes)


def _moments(start: int, end: int, count: int) -> list[int]:
    return [start + (end - start) * index // count for index in range(count)]


def _in_region(spans: list[MadeSpan], region: str) -> list[MadeSpan]:
    for span in spans:
        span.service = f"{span.service}-{region}"
    return spans


def _fail(spans: list[MadeSpan], origin: MadeSpan) -> None:
    """The span fails, and with it whoever called it."""
    by_id = {span.span_id: span for span in spans}
    failed: MadeSpan | None = origin
    while failed is not None:
        failed.failed = True
        failed = by_id.get(failed.parent) if failed.parent else None


def _repeat(connection: psycopg.Connection, end: int, number: int) -> None:
    """The quiet hour once more, ``number`` hours before itself, with trace ids of its own."""
    first, last = _moment(end - 2 * _HOUR), _moment(end - _HOUR)
    connection.execute(
        "SELECT ensure_day_partitions(ARRAY[(%s::timestamptz AT TIME ZONE 'UTC')::date,"
        " (%s::timestamptz AT TIME ZONE 'UTC')::date])",
        (_moment(end - (2 + number) * _HOUR), _moment(end - (1 + number) * _HOUR)),
    )
    mask = random.Random(number).randbytes(8).hex()
    for table, (times, nanoseconds) in _MOVED.items():
        columns = [row[0] for row in connection.execute(_COLUMNS, (table,))]
        changed = {name: f"{name} - interval '{number} hours'" for name in times}
        changed |= {name: f"{name} - {number * _HOUR}" for name in nanoseconds}
        # Its first eight bytes are replaced, the rest tells traces apart.
        changed["trace_id"] = f"decode('{mask}', 'hex') || substring(trace_id FROM 9 FOR 8)"
        chosen = ", ".join(changed.get(name, name) for name in columns)
        connection.execute(  # type: ignore[call-overload]
            f"INSERT INTO {table} ({', '.join(columns)}) SELECT {chosen} FROM {table}"
            " WHERE start_time >= %s AND start_time < %s ON CONFLICT DO NOTHING",
            (first, last),
        )


def _sum_hours(connection: psycopg.Connection, table: str, key: Sequence[str], second: str) -> None:
    """The roll-up by the hour anew, from that by the minute."""
    names = ", ".join(key)

    def histogram(values: str) -> str:
        return f"""
            SELECT {names}, hour, array_agg(bucket ORDER BY bucket) AS buckets,
                   array_agg(count ORDER BY bucket) AS counts
            FROM (
                SELECT {names}, date_trunc('hour', start_time) AS hour, bucket, sum(count)::bigint AS count
                FROM {table}_minutes, unnest({values}_buckets, {values}_counts) AS h (bucket, count)
                GROUP BY {names}, hour, bucket
            ) AS merged GROUP BY {names}, hour"""

    connection.execute(f"TRUNCATE {table}_hours")  # type: ignore[call-overload]
    # Each part once: joined as they are, a wrong estimate would have one of them made anew for every row of another.
    connection.execute(  # type: ignore[call-overload]
        f"""
        WITH totals AS MATERIALIZED (
            SELECT {names}, date_trunc('hour', start_time) AS hour, sum(spans) AS spans,
                   sum(count_milli) AS count_milli, sum(error_milli) AS error_milli
            FROM {table}_minutes GROUP BY {names}, hour
        ), d AS MATERIALIZED ({histogram("duration")}), s AS MATERIALIZED ({histogram(second)})
        INSERT INTO {table}_hours (start_time, spans, count_milli, error_milli, {names}, duration_buckets,
            duration_counts, {second}_buckets, {second}_counts, slowest_trace_id, failed_trace_id)
        SELECT hour, spans, count_milli, error_milli, {names}, d.buckets, d.counts,
               coalesce(s.buckets, '{{}}'), coalesce(s.counts, '{{}}'), NULL, NULL
        FROM totals JOIN d USING ({names}, hour) LEFT JOIN s USING ({names}, hour)
        """
    )


def _moment(time_ns: int) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time_ns // SECOND))}Z"
