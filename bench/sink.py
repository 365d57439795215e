"""The sink's rows a second and CPU a row beside server-side COPY, and the queries of a history of five million spans.

Rows: topic -> python -m sink -> PostgreSQL, one sink and two, each beside COPY FROM a prepared file on the server, into
the same tables with the same indexes, in the same run. Queries: --queries [--spans N].
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from aiokafka import AIOKafkaProducer

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_postgres import EmbeddedPostgres
from sink import binary
from sink.postgres import copy_rows
from sink.prerequisites import Prerequisites
from sink.rows import DAY_NS, SPAN_COLUMNS, TRACE_COLUMNS, RowEncoder, TraceRows
from tests import services
from tests.sink.builders import NOON_NS, SpanSpec, spans_of
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.partition import partition_of
from tracecore.topics import Topics
from tracecore.wire import encode_trace

PARTITIONS = 4
ROOT = Path(__file__).resolve().parents[1]
MINIMUM_ONE, MINIMUM_TWO, MAXIMUM_CPU_US, MAXIMUM_QUERY_MS = 0.5, 0.85, 8.0, 300.0
SERVICES = ("frontend", "cart", "checkout", "payment", "inventory", "shipping", "currency", "recommend")
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "python-requests/2.32.3", "okhttp/4.12.0")
QUERY_TEXT = "SELECT id, total_cents, status FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 50"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench sink", description=__doc__.partition("\n")[0])
    parser.add_argument("--traces", type=int, default=4000, help="traces of the first part, 15 spans each (4000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the first part; the median counts (3)")
    parser.add_argument("--queries", action="store_true", help="load a day and time the queries instead")
    parser.add_argument("--spans", type=int, default=5_000_000, help="spans of the second part (5 000 000)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(log_path=Path(folder) / "postgres.log"))
        services.migrate(postgres.url)
        if chosen.queries:
            time_queries(postgres.url, chosen.spans)
            return
        kafka = stack.enter_context(ApacheKafka(log_path=Path(folder) / "kafka.log"))
        time_rows(postgres, kafka.bootstrap_servers, Path(folder), chosen.traces, chosen.rounds)


# ---- rows a second ----


def time_rows(postgres: EmbeddedPostgres, bootstrap_servers: str, folder: Path, count: int, rounds: int) -> None:
    """Print rows a second of the sink and of COPY, interleaved."""
    traces = [realistic_trace(number, 15) for number in range(count)]
    encoder = RowEncoder()
    rows = [encoder.rows_of(trace, b"") for trace in traces]
    spans = sum(len(each.span_rows) for each in rows)
    topics = Topics("bench.")
    asyncio.run(produce(bootstrap_servers, topics, traces))
    files = prepared_files(rows, postgres)
    environment = {
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "TRACEWATCH_KAFKA_TOPIC_PREFIX": topics.prefix,
        "TRACEWATCH_DATABASE_URL": postgres.url,
        "TRACEWATCH_SINK_PORT": "0",
        "TRACEWATCH_SINK_RETENTION_INTERVAL_S": "0",
    }
    found: dict[str, list[float]] = {"COPY": [], "one": [], "two": [], "cpu one": [], "cpu two": []}
    for number in range(rounds):
        clear(postgres.url, rows)
        found["COPY"].append(spans / copied_s(postgres.url, files))
        for name, sinks in (("one", 1), ("two", 2)):
            clear(postgres.url, rows)
            took_s, cpu_s = consumed_s(
                postgres.url, {**environment, "TRACEWATCH_SINK_GROUP_ID": f"{name}{number}"}, sinks, count, folder
            )
            found[name].append(spans / took_s)
            found[f"cpu {name}"].append(cpu_s / spans * 1e6)
    copied, one, two = (statistics.median(found[name]) for name in ("COPY", "one", "two"))
    cpu = statistics.median(found["cpu one"])
    print(
        f"{spans} spans in {count} traces, {statistics.mean(map(len, each_row(rows))):.0f} B a row; medians of {rounds}"
    )
    print(f"{'':28}{'rows/s':>10}{'ratio':>8}{'bound':>8}")
    print(f"{'server-side COPY of a file':28}{copied:>10.0f}")
    print(f"{'one sink':28}{one:>10.0f}{one / copied:>8.2f}{'>= ' + str(MINIMUM_ONE):>8}")
    print(f"{'two sinks':28}{two:>10.0f}{two / copied:>8.2f}{'>= ' + str(MINIMUM_TWO):>8}")
    print(f"{'our CPU, us a row':28}{cpu:>10.1f}{'':>8}{'<= ' + str(MAXIMUM_CPU_US):>8}")


def each_row(rows: Sequence[TraceRows]) -> Iterator[bytes]:
    """Every span's row."""
    for each in rows:
        yield from each.span_rows


