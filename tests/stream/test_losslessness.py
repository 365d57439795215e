"""Workers crash and stop at random moments; no trace is lost, and none is left in part."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from tests.services import KafkaServer
from tests.stream.reading import Published
from tests.stream.worker import StreamWorker
from tests.stream.workload import Load, load
from tracecore.topics import Topics

PARTITIONS = 4


@pytest.fixture
async def producer(apache_kafka: KafkaServer) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=apache_kafka.bootstrap_servers, linger_ms=5) as producer:
        yield producer


@pytest.fixture
async def published(apache_kafka: KafkaServer, make_topics: Callable[..., Topics]) -> AsyncIterator[Published]:
    published = await Published.of(apache_kafka.bootstrap_servers, make_topics(partitions=PARTITIONS))
    yield published
    await published.consumer.stop()


async def produce(producer: AIOKafkaProducer, topic: str, work: Load, duration_s: float) -> None:
    """Send the records of ``work`` evenly over ``duration_s``."""
    begin = time.monotonic()
    for number, (partition, value) in enumerate(work.records):
        await producer.send(topic, value, partition=partition)
        ahead_s = begin + duration_s * number / len(work.records) - time.monotonic()
        if ahead_s > 0.01:
            await asyncio.sleep(ahead_s)
    await producer.flush()


def complete(work: Load, published: Published) -> int:
    """How many traces were published with all their spans."""
    return sum(trace.span_count == work.spans_of[trace_id] for trace_id, trace in published.best().items())


async def test_no_trace_is_lost_or_left_in_part_when_workers_are_killed(
    producer: AIOKafkaProducer,
    published: Published,
    kafka_environment: dict[str, str],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    work = load(traces=20_000, spans_per_trace=10, partitions=PARTITIONS, seed=5, start_ns=time.time_ns())
    randomness = random.Random(time.time_ns())
    first, second = (StreamWorker(kafka_environment, tmp_path / f"{name}.log") for name in ("first", "second"))
    with first, second:
        producing = asyncio.create_task(produce(producer, published.topics.spans, work, duration_s=10))
        await asyncio.sleep(randomness.uniform(1.5, 3))
        await asyncio.to_thread(second.kill)
        await asyncio.sleep(randomness.uniform(0.5, 1.5))
        second.start()
        await asyncio.sleep(randomness.uniform(2.5, 4))
        await asyncio.to_thread(first.kill)
        await asyncio.to_thread(second.kill)
        await asyncio.sleep(0.5)
        first.start(), second.start()
        await producing
        await published.until(
            lambda p: len(p.revisions) == len(work.spans_of) and complete(work, p) == len(work.spans_of),
            120,  # a few seconds on two free cores; a crowded machine takes its time
            "every trace complete",
        )
    assert published.revisions.keys() == work.spans_of.keys()
    emitted_again = sum(len(revisions) - 1 for revisions in published.revisions.values())
    record_property("emitted_again", emitted_again)
    print(f"traces {len(work.spans_of)}, lost 0, left in part 0, emitted again {emitted_again}")  # noqa: T201


async def test_a_worker_that_is_stopped_hands_over_and_nothing_is_published_twice(
    producer: AIOKafkaProducer, published: Published, kafka_environment: dict[str, str], tmp_path: Path
) -> None:
    work = load(traces=4_000, spans_per_trace=10, partitions=PARTITIONS, seed=6, start_ns=time.time_ns())
    first, second = (
        StreamWorker(kafka_environment, tmp_path / f"{name}.log", settle_s="2") for name in ("first", "second")
    )
    with first, second:
        producing = asyncio.create_task(produce(producer, published.topics.spans, work, duration_s=8))
        await asyncio.sleep(3)
        assert await asyncio.to_thread(second.terminate) == 0
        await asyncio.sleep(1)
        assert await asyncio.to_thread(first.terminate) == 0
        # One alone: a worker that joins takes partitions from one that lives, and those are read from the watermark.
        first.start()
        await producing
        await published.until(lambda p: complete(work, p) == len(work.spans_of), 90, "every trace complete")
        await published.until_quiet()
    assert published.revisions.keys() == work.spans_of.keys()
    # Spans that came late amend a trace: that is a revision of its own, with more spans. The same again is what must
    # not be.
    for revisions in published.revisions.values():
        counts = [trace.span_count for trace in revisions]
        assert counts == sorted(set(counts)), [(t.span_count, t.reason, t.revision) for t in revisions]
    amended = sum(len(revisions) > 1 for revisions in published.revisions.values())
    assert amended < len(work.spans_of) / 20
