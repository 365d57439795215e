"""The sink's rows a second and CPU a row beside server-side COPY of a prepared file into the same tables.

topic -> python -m sink -> PostgreSQL, one sink and two, interleaved with COPY FROM a file on the server, into the same
tables with the same indexes; medians. Twice: a record is a trace, and what it costs is shared by fifteen rows, or by a
hundred. The sinks are started behind a lock on ``sink_offsets`` and the clock runs from when it is let go: what counts
is their work, not their start. COPY keeps one core busy, two sinks and their sessions two: what others take of a small
machine costs the sinks alone, so it is printed beside them.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
from aiokafka import AIOKafkaProducer

from bench.figures import Figure, tell
from bench.shop_traces import realistic_trace
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_postgres import EmbeddedPostgres
from sink import binary
from sink.prerequisites import Prerequisites
from sink.rows import SPAN_COLUMNS, TRACE_COLUMNS, RowEncoder, TraceRows
from tests import services
from tracecore.closed_trace import ClosedTrace
from tracecore.partition import partition_of
from tracecore.topics import Topics
from tracecore.wire import encode_trace

PARTITIONS = 4
#: Spans a trace: a usual one; and as many as a record has in the other benches.
SHAPES = (15, 100)
ROOT = Path(__file__).resolve().parents[1]
#: Of COPY's rows a second, for one sink and for two: what history is held to, and the goal for many sinks beside it.
MINIMA_ONE, MINIMA_TWO = (0.5,), (0.85, 0.9)
#: CPU of ours a row, likewise.
MAXIMA_CPU_US = (8.0, 3.0)


class Run(NamedTuple):
    """What a run took: seconds; CPU of ours, of PostgreSQL's processes, of the machine; memory of one of ours."""

    s: float
    our_cpu_s: float
    server_cpu_s: float
    machine_cpu_s: float
    peak_mb: float = 0.0

    @property
    def others(self) -> float:
        """Cores that neither we nor PostgreSQL had: Kafka's part, and whoever else is on the machine."""
        return (self.machine_cpu_s - self.our_cpu_s - self.server_cpu_s) / self.s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench sink", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--spans", type=int, default=360_000, help="spans, a row each (360000): much beside the last batch, which waits"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (3)")
    chosen = parser.parse_args()
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            postgres = stack.enter_context(EmbeddedPostgres(log_path=Path(folder) / "postgres.log"))
            services.migrate(postgres.url)
            kafka = stack.enter_context(ApacheKafka(log_path=Path(folder) / "kafka.log"))
            measure(postgres.url, kafka.bootstrap_servers, Path(folder), chosen.spans, shape, chosen.rounds)


def measure(url: str, bootstrap_servers: str, folder: Path, wanted: int, shape: int, rounds: int) -> None:
    """Print rows a second of the sink and of COPY, interleaved, of as many spans as are ``wanted``."""
    count = wanted // shape
    traces = [realistic_trace(number, shape) for number in range(count)]
    encoder = RowEncoder()
    rows = [encoder.rows_of(trace, b"") for trace in traces]
    spans = sum(len(each.span_rows) for each in rows)
    topics = Topics("bench.")
    asyncio.run(produce(bootstrap_servers, topics, traces))
    # The server reads them, which is another user.
    prepared = folder / "copy"
    prepared.mkdir()
    folder.chmod(0o755), prepared.chmod(0o755)
    whole = prepared_files([rows], prepared, "whole")
    halves = prepared_files([rows[::2], rows[1::2]], prepared, "halves")
    environment = {
        **os.environ,
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
        "TRACEWATCH_KAFKA_TOPIC_PREFIX": topics.prefix,
        "TRACEWATCH_DATABASE_URL": url,
        "TRACEWATCH_SINK_PORT": "0",
        "TRACEWATCH_SINK_COMPILED": "always",
        "TRACEWATCH_SINK_RETENTION_INTERVAL_S": "0",
    }
    runs: dict[str, list[Run]] = {"COPY": [], "two COPY": [], "one sink": [], "two sinks": []}
    for number in range(rounds):
        for name, files in (("COPY", whole), ("two COPY", halves)):
            clear(url, rows)
            runs[name].append(copied(url, files))
        for name, sinks in (("one sink", 1), ("two sinks", 2)):
            clear(url, rows)
            group = {"TRACEWATCH_SINK_GROUP_ID": f"bench-{sinks}-{number}"}
            runs[name].append(consumed(url, {**environment, **group}, sinks, count, folder))
    print(
        f"{spans} spans in {count} traces, {statistics.mean(map(len, each_row(rows))):.0f} B a row, medians of {rounds}"
    )
    print(
        f"{'':12}{'rows/s':>10}{'of COPY':>9}{'bound':>14}{'our us a row':>14}{'bound':>10}{'server us':>11}{'MB':>6}"
        f"{'other cores':>13}"
    )
    copy_s = statistics.median(run.s for run in runs["COPY"])
    for name, minima in (("COPY", ()), ("two COPY", ()), ("one sink", MINIMA_ONE), ("two sinks", MINIMA_TWO)):
        took_s, ours_s, server_s, _, peak_mb = (statistics.median(values) for values in zip(*runs[name], strict=True))
        others = statistics.median(run.others for run in runs[name])
        bounds = (f">= {_either(minima)}", f"<= {_either(MAXIMA_CPU_US)}") if minima else ("", "")
        print(
            f"{name:12}{spans / took_s:>10.0f}{copy_s / took_s:>9.2f}{bounds[0]:>14}{ours_s / spans * 1e6:>14.1f}"
            f"{bounds[1]:>10}{server_s / spans * 1e6:>11.1f}{peak_mb:>6.0f}{others:>13.2f}"
        )
        if minima:
            tell(
                (
                    Figure(
                        f"{name}, traces of {shape}, rows a second",
                        copy_s / took_s,
                        "of COPY's",
                        minima[0],
                        at_least=True,
                    ),
                    Figure(f"{name}, traces of {shape}, our CPU", ours_s / spans * 1e6, "us a row", MAXIMA_CPU_US[0]),
                )
            )


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


