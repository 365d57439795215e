"""A stretch of a recorded system, moved to now and sent the live way: Kafka, stream and sink fill the database.

Span times and arrivals move together, so the pipeline sees what it would have seen live, only faster.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from replay.records import SourceRecord, replay_records, spans_of
from replay.sources.otlp_file import OtlpFile
from replay.stretch import Stretch
from sink.batches import Record
from tests import services
from tests.conftest import environment_of
from tests.replay.deployment import in_a_loop_of_its_own
from tests.services import KafkaServer
from tests.sink.harness import SinkProcess, eventually, produce
from tests.stream.worker import StreamWorker
from tracecore.topics import Topics

SECOND = 1_000_000_000
PARTITIONS = 2
#: Of tt29, Unix seconds: nineteen minutes that end while ts-contacts-service answers with errors, as it did before.
TT29 = (1_674_981_730, 1_674_982_860)
#: Nothing more comes of a stretch when the database has stood still for this long.
_STILL_S = 3.0
#: Traces, errors and roll-ups are there already: health and window alerts are awaited so long, and no test needs them.
_JUDGED_S = 45.0


@dataclass(frozen=True)
class Recorded:
    """What was sent: its first and last arrival as moved (Unix ns), and how many traces and spans."""

    start: int
    until: int
    traces: int
    spans: int


def fill(database: str, kafka: KafkaServer, logs: Path, recording: Path, first_s: int, last_s: int) -> Recorded:
    """Send what ``recording`` received in [first_s, last_s), Unix seconds, as if it ended now; wait for its storing."""
    topics = Topics("recorded.", "recorded.otlp_spans")
    environment = {
        **environment_of(kafka, topics),
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_KAFKA_PARTITIONS": str(PARTITIONS),
    }
    for spec in topics.specs():
        config = dict(spec.config)
        if spec.name == topics.spans:
            # The broker would stamp all of it with this moment.
            config["message.timestamp.type"] = "CreateTime"
        services.create_topic(kafka.bootstrap_servers, spec.name, PARTITIONS if spec.partitioned else 1, config)
    until = time.time_ns() - 5 * SECOND
    by_ns = until - last_s * SECOND
    records, trace_ids, spans = [], set(), 0
    for source in _requests(recording, first_s, last_s):
        moved = SourceRecord(source.position, source.arrival_ns + by_ns, _moved(source.value, by_ns))
        decoded, _ = spans_of(moved)
        trace_ids |= {span.trace_id for span in decoded}
        spans += len(decoded)
        records += [
            Record(topics.spans, part.partition, 0, part.arrival_ns // 1_000_000, None, part.value, ())
            for part in replay_records(moved, decoded, PARTITIONS)
        ]
    with SinkProcess(environment, logs / "recorded-sink.log") as sink:
        # Loading so much at once may keep a worker from answering its group for a while.
        worker = StreamWorker(environment, logs / "recorded-stream.log", session_timeout_s="30")
        with worker:
            produce(kafka.bootstrap_servers, records)
            eventually(lambda: _stored(database)[0], lambda count: count >= len(trace_ids), 180)
            # What the windows before the last minute say of alerts and health, if they are judged soon.
            patient_until_s = time.monotonic() + _JUDGED_S
            while _judged_until_s(database) < until / 1e9 - 60 and time.monotonic() < patient_until_s:
                time.sleep(0.5)
            _stands_still(database)
            worker.terminate()
        _stands_still(database)
        sink.terminate()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    return Recorded(first_s * SECOND + by_ns, until, len(trace_ids), spans)


def _requests(recording: Path, first_s: int, last_s: int) -> list[SourceRecord]:
    async def read() -> list[SourceRecord]:
        stretch = Stretch(first_s * SECOND, last_s * SECOND)
        return [record async for record in OtlpFile(recording, stretch).records()]

    requests: list[SourceRecord] = in_a_loop_of_its_own(read())
    return requests


def _moved(value: bytes, by_ns: int) -> bytes:
    request = ExportTraceServiceRequest.FromString(value)
    for holder in request.resource_spans:
        for scoped in holder.scope_spans:
            for span in scoped.spans:
                span.start_time_unix_nano += by_ns
                span.end_time_unix_nano += by_ns
                for event in span.events:
                    event.time_unix_nano += by_ns
    return request.SerializeToString()


def _stored(database: str) -> tuple[int, ...]:
    with psycopg.connect(database) as connection:
        return tuple(
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index, call-overload]
            for table in ("traces", "operation_windows", "service_health", "alerts")
        )


def _judged_until_s(database: str) -> float:
    with psycopg.connect(database) as connection:
        row = connection.execute(
            "SELECT coalesce(extract(epoch FROM max(start_time)), 0)::float8 FROM service_health"
        ).fetchone()
    return float(row[0]) if row else 0.0


def _stands_still(database: str) -> None:
    last, since = _stored(database), time.monotonic()
    while time.monotonic() - since < _STILL_S:
        time.sleep(0.3)
        if (now := _stored(database)) != last:
            last, since = now, time.monotonic()
