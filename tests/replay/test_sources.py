"""Every source, from the command to the rows, and to what a person sees of them."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from replay.records import POSITION_HEADER
from tests.replay.deployment import Deployment, deployment
from tests.services import KafkaServer, PostgresServer
from tests.tracecore.builders import T0_NS, order_spans
from tracecore.dead_letter import dead_letter_headers
from tracecore.errors import UndecodableRecord
from tracecore.otlp import encode_spans
from tracecore.topics import REPLAY_END_HEADER, REPLAY_HEADER

#: When the spans arrived, in 2023: a time that no broker would stamp now.
LONG_AGO_MS = T0_NS // 1_000_000 + 3_123


@pytest.fixture(scope="module")
def made(
    kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with deployment(kafka, postgres, migrated_template, tmp_path_factory.mktemp("sources")) as running:
        yield running


def request(trace: int) -> bytes:
    """One trace as the Collector sends it."""
    return encode_spans(order_spans(trace))


def as_json(request: bytes) -> bytes:
    return MessageToJson(ExportTraceServiceRequest.FromString(request), indent=None).encode()


def is_stored(made: Deployment, trace: int) -> bool:
    (span, *_) = order_spans(trace)
    return bool(made.count("SELECT count(*) FROM traces WHERE trace_id = %s", span.trace_id))


def test_the_collectors_topic_is_replayed_with_its_times_and_the_replays_id(made: Deployment) -> None:
    made.another_unfinished()  # as long as one is, a replay that is done leaves the topic as it is
    # A topic whose producers set the time, in protobuf and in JSON; partitions by chance.
    topic = f"{made.topics.prefix}collected"
    made.create_topic(topic, {"message.timestamp.before.max.ms": str(2**63 - 1), "retention.ms": "-1"})
    made.send([(0, request(1)), (1, as_json(request(2)))], topic, timestamp_ms=LONG_AGO_MS)
    said = made.replay("run", "--name", "collected", "--topic", topic)
    assert " 2 traces new" in said, said
    replay_id = str(made.query("SELECT replay_id FROM replays WHERE name = 'collected'")[0][0]).encode()
    records = [r for r in made.records(made.topics.replay) if dict(r.headers).get(REPLAY_HEADER) == replay_id]
    carrying = [r for r in records if POSITION_HEADER in dict(r.headers)]
    assert len(carrying) == 2
    assert {r.timestamp for r in records} == {LONG_AGO_MS}
    assert sum(REPLAY_END_HEADER in dict(r.headers) for r in records) == 2
    # By time: what lies outside is not read, whatever the broker's index says.
    assert "0 records" in made.replay("run", "--dry-run", "--topic", topic, "--from", "2023-11-15")
    assert "2 records" in made.replay("run", "--dry-run", "--topic", topic, "--to", "2023-11-15")


def test_otlp_spans_itself_is_a_source(made: Deployment) -> None:
    made.send([(0, request(3))], made.topics.otlp_spans)
    assert " 1 traces new" in made.replay("run", "--topic", made.topics.otlp_spans)
    assert is_stored(made, 3)


def test_what_was_refused_once_is_replayed_and_what_still_cannot_be_read_is_counted(made: Deployment) -> None:
    origin = UndecodableRecord(made.topics.spans, 0, 17, "an older version could not")
    letters = [(0, request(4)), (0, b"\xff\xffno protobuf")]
    made.send(letters, made.topics.dead_letters, headers=dead_letter_headers(origin))
    said = made.replay("run", "--topic", made.topics.dead_letters)
    assert " 1 traces new" in said, said
    assert "1 records or spans could not be read" in said, said
    assert is_stored(made, 4)


def test_json_lines_in_gzip_are_a_source(made: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "day.json.gz"
    path.write_bytes(gzip.compress(as_json(request(5)) + b"\n" + as_json(request(6)) + b"\n"))
    assert " 2 traces new" in made.replay("run", "--otlp", str(path))
    assert is_stored(made, 5) and is_stored(made, 6)