def prepared_files(
    writers: Sequence[Sequence[TraceRows]], folder: Path, name: str
) -> list[list[tuple[str, str, Path]]]:
    """What COPY reads on the server, a list a writer: a file of traces and one of spans."""
    made = []
    for number, rows in enumerate(writers):
        files = []
        for table, columns, content in (
            ("traces", TRACE_COLUMNS, [each.trace_row for each in rows]),
            ("service_traces", SPAN_COLUMNS, list(each_row(rows))),
        ):
            path = folder / f"{name}.{table}.{number}.copy"
            path.write_bytes(binary.HEADER + b"".join(content) + binary.TRAILER)
            path.chmod(0o644)
            files.append((table, columns, path))
        made.append(files)
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


def copied(url: str, writers: Sequence[Sequence[tuple[str, str, Path]]]) -> Run:
    """COPY of the files, a session a writer, with the sink's own setting for commits."""

    def write(connection: psycopg.Connection, files: Sequence[tuple[str, str, Path]]) -> None:
        with connection.transaction():
            for table, columns, path in files:
                connection.execute(f"COPY {table} ({columns}) FROM '{path}' (FORMAT binary)")  # type: ignore[arg-type]

    with ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(url, autocommit=True)) for _ in writers]
        for connection in connections:
            connection.execute("SET synchronous_commit = off")
        threads = [threading.Thread(target=write, args=pair) for pair in zip(connections, writers, strict=True)]
        server_s, machine_s, began = server_cpu_s(connections[0]), machine_cpu_s(), time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.perf_counter() - began
        return Run(took_s, 0.0, server_cpu_s(connections[0]) - server_s, machine_cpu_s() - machine_s)


def consumed(url: str, environment: dict[str, str], sinks: int, traces: int, folder: Path) -> Run:
    """The work of sinks that are ready, from the first read to the last trace stored."""
    with ExitStack() as stack:
        watching = stack.enter_context(psycopg.connect(url, autocommit=True))
        gate = stack.enter_context(psycopg.connect(url))
        gate.execute("LOCK TABLE sink_offsets IN EXCLUSIVE MODE")
        running = []
        for number in range(sinks):
            log = stack.enter_context((folder / f"sink-{number}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "sink"], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            running.append(process)
        # A sink asks for its offsets when it has been given partitions: once all wait, the group has come to rest.
        waited(
            watching, "SELECT count(*) FROM pg_locks WHERE relation = 'sink_offsets'::regclass AND NOT granted", sinks
        )
        logs = [folder / f"sink-{number}.log" for number in range(sinks)]
        while not all("rows are made by" in log.read_text() for log in logs):
            time.sleep(0.1)
        ours_s, server_s = sum(cpu_s(process.pid) for process in running), server_cpu_s(watching)
        machine_s = machine_cpu_s()
        began = time.perf_counter()
        gate.commit()
        # Counted by offsets: counting the rows would cost the server what is to be measured.
        waited(watching, "SELECT coalesce(sum(next_offset), 0)::int FROM sink_offsets", traces)
        took_s = time.perf_counter() - began
        return Run(
            took_s,
            sum(cpu_s(process.pid) for process in running) - ours_s,
            server_cpu_s(watching) - server_s,
            machine_cpu_s() - machine_s,
            peak_mb(running[0].pid),
        )


def waited(connection: psycopg.Connection, count: str, wanted: int, timeout_s: float = 120) -> None:
    """Return as soon as the query answers as many as are ``wanted``."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = connection.execute(count).fetchone()  # type: ignore[arg-type]
        if found and found[0] >= wanted:
            return
        time.sleep(0.01)
    raise TimeoutError(f"{count}: not {wanted} after {timeout_s} s")


def server_cpu_s(connection: psycopg.Connection) -> float:
    """CPU of the server and of all its processes, those that ended included."""
    server = _stat(connection.info.backend_pid)[1]
    children = [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _parent(entry) == server
    ]
    fields = _stat(server)
    ticks = sum(fields[11:15])
    for child in children:
        with suppress(FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            ticks += sum(_stat(child)[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def machine_cpu_s() -> float:
    """Time that all cores were busy, or had by another virtual machine."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    return sum(_stat(pid)[11:13]) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _either(bounds: Sequence[float]) -> str:
    return ", ".join(f"{bound:g}" for bound in bounds)


def _parent(entry: Path) -> int:
    try:
        return _stat(int(entry.name))[1]
    except (FileNotFoundError, ProcessLookupError):
        return -1


def _stat(pid: int) -> list[int]:
    """Fields of /proc/PID/stat after the state, which is 0 here: [1] the parent, [11:15] user and system time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return [0, *map(int, fields[1:])]


if __name__ == "__main__":
    main()
