"""Stretches of topics, on a broker whose index of times is wrong (the embedded one always answers offset 0)."""

import asyncio
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from replay.completion import Completion
from replay.errors import SourceUnreadable
from replay.publisher import ReplayPublisher
from replay.records import Place, ReplayRecord
from replay.sources.topic import Offsets, TopicStretch
from replay.stretch import Stretch
from tests import services
from tests.services import KafkaServer
from tracecore.settings import KafkaSettings
from tracecore.topics import HANDOVER_HEADER

MS = 1_000_000
EVERYTHING = Stretch()


@pytest.fixture
def topic(embedded_kafka: KafkaServer) -> str:
    """Ten records in two partitions, with the times 1000 to 1009 ms, but for one that a producer's clock misdated."""
    name = f"stretch-{uuid4().hex[:8]}"
    services.create_topic(embedded_kafka.bootstrap_servers, name, 2, {})

    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=embedded_kafka.bootstrap_servers)
        await producer.start()
        try:
            for number in range(10):
                time_ms = 9999 if number == 4 else 1000 + number
                headers = [(HANDOVER_HEADER, b"{}")] if number == 7 else []
                value = str(number).encode()
                await producer.send_and_wait(name, value, partition=number % 2, timestamp_ms=time_ms, headers=headers)
        finally:
            await producer.stop()

    asyncio.run(send())
    return name


def kafka_of(server: KafkaServer) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=server.bootstrap_servers)


def values(source: TopicStretch) -> list[int]:
    async def read() -> list[int]:
        return [int(record.value) async for record in source.records()]

    return asyncio.run(read())


def test_records_come_by_time_over_all_partitions_and_what_a_worker_left_is_passed_over(
    embedded_kafka: KafkaServer, topic: str
) -> None:
    # Partition 0 stands still at its misdated record until all others are told.
    assert values(TopicStretch(kafka_of(embedded_kafka), topic, EVERYTHING)) == [0, 1, 2, 3, 5, 9, 4, 6, 8]


def test_the_times_of_records_decide_not_the_index_and_a_misdated_one_ends_nothing(
    embedded_kafka: KafkaServer, topic: str
) -> None:
    assert values(TopicStretch(kafka_of(embedded_kafka), topic, Stretch(1002 * MS, 1009 * MS))) == [2, 3, 5, 6, 8]


def test_offsets_narrow_partitions_down(embedded_kafka: KafkaServer, topic: str) -> None:
    assert values(TopicStretch(kafka_of(embedded_kafka), topic, EVERYTHING, {1: (1, 3)})) == [3, 5]
    with pytest.raises(SourceUnreadable, match="no partition 7; it has 2"):
        values(TopicStretch(kafka_of(embedded_kafka), topic, EVERYTHING, {7: (0, None)}))
    with pytest.raises(SourceUnreadable, match="there is no topic nowhere"):
        values(TopicStretch(kafka_of(embedded_kafka), "nowhere", EVERYTHING))


def test_what_came_since_does_not_belong_to_the_offsets_that_were_fixed(
    embedded_kafka: KafkaServer, topic: str
) -> None:
    kafka = kafka_of(embedded_kafka)
    fixed: Offsets = asyncio.run(TopicStretch(kafka, topic, EVERYTHING).fixed_offsets())
    assert fixed == {0: (0, 5), 1: (0, 5)}

    async def publish_and_look() -> tuple[dict[int, Place], dict[int, int]]:
        async with (
            ReplayPublisher(kafka, topic, "abc", 1_000_000) as publisher,
            Completion(kafka, 10, lambda share: None) as completion,
        ):
            for position in range(3):
                record = ReplayRecord(0, 2000 * MS, b"77", Place(position, 0), 1, frozenset())
                await publisher.send(record)
            await publisher.flush()
            return await publisher.last_sent({0: 5, 1: 5}), await completion.ends(topic)

    last_sent, ends = asyncio.run(publish_and_look())
    assert last_sent == {0: Place(2, 0)}
    assert ends == {0: 8, 1: 5}
    assert 77 not in values(TopicStretch(kafka, topic, EVERYTHING, fixed))
    assert values(TopicStretch(kafka, topic, EVERYTHING)).count(77) == 3
