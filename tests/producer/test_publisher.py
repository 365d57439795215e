"""The gateway's publisher leaves nothing behind, however Kafka comes and goes."""

import asyncio
import gc
import warnings

import pytest
from aiokafka.errors import KafkaError

from tests.conftest import MakeTopic
from tests.services import KafkaServer, delete_topics
from tracewatch.gateway.publisher import Publisher
from tracewatch.gateway.settings import GatewaySettings
from tracewatch.kafka import close_producer, kafka_producer
from tracewatch.records import EncodedSpan, framed
from tracewatch.settings import KafkaSettings


def complaints() -> list[str]:
    """What the event loop has to say of things that nobody closed or asked for; filled as it says it."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    return told


def spans() -> list[EncodedSpan]:
    return [(bytes(15) + b"\1", (b"", b""), framed(b""))]


async def test_a_health_check_and_a_round_at_the_same_time_share_a_producer(
    kafka: KafkaServer, make_topic: MakeTopic
) -> None:
    told = complaints()
    publisher = Publisher(GatewaySettings(KafkaSettings(kafka.bootstrap_servers), make_topic("spans")))
    await publisher.start()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        _, *connected = await asyncio.gather(
            publisher.publish(spans(), 1), *(publisher.is_connected() for _ in range(5))
        )
        await publisher.stop()
        gc.collect()
    assert connected == [True] * 5
    assert told == []
    assert [str(warning.message) for warning in warned] == []


async def test_a_producer_is_closed_though_its_spans_are_never_taken(
    apache_kafka: KafkaServer, make_topic: MakeTopic
) -> None:
    topic = make_topic("spans")
    told, before = complaints(), asyncio.all_tasks()
    settings = KafkaSettings(apache_kafka.bootstrap_servers)
    producer = kafka_producer(settings, client_id="test", request_timeout_ms=1000)
    await producer.start()
    await producer.partitions_for(topic)
    delete_topics(apache_kafka.bootstrap_servers, topic)
    acknowledged = await producer.send(topic, b"value")
    await close_producer(producer, 0.1)
    assert not acknowledged.done()  # it was not waited for
    _, left = await asyncio.wait(asyncio.all_tasks() - before, timeout=5)
    assert not left
    with pytest.raises(KafkaError):
        await acknowledged
    del acknowledged, producer
    gc.collect()
    assert told == []