async def produce(bootstrap_servers: str, topics: Topics, traces: Sequence[ClosedTrace]) -> None:
    """Create the topics and fill that of the traces."""
    for spec in topics.specs():
        partitions = PARTITIONS if spec.partitioned else 1
        await asyncio.to_thread(services.create_topic, bootstrap_servers, spec.name, partitions, dict(spec.config))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, linger_ms=20, max_batch_size=262_144)
    await producer.start()
    try:
        for trace in traces:
            for value in encode_trace(trace):
                partition = partition_of(trace.trace_id, PARTITIONS)
                await producer.send(topics.traces, value, key=trace.trace_id.hex().encode(), partition=partition)
        await producer.flush()
    finally:
        await producer.stop()


def prepared_files(rows: Sequence[TraceRows], postgres: EmbeddedPostgres) -> list[tuple[str, str, Path]]:
    """What COPY reads on the server: one file of traces, one of spans, where the server's account can read them."""
    folder = Path(tempfile.mkdtemp(prefix="tracewatch-bench-"))
    folder.chmod(0o755)
    made = []
    for table, columns, content in (
        ("traces", TRACE_COLUMNS, [each.trace_row for each in rows]),
        ("service_traces", SPAN_COLUMNS, list(each_row(rows))),
    ):
        path = folder / f"{table}.copy"
        path.write_bytes(binary.HEADER + b"".join(content) + binary.TRAILER)
        path.chmod(0o644)
        made.append((table, columns, path))
    return made


def clear(url: str, rows: Sequence[TraceRows]) -> None:
    """Empty tables, their partitions made."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE traces, service_traces, service_dependencies, error_groups, error_group_minutes, sink_offsets,"
            " resources, scopes"
        )
        Prerequisites().ensure_days(connection, {day for each in rows for day in each.days})
        connection.execute("CHECKPOINT")


def copied_s(url: str, files: Sequence[tuple[str, str, Path]]) -> float:
    """How long COPY of the files takes, with the sink's own setting for commits."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        began = time.perf_counter()
        with connection.transaction():
            for table, columns, path in files:
                connection.execute(f"COPY {table} ({columns}) FROM '{path}' (FORMAT binary)")  # type: ignore[arg-type]
        return time.perf_counter() - began


