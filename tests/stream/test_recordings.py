"""The recorded systems through assembly: every span is in exactly one trace; the same again gives the same bytes."""

from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from sink.rollups import SeriesKey, newest_parts
from stream.assembler import SpanBudget
from stream.hooks import Hooks
from stream.outgoing import Outgoing, OutgoingRecord, one_by_one
from stream.pipeline import Pipeline, Rules
from stream.router import decode_record, split_by_partition
from stream.settings import StreamSettings
from stream.watermark import watermark
from tests.conftest import MakeTopic
from tests.services import KafkaServer
from tests.stream.reading import Published
from tests.stream.worker import StreamWorker
from tests.tracecore.recordings import deliveries
from tracecore.otlp import decode_spans
from tracecore.span import Span
from tracecore.topics import Topics
from tracecore.window import Window
from tracecore.wire import decode_trace, decode_window

PARTITIONS = 4
TOPICS = Topics()
#: Records of a recording that the suite reads, some 50 000 spans of each; the bench reads all.
RECORDS = {"ob22": 350, "tt29": 2_000}


def assembled(folder: Path, name: str, records: int) -> tuple[list[OutgoingRecord], Counter[tuple[bytes, bytes]]]:
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
    return list(one_by_one(out)), delivered


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


def windows_of_workers_killed_every(
    folder: Path, name: str, records: int, kill_after: int
) -> dict[tuple[int, SeriesKey, int], Window]:
    """What the history holds in the end, if each partition's worker is killed after so many of its records, and another
    begins where it had committed; a worker commits when it has read half of them, as a timer would at any moment."""
    settings = StreamSettings()
    rules = Rules(TOPICS, settings.limits, settings.window_limits, settings.sampling, PARTITIONS)
    logs: list[list[tuple[int, list[Span]]]] = [[] for _ in range(PARTITIONS)]
    for arrival_ns, value in islice(deliveries(folder, name), records):
        for partition, share in split_by_partition(decode_record(value)[0], PARTITIONS).items():
            logs[partition].append((arrival_ns, share))
    out: list[Outgoing] = []
    for partition, log in enumerate(logs):
        start, told_until_ns, read = 0, 0, 0
        while read < len(log):
            worker = Pipeline(partition, rules, SpanBudget(10**7), Hooks(), told_until_ns=told_until_ns)
            half, read = read + kill_after // 2, min(read + kill_after, len(log))
            for offset in range(start, read):
                out += worker.read(log[offset][1], offset, log[offset][0])
                if offset == half:
                    start = watermark(offset + 1, worker.first_offset)
                    told_until_ns = max(told_until_ns, worker.windows.closed_until_ns)
        out += worker.advance(log[-1][0] + 10**12)
    return newest_parts(decode_window(record.value) for record in one_by_one(out) if record.topic == TOPICS.windows)


@pytest.mark.parametrize("name", ["ob22", "tt29"])
def test_windows_of_workers_that_are_killed_are_those_of_workers_that_are_not(shared_data: Path, name: str) -> None:
    undisturbed = windows_of_workers_killed_every(shared_data, name, RECORDS[name], kill_after=10**9)
    killed = windows_of_workers_killed_every(shared_data, name, RECORDS[name], kill_after=60)
    assert len(undisturbed) > 1000
    assert killed.keys() == undisturbed.keys()
    differing = [key for key, window in killed.items() if window != undisturbed[key]]
    assert not differing


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
