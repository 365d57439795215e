"""The recorded systems through assembly: every span is in exactly one trace; the same again gives the same bytes."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from stream.assembler import SpanBudget
from stream.hooks import Hooks
from stream.pipeline import Outgoing, Pipeline, Rules
from stream.router import decode_record, split_by_partition
from stream.settings import StreamSettings
from tests.conftest import MakeTopic
from tests.services import KafkaServer
from tests.stream.reading import Published
from tests.stream.worker import StreamWorker
from tests.tracecore.recordings import deliveries
from tracecore.otlp import decode_spans
from tracecore.topics import Topics
from tracecore.wire import decode_trace

PARTITIONS = 4
TOPICS = Topics()
#: Records of a recording that the suite reads, some 50 000 spans of each; the bench reads all.
RECORDS = {"ob22": 350, "tt29": 2_000}


def assembled(folder: Path, name: str, records: int) -> tuple[list[Outgoing], Counter[tuple[bytes, bytes]]]:
    """Everything published for the first ``records``, and how often each span was delivered."""
    settings = StreamSettings()
    rules = Rules(TOPICS, settings.limits, settings.window_limits, settings.sampling, PARTITIONS)
    budget = SpanBudget(10**7)
    pipelines = [Pipeline(partition, rules, budget, Hooks()) for partition in range(PARTITIONS)]
    delivered: Counter[tuple[bytes, bytes]] = Counter()
    out: list[Outgoing] = []
    last_ns = 0
    for offset, (arrival_ns, value) in enumerate(islice(deliveries(folder, name), records)):
        spans, rejected = decode_record(value)
        assert not rejected
        delivered.update((span.trace_id, span.raw) for span in spans)
        last_ns = max(last_ns, arrival_ns)
        for partition, share in split_by_partition(spans, PARTITIONS).items():
            out += pipelines[partition].read(share, offset, arrival_ns)
    for pipeline in pipelines:
        out += pipeline.advance(last_ns + 10**12)
        assert pipeline.first_offset is None
    return out, delivered


@pytest.mark.parametrize("name", ["ob22", "tt29"])
def test_every_span_of_a_recording_is_in_exactly_one_trace_and_a_second_run_gives_the_same_bytes(
    shared_data: Path, name: str
) -> None:
    out, delivered = assembled(shared_data, name, RECORDS[name])
    latest = {}
    for record in out:
        if record.topic == TOPICS.traces:
            trace = decode_trace(record.value)
            latest[trace.trace_id, trace.part] = trace
    found = Counter((trace.trace_id, span.raw) for trace in latest.values() for span in trace.spans)
    assert found.keys() == delivered.keys()
    assert set(found.values()) == {1}
    assert assembled(shared_data, name, RECORDS[name])[0] == out


async def test_a_recording_pushed_through_kafka_at_full_speed_loses_no_span(
    shared_data: Path, kafka: KafkaServer, make_topics: MakeTopic, kafka_environment: dict[str, str], tmp_path: Path
) -> None:
    topics = make_topics(partitions=PARTITIONS)  # type: ignore[call-arg]
    async with await Published.of(kafka.bootstrap_servers, topics) as published:
        delivered: set[tuple[bytes, bytes]] = set()
        with StreamWorker(kafka_environment, tmp_path / "stream.log", idle_s="5"):
            async with AIOKafkaProducer(
                bootstrap_servers=kafka.bootstrap_servers, max_request_size=8_000_000
            ) as producer:
                for _, value in islice(deliveries(shared_data, "ob22"), 300):
                    await producer.send(topics.otlp_spans, value)
                    delivered.update((span.trace_id, span.raw) for span in decode_spans(value)[0])
            await published.until(
                lambda p: sum(trace.span_count for trace in p.best().values()) >= len(delivered), 60, "every span"
            )
            await published.until_quiet()
        found = Counter((trace.trace_id, span.raw) for trace in published.best().values() for span in trace.spans)
        assert found.keys() == delivered
        assert set(found.values()) == {1}
