"""A worker on a real broker: topics, dead letters, pages, and a clean end; on Apache Kafka and on the embedded one."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from quickstart.process import free_port
from tests.conftest import environment_of
from tests.services import KafkaServer, run_room
from tests.stream.reading import Published, send
from tests.stream.test_router import as_json
from tests.stream.worker import StreamWorker, wait_until
from tests.tracecore.builders import order_spans, request
from tracecore.dead_letter import ORIGIN_PARTITION_HEADER
from tracecore.partition import partition_of
from tracecore.topics import REPLAY_END_HEADER, REPLAY_HEADER, Topics


@pytest.fixture(params=["kafka", "embedded_kafka"])
def broker(request: pytest.FixtureRequest) -> KafkaServer:
    server: KafkaServer = request.getfixturevalue(request.param)
    return server


@pytest.fixture
def environment(broker: KafkaServer, topics: Topics) -> dict[str, str]:
    return {**environment_of(broker, topics), "TRACEWATCH_KAFKA_PARTITIONS": "2"}


@pytest.fixture
async def producer(broker: KafkaServer) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        yield producer


async def test_a_worker_creates_topics_assembles_what_any_writer_sends_and_starts_again(
    broker: KafkaServer, topics: Topics, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with StreamWorker(environment | {"TMPDIR": str(temporary)}, tmp_path / "stream.log") as worker:
        async with await Published.of(broker.bootstrap_servers, topics) as published:
            await producer.send(topics.otlp_spans, request(*order_spans(1)), key=b"any key")
            await producer.send(
                topics.otlp_spans, json.dumps(as_json(request(*order_spans(2)))["resourceSpans"]).encode()
            )
            await producer.send(topics.otlp_spans, b"neither", key=b"\xff")
            await producer.send(topics.spans, b"nor this", partition=1)
            await send(producer, topics.spans, [(0, request(order_spans(3)[0]._replace()))])
            await published.until(lambda p: len(p.revisions) == 3 and len(p.dead_letters) == 2, 20, "three traces")
            assert sorted(trace.span_count for trace in published.best().values()) == [1, 6, 6]
            letters = {
                dict(letter.headers)["tracewatch-origin-topic"].decode(): letter for letter in published.dead_letters
            }
            assert letters.keys() == {topics.otlp_spans, topics.spans}
            assert letters[topics.otlp_spans].value == b"neither"
            assert dict(letters[topics.spans].headers)[ORIGIN_PARTITION_HEADER] == b"1"
            status, body = worker.health()
            assert (status, body["status"]) == (200, "ok")
            assert worker.metric("closed_traces_total") == 3
            assert worker.metric("dead_letters_total") == 1
            assert worker.metric("unroutable_total") == 1
            wait_until(lambda: worker.metric("consumer_lag_records") == 0, 5, "no lag")
            assert worker.terminate() == 0
            worker.start().ready()
            await producer.send_and_wait(topics.otlp_spans, request(*order_spans(4)))
            await published.until(lambda p: len(p.revisions) == 4, 20, "a fourth trace")
            assert worker.terminate() == 0
            assert {len(revisions) for revisions in published.revisions.values()} == {1}
    assert not list(temporary.iterdir())


async def test_a_trace_is_published_soon_after_its_root_and_partitions_agree_with_producers(
    broker: KafkaServer, topics: Topics, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    with StreamWorker(environment, tmp_path / "stream.log"):
        async with await Published.of(broker.bootstrap_servers, topics) as published:
            spans = order_spans(7)
            await send(producer, topics.spans, [(partition_of(spans[0].trace_id, 2), request(*spans))])
            begun = time.monotonic()
            await published.until(lambda p: len(p.revisions) == 1, 20, "the trace")
            # Half a second of settle here; the rest is ours, and a busy machine's: a trace that waits for nothing more.
            assert time.monotonic() - begun < 5


async def test_a_replay_keeps_original_arrival_and_its_end_closes_everything(
    broker: KafkaServer, topics: Topics, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    arrival_ms = 1_700_000_000_000
    headers = [(REPLAY_HEADER, b"r1")]
    with StreamWorker(environment, tmp_path / "replay.log", source_topic=topics.replay, settle_s="2"):
        async with await Published.of(broker.bootstrap_servers, topics) as published:
            options = {"partition": 0, "headers": headers}
            await producer.send(topics.replay, request(*order_spans(1)), timestamp_ms=arrival_ms, **options)
            await producer.send(topics.replay, request(*order_spans(2)), timestamp_ms=arrival_ms + 5_000, **options)
            await published.until(lambda p: len(p.revisions) == 1, 20, "what the replay's own time closes")
            end = [*headers, (REPLAY_END_HEADER, b"")]
            await producer.send(topics.replay, b"", timestamp_ms=arrival_ms + 5_000, partition=0, headers=end)
            await published.until(lambda p: len(p.revisions) == 2, 20, "what the end closes")
            best = published.best().values()
            assert {trace.replay_id for trace in best} == {"r1"}
            assert sorted(trace.first_arrival_ns for trace in best) == [
                arrival_ms * 1_000_000,
                (arrival_ms + 5_000) * 1_000_000,
            ]


def test_a_wrong_setting_stops_the_start_and_names_the_variable() -> None:
    outcome = run_room("stream", environment={"TRACEWATCH_STREAM_SETTLE_S": "soon"})
    assert outcome.returncode == 1
    assert "TRACEWATCH_STREAM_SETTLE_S" in outcome.stderr


def test_a_broker_that_does_not_answer_is_named_with_what_to_do() -> None:
    outcome = run_room(
        "stream",
        environment={
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "TRACEWATCH_STREAM_BROKER_TIMEOUT_S": "1",
        },
    )
    assert outcome.returncode == 1
    assert "waiting for the broker" in outcome.stderr
    assert "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS" in outcome.stderr
