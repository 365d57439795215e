"""The queries that people ask of a history, on a day of five million spans: 95th percentile, and what the plan reads.

    python -m bench history [--spans 5000000] [--rounds 40] [--database URL]

Bound: 300 ms each, and no partition read that the time excludes. A database that is named is filled by the first run
and stays, so that the next one asks at once.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from bench.shop_traces import SERVICES, realistic_trace, shifted
from dashboard.queries.histogram_sql import quantiles
from quickstart.embedded_postgres import EmbeddedPostgres
from sink.postgres import copy_rows
from sink.prerequisites import Prerequisites
from sink.rows import DAY_NS, SPAN_COLUMNS, TRACE_COLUMNS, RowEncoder
from tests import services
from tests.sink.builders import NOON_NS

MAXIMUM_MS = 300.0
SPANS_PER_TRACE = 15


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench history", description=__doc__.partition("\n")[0])
    parser.add_argument("--spans", type=int, default=5_000_000, help="spans of the day that is asked for (5 000 000)")
    parser.add_argument("--rounds", type=int, default=40, help="how often each query is asked (40)")
    parser.add_argument("--database", default="", help="a database that keeps the day, instead of one thrown away")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        url = chosen.database
        if not url:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(EmbeddedPostgres(log_path=folder / "postgres.log")).url
        services.migrate(url)
        if not holds_traces(url):
            began = time.perf_counter()
            loaded = load_day(url, chosen.spans)
            print(f"{loaded} spans on a day and beside it, loaded in {time.perf_counter() - began:.0f} s")
        time_queries(url, chosen.rounds)


def holds_traces(url: str) -> bool:
    """Whether a migrated database was filled before."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT 1 FROM traces LIMIT 1").fetchone() is not None


def time_queries(url: str, rounds: int) -> None:
    """Print the 95th percentile of every query, and what its plan read."""
    pick = random.Random(1)
    print(f"{'query':44}{'p95 ms':>8}{'median':>8}{'bound':>8}  read")
    with psycopg.connect(url, autocommit=True) as connection:
        trace_ids = [row[0] for row in connection.execute("SELECT trace_id FROM traces TABLESAMPLE SYSTEM (1)")]
        for name, statement, parameters in queries(pick, trace_ids):
            took_ms = []
            for _ in range(rounds):
                values = parameters()
                start = time.perf_counter()
                connection.execute(statement, values).fetchall()  # type: ignore[arg-type]
                took_ms.append((time.perf_counter() - start) * 1000)
            plan = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters()).fetchone()  # type: ignore[arg-type]
            took_ms.sort()
            print(
                f"{name:44}{took_ms[int(len(took_ms) * 0.95) - 1]:>8.1f}{statistics.median(took_ms):>8.1f}"
                f"{MAXIMUM_MS:>8.0f}  {', '.join(sorted(scanned(plan[0] if plan else None)))}"
            )


def queries(pick: random.Random, trace_ids: Sequence[bytes]) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """What people ask of a history."""
    midnight = datetime.fromtimestamp(NOON_NS / 1e9, UTC).replace(hour=0)
    day = {"start": midnight, "until": midnight + timedelta(days=1)}

    def an_hour(tag: str) -> dict[str, Any]:
        start = midnight + timedelta(minutes=pick.randrange(23 * 60))
        return {"start": start, "until": start + timedelta(hours=1), "service": pick.choice(SERVICES), "tag": tag}

    search = (
        "SELECT encode(trace_id, 'hex'), operation, start_time, duration_ns FROM service_traces"
        " WHERE service = %(service)s AND start_time >= %(start)s AND start_time < %(until)s"
        " AND duration_ns >= 20000000 AND attributes @> %(tag)s::jsonb ORDER BY start_time DESC LIMIT 50"
    )
    yield (
        "search: service, hour, duration, tag",
        search,
        lambda: an_hour(f'{{"http.response.status_code": {pick.choice((200, 404))}}}'),
    )
    yield ("search: the same, a rare tag", search, lambda: an_hour(f'{{"user.id": {pick.randrange(10_000)}}}'))
    yield ("search: the same, a tag nobody has", search, lambda: an_hour('{"user.id": -1}'))
    yield (
        "trace by id",
        "SELECT s.* FROM traces t JOIN service_traces s USING (trace_id)"
        " WHERE t.trace_id = %(trace_id)s AND s.start_time BETWEEN t.spans_from AND t.spans_until",
        lambda: {"trace_id": pick.choice(trace_ids)},
    )
    yield (
        "dependency graph of a day",
        "SELECT caller, callee, callee_type, sum(calls), sum(errors), sum(duration_ns), sum(gap_ns), sum(gap_calls)"
        " FROM service_dependencies WHERE start_time >= %(start)s AND start_time < %(until)s GROUP BY 1, 2, 3",
        lambda: day,
    )
    yield (
        "p95 per operation over a day",
        "WITH hours AS MATERIALIZED (SELECT service, operation, kind, duration_buckets, duration_counts"
        " FROM operation_hours WHERE start_time >= %(start)s AND start_time < %(until)s),"
        + quantiles("hours", ("service", "operation", "kind"), {"p95_ns": 0.95})
        + " SELECT service, operation, kind, p95_ns FROM quantiles",
        lambda: day,
    )


