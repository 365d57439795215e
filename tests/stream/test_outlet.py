"""What the outlet sends is stored in its order, once, or the failure is told; compiled or not."""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from quickstart.apache_kafka import ApacheKafka
from stream import record_batches
from stream.errors import DeliveryFailed
from stream.outgoing import OutgoingRecord, OutgoingRun
from stream.outlet import Outlet
from stream.producing import Producer
from tests.services import KafkaServer, create_topic

PARTITIONS = 3
LINGER_S = 0.005


@pytest.fixture(params=["compiled", "not compiled", "compressed"])
async def producer(request: pytest.FixtureRequest, kafka: KafkaServer) -> AsyncIterator[AIOKafkaProducer]:
    if request.param == "compiled" and not record_batches.warm_up():
        pytest.skip("this processor has no CRC of its own")
    if request.param == "not compiled":
        record_batches._warm.clear()
    compression = "gzip" if request.param == "compressed" else None
    options = {"acks": "all", "max_batch_size": 20_000, "compression_type": compression}
    async with Producer(bootstrap_servers=kafka.bootstrap_servers, **options) as producer:
        assert isinstance(producer.create_batch(), record_batches.RecordBatch) == (request.param == "compiled")
        yield producer


def outlet_of(producer: Any) -> Outlet:
    """An outlet of what Faust's app gives it: a producer."""
    return Outlet(SimpleNamespace(producer=SimpleNamespace(_producer=producer)), LINGER_S)  # type: ignore[arg-type]


async def stored(kafka: KafkaServer, topic: str, count: int) -> dict[int, list[Any]]:
    """The records of each partition, once there are ``count``."""
    found: dict[int, list[Any]] = defaultdict(list)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.bootstrap_servers, auto_offset_reset="earliest")
    async with asyncio.timeout(20), consumer:
        while sum(map(len, found.values())) < count:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                found[tp.partition] += records
    return found


async def test_each_partition_stores_its_records_in_the_order_in_which_they_were_sent(
    producer: AIOKafkaProducer, kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("out", partitions=PARTITIONS)
    outlet = outlet_of(producer)
    chance = random.Random(1)
    sent: dict[int, list[bytes]] = defaultdict(list)
    for call in range(60):
        # Some calls fill several batches of a partition, some leave a little for the linger, some are overtaken by it.
        records = []
        for _ in range(chance.choice([1, 3, 40])):
            partition = chance.randrange(PARTITIONS)
            value = b"%d " % outlet.sent_total + b"%d" % len(records) + bytes(chance.choice([10, 3_000]))
            records.append(
                OutgoingRecord(topic, b"", value, None, (("name", b"value"),) if call % 2 else (), partition)
            )
            sent[partition].append(value)
        await outlet.send(records)
        await asyncio.sleep(chance.choice([0, 0, 2 * LINGER_S]))
    await outlet.flush()
    found = await stored(kafka, topic, outlet.sent_total)
    assert {partition: [record.value for record in records] for partition, records in found.items()} == sent
    assert {record.key for records in found.values() for record in records} == {None}
    assert {record.headers for records in found.values() for record in records} == {(), (("name", b"value"),)}


async def test_a_run_is_stored_as_its_records_between_those_that_came_before_and_after(
    producer: AIOKafkaProducer, kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("out", partitions=PARTITIONS)
    outlet = outlet_of(producer)
    chance = random.Random(2)
    values = [b"%d " % number + chance.randbytes(chance.choice([5, 900])) for number in range(200)]
    ends = np.cumsum([len(value) for value in values])
    starts = ends - [len(value) for value in values]
    keys = b"".join(b"%03d" % number for number in range(200))
    packed = np.frombuffer(b"".join(values), np.uint8)
    # Of more partitions than the topic has: what they are here is the remainder.
    run = OutgoingRun(topic, keys, 3, packed, starts, ends, (("name", b"value"),), PARTITIONS + 1)
    before, after = (OutgoingRecord(topic, b"key", value, None, (), 1) for value in (b"before", b"after"))
    await outlet.send([before, run, after])
    await outlet.flush()
    found = await stored(kafka, topic, 202)
    assert [record.value for record in found[1]] == [b"before", *values, b"after"]
    assert [record.key for record in found[1]] == [b"key", *(b"%03d" % number for number in range(200)), b"key"]
    assert {record.headers for record in found[1][1:-1]} == {(("name", b"value"),)}
    assert outlet.sent_total == 202


async def test_a_sender_that_is_cancelled_while_it_waits_loses_nothing_that_it_sent(
    producer: AIOKafkaProducer, kafka: KafkaServer, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("out", partitions=1)
    outlet = outlet_of(producer)
    await outlet.send([OutgoingRecord(topic, b"", b"0")])  # how many partitions there are is known from here on
    sending = asyncio.create_task(
        outlet.send(OutgoingRecord(topic, b"", b"%d" % n + bytes(10_000)) for n in range(1, 100))
    )
    await asyncio.sleep(0)
    assert outlet.sent_total == 100 and not sending.done(), "waits for the first of fifty batches to be under way"
    sending.cancel()
    await asyncio.wait([sending])
    await outlet.flush()
    found = await stored(kafka, topic, 100)
    assert [int(record.value.rstrip(b"\0")) for record in found[0]] == list(range(100))


async def test_a_record_that_is_too_large_is_dropped_alone_and_said(
    producer: AIOKafkaProducer, kafka: KafkaServer, make_topic: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    topic = make_topic("out", config={"max.message.bytes": "50000"})
    outlet = outlet_of(producer)
    large = random.Random(1).randbytes(200_000)
    with caplog.at_level(logging.ERROR, "stream.outlet"):
        await outlet.send(OutgoingRecord(topic, b"key", value) for value in (b"before", large, b"after"))
        await outlet.flush()
    found = await stored(kafka, topic, 2)
    assert [(record.key, record.value) for record in found[0]] == [(b"key", b"before"), (b"key", b"after")]
    assert outlet.oversized_total == 1
    assert len(caplog.records) == 1


async def test_a_broker_that_is_gone_is_told_by_flush_and_one_that_comes_back_gets_everything(
    crashable_kafka: ApacheKafka,
) -> None:
    record_batches.warm_up()
    create_topic(crashable_kafka.bootstrap_servers, "out", 1, {})
    options = {"bootstrap_servers": crashable_kafka.bootstrap_servers, "acks": "all"}
    async with (
        Producer(**options, request_timeout_ms=40_000) as patient,
        Producer(**options, request_timeout_ms=2_000) as impatient,
    ):
        outlets = [outlet_of(producer) for producer in (patient, impatient)]
        for outlet in outlets:
            await outlet.send([OutgoingRecord("out", b"", b"before")])
            await outlet.flush()
        crashable_kafka.kill()
        for outlet in outlets:
            await outlet.send([OutgoingRecord("out", b"", b"while it was gone")])
        with pytest.raises(DeliveryFailed):
            await outlets[1].flush()
        crashable_kafka.start()
        await outlets[0].flush()
    found = await stored(KafkaServer(crashable_kafka.bootstrap_servers, "apache"), "out", 3)
    assert [record.value for record in found[0]].count(b"while it was gone") >= 1