def consumed_s(url: str, environment: dict[str, str], sinks: int, traces: int, folder: Path) -> tuple[float, float]:
    """From the first offset stored to the last trace stored, and the CPU of the sinks in it."""
    with psycopg.connect(url, autocommit=True) as connection, ExitStack() as stack:
        running = []
        for number in range(sinks):
            log = stack.enter_context((folder / f"sink-{number}.log").open("ab"))
            process = subprocess.Popen(
                [sys.executable, "-m", "sink"], cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append(process)
        first = waited(connection, lambda count: count > 0)
        began, cpu_before = time.perf_counter(), sum(cpu_s(process.pid) for process in running)
        waited(connection, lambda count: count >= traces)
        share = (traces - first) / traces
        cpu = sum(cpu_s(process.pid) for process in running) - cpu_before
        return (time.perf_counter() - began) / share, cpu / share


def waited(connection: psycopg.Connection, holds: Callable[[int], bool], timeout_s: float = 120) -> int:
    """Count of traces as soon as it ``holds``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        # Counted by offsets: counting the rows would cost the server what is to be measured.
        (count,) = connection.execute("SELECT coalesce(sum(next_offset), 0)::int FROM sink_offsets").fetchone() or (0,)
        if holds(count):
            return int(count)
        time.sleep(0.01)
    raise TimeoutError(f"{count} traces after {timeout_s} s")


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- queries ----


def time_queries(url: str, spans: int) -> None:
    """Load a day of ``spans`` and print the 95th percentile of every query, and what its plan reads."""
    began = time.perf_counter()
    loaded = load_day(url, spans)
    print(f"{loaded} spans of a day and two more days' partitions, loaded in {time.perf_counter() - began:.0f} s")
    pick = random.Random(1)
    print(f"{'query':44}{'p95 ms':>8}{'median':>8}{'bound':>8}  partitions read")
    with psycopg.connect(url, autocommit=True) as connection:
        trace_ids = [row[0] for row in connection.execute("SELECT trace_id FROM traces LIMIT 2000")]
        for name, statement, parameters in queries(pick, trace_ids):
            took_ms = []
            for _ in range(40):
                values = parameters()
                start = time.perf_counter()
                connection.execute(statement, values).fetchall()  # type: ignore[arg-type]
                took_ms.append((time.perf_counter() - start) * 1000)
            plan = connection.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters()).fetchone()  # type: ignore[arg-type]
            took_ms.sort()
            print(
                f"{name:44}{took_ms[int(len(took_ms) * 0.95) - 1]:>8.1f}{statistics.median(took_ms):>8.1f}"
                f"{MAXIMUM_QUERY_MS:>8.0f}  {', '.join(sorted(scanned(plan[0] if plan else None)))}"
            )


def queries(pick: random.Random, trace_ids: Sequence[bytes]) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """What people ask of a history."""
    noon = datetime.fromtimestamp(NOON_NS / 1e9, UTC)
    midnight = noon.replace(hour=0)

    def an_hour() -> dict[str, Any]:
        start = midnight + timedelta(minutes=pick.randrange(23 * 60))
        return {"start": start, "until": start + timedelta(hours=1), "service": pick.choice(SERVICES)}

    yield (
        "search: service, hour, duration, tag",
        "SELECT encode(trace_id, 'hex'), operation, start_time, duration_ns FROM service_traces"
        " WHERE service = %(service)s AND start_time >= %(start)s AND start_time < %(until)s"
        " AND duration_ns >= 20000000 AND attributes @> %(tag)s::jsonb ORDER BY start_time DESC LIMIT 50",
        lambda: an_hour() | {"tag": f'{{"http.response.status_code": {pick.choice((200, 404, 500))}}}'},
    )
    yield (
        "search: the same, a tag nobody has",
        "SELECT encode(trace_id, 'hex'), operation, start_time, duration_ns FROM service_traces"
        " WHERE service = %(service)s AND start_time >= %(start)s AND start_time < %(until)s"
        " AND duration_ns >= 20000000 AND attributes @> '{\"user.id\": -1}' ORDER BY start_time DESC LIMIT 50",
        an_hour,
    )
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
        lambda: {"start": midnight, "until": midnight + timedelta(days=1)},
    )
    yield (
        "p95 per operation over a day",
        # Series by number while buckets are added up: hashing three names for each bucket would take a third longer.
        "WITH hours AS MATERIALIZED (SELECT dense_rank() OVER (ORDER BY service, operation, kind)::int AS series,"
        " service, operation, kind, duration_buckets, duration_counts FROM operation_hours"
        " WHERE start_time >= %(start)s AND start_time < %(until)s), merged AS (SELECT series, bucket,"
        " sum(count)::bigint AS count FROM hours, unnest(duration_buckets, duration_counts) AS h (bucket, count)"
        " GROUP BY series, bucket), quantiles AS (SELECT series, sum(count) / 1000 AS spans,"
        " histogram_quantile(array_agg(bucket), array_agg(count), 0.95) AS p95 FROM merged GROUP BY series)"
        " SELECT DISTINCT service, operation, kind, spans, p95 FROM quantiles JOIN hours USING (series)",
        lambda: {"start": midnight, "until": midnight + timedelta(days=1)},
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
    """Fill a day with copies of realistic traces, each with ids and times of its own, and what follows from them."""
    patterns = [realistic_trace(number, 15, span_attributes=5) for number in range(200)]
    midnight_ns = NOON_NS - DAY_NS // 2
    count = spans // 15
    step_ns = DAY_NS // count
    encoder = RowEncoder()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        prerequisites = Prerequisites()
        prerequisites.ensure_days(connection, [midnight_ns // DAY_NS + day for day in (-1, 0, 1)])
        for first in range(0, count, 2000):
            batch = []
            for number in range(first, min(first + 2000, count)):
                pattern = patterns[number % len(patterns)]
                moved = shifted(pattern, number, midnight_ns + number * step_ns - pattern.start_ns)
                batch.append(encoder.rows_of(moved, b""))
            for rows in batch:
                prerequisites.ensure(connection, rows)
            with connection.transaction():
                copy_rows(connection, "traces", TRACE_COLUMNS, [rows.trace_row for rows in batch])
                copy_rows(connection, "service_traces", SPAN_COLUMNS, list(each_row(batch)))
        _load_statistics(connection)
        connection.execute("ANALYZE")
    return count * 15


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


def shifted(trace: ClosedTrace, number: int, by_ns: int) -> ClosedTrace:
    """The same trace at another time and under another id; its spans take a little longer or shorter."""
    from dataclasses import replace

    pick = random.Random(number)
    spans = tuple(
        span._replace(
            start_ns=span.start_ns + by_ns, end_ns=span.end_ns + by_ns + pick.randrange(span.end_ns - span.start_ns)
        )
        for span in trace.spans
    )
    return replace(
        trace,
        trace_id=pick.randbytes(16),
        spans=spans,
        start_ns=trace.start_ns + by_ns,
        end_ns=trace.end_ns + by_ns,
        first_arrival_ns=trace.first_arrival_ns + by_ns,
        last_arrival_ns=trace.last_arrival_ns + by_ns,
    )


# ---- traces ----


def realistic_trace(number: int, spans: int, span_attributes: int = 10) -> ClosedTrace:
    """A trace of eight services with about ten attributes a span, one in a hundred spans failing."""
    pick = random.Random(number)
    start_ns = NOON_NS + number * 20_000_000
    specs = [SpanSpec(1, service=SERVICES[0], name="GET /", duration_ms=pick.lognormvariate(4.6, 0.8))]
    for span_id in range(2, spans + 1):
        parent = pick.choice(specs[-5:])
        is_client = parent.kind == 2
        service = parent.service if is_client else pick.choice(SERVICES)
        route = f"/api/v1/{service}/{pick.choice(('items', 'items/{id}', 'list', 'submit'))}"
        start_ms = parent.start_ms + pick.random() * parent.duration_ms * 0.5
        common = (
            ("http.request.method", "GET"),
            ("http.response.status_code", pick.choice((200, 200, 200, 201, 404))),
            ("server.address", f"{service}.prod.svc.cluster.local"),
            ("server.port", 8080),
            ("user.id", pick.randrange(10_000)),
        )
        more = (
            ("url.path", route.replace("{id}", str(pick.randrange(100_000)))),
            ("http.route", route),
            ("user_agent.original", pick.choice(AGENTS)),
            ("network.protocol.version", "1.1"),
            ("db.query.text" if is_client else "client.address", QUERY_TEXT if is_client else f"10.0.{span_id}.7"),
        )
        specs.append(
            SpanSpec(
                span_id,
                parent.span_id,
                service=service,
                name="GET" if is_client else f"GET {route}",
                kind=3 if is_client else 2,
                start_ms=start_ms,
                duration_ms=max(0.05, (parent.start_ms + parent.duration_ms - start_ms) * pick.random() * 0.9),
                error="TimeoutError" if pick.random() < 0.01 else "",
                attributes=(*common, *more)[:span_attributes],
            )
        )
    built = spans_of(pick.randbytes(16), specs, start_ns)
    arrived_ns = start_ns + 2_000_000_000
    return closed_trace(
        built[0].trace_id, built, revision=1, reason="complete", first_arrival_ns=arrived_ns, last_arrival_ns=arrived_ns
    )


if __name__ == "__main__":
    main()