def scanned(plan: Any) -> set[str]:
    """Relations that were read, a sequential scan marked; without those that planner or executor left out."""
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "Relation Name" in node and node["Actual Loops"]:
                found.add(node["Relation Name"] + (" (seq)" if node.get("Node Type") == "Seq Scan" else ""))
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(plan)
    return found


def load_day(url: str, spans: int) -> int:
    """Fill a day with copies of realistic traces, each with ids and times of its own, and what follows from them.

    The day before and the day after get a twentieth of it each, so that a plan that reads them shows. How many spans.
    """
    midnight_ns = NOON_NS - DAY_NS // 2
    traces = spans // SPANS_PER_TRACE
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        loaded = 0
        for day, count in ((-1, traces // 20), (0, traces), (1, traces // 20)):
            loaded += _load_traces(connection, midnight_ns + day * DAY_NS, count, first_number=loaded)
        _load_statistics(connection)
        connection.execute("VACUUM ANALYZE")
    return loaded * SPANS_PER_TRACE


def _load_traces(connection: psycopg.Connection, midnight_ns: int, count: int, first_number: int) -> int:
    patterns = [realistic_trace(number, SPANS_PER_TRACE, span_attributes=5) for number in range(200)]
    encoder, prerequisites = RowEncoder(), Prerequisites()
    step_ns = DAY_NS // max(count, 1)
    for first in range(0, count, 2000):
        batch = []
        for number in range(first, min(first + 2000, count)):
            pattern = patterns[number % len(patterns)]
            by_ns = midnight_ns + number * step_ns - pattern.start_ns
            rows = encoder.rows_of(shifted(pattern, first_number + number, by_ns), b"")
            prerequisites.ensure(connection, rows)
            batch.append(rows)
        with connection.transaction():
            copy_rows(connection, "traces", TRACE_COLUMNS, [rows.trace_row for rows in batch])
            copy_rows(connection, "service_traces", SPAN_COLUMNS, [row for rows in batch for row in rows.span_rows])
    return count


def _load_statistics(connection: psycopg.Connection) -> None:
    """The graph by the minute and operations by the hour, from the spans; buckets as the stream makes them."""
    connection.execute(
        "INSERT INTO service_dependencies SELECT date_trunc('minute', t.start_time), sum((link->>3)::bigint),"
        " sum((link->>4)::bigint), sum((link->>3)::bigint * 1000), sum((link->>4)::bigint * 1000),"
        " sum((link->>5)::bigint), sum((link->>6)::bigint), sum((link->>7)::bigint), link->>0, link->>1, link->>2"
        " FROM traces t, jsonb_array_elements(t.links) AS link GROUP BY 1, 9, 10, 11"
    )
    connection.execute(
        "INSERT INTO operation_hours SELECT hour, sum(n), sum(n) * 1000, 0, kind, service, operation,"
        " array_agg(bucket ORDER BY bucket), array_agg(n * 1000 ORDER BY bucket), '{}', '{}', NULL, NULL FROM"
        " (SELECT date_trunc('hour', start_time) AS hour, kind, service, operation,"
        "  (greatest(floor(log(2, greatest(duration_ns, 128)::numeric)) - 6, 0)::int << 6)"
        "  + (duration_ns >> greatest(floor(log(2, greatest(duration_ns, 128)::numeric)) - 6, 0)::int)::int AS bucket,"
        "  count(*) AS n FROM service_traces WHERE duration_ns > 0 GROUP BY 1, 2, 3, 4, 5) AS counted"
        " GROUP BY hour, kind, service, operation"
    )
