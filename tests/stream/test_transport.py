"""Through Faust: records that are read together come in their order, all of them, and others as Faust hands them on."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
from aiokafka import AIOKafkaProducer

from stream import transport
from stream.consumer_access import at_hand
from stream.transport import TOGETHER, together
from tests.services import KafkaServer

PARTITIONS = 2
RECORDS = 10 * TOGETHER + 3


async def test_records_of_a_partition_come_in_their_order_some_at_a_time(
    kafka: KafkaServer, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    many, single = (make_topic(name, partitions=PARTITIONS) for name in ("many", "single"))
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        for topic in (many, single):
            for number in range(RECORDS):
                await producer.send(
                    topic, b"%d" % number, b"key", partition=number % PARTITIONS, timestamp_ms=1_000 + number,
                    headers=[("name", b"value")],
                )  # fmt: skip
    app = faust.App(
        f"{many}-reader", broker=f"kafka://{kafka.bootstrap_servers}", value_serializer="raw", datadir=tmp_path,
        topic_disable_leader=True, web_enabled=False, broker_session_timeout=6.0, broker_heartbeat_interval=1.0,
        consumer_auto_offset_reset="earliest",
    )  # fmt: skip
    transport.install(app, read_together={many})
    seen: dict[str, dict[int, list[Any]]] = {topic: defaultdict(list) for topic in (many, single)}
    at_once: dict[str, list[int]] = {many: [], single: []}
    are_read = asyncio.Event()

    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            its = together(event.message)
            at_once[event.message.topic].append(len(its))
            messages = at_hand(app, stream, event, len(its) + 1)
            assert messages[: len(its)] == its
            for message in messages:
                seen[message.topic][message.tp.partition].append(message)
            if all(sum(map(len, its.values())) >= RECORDS for its in seen.values()):
                are_read.set()

    for topic in (many, single):
        app.agent(app.topic(topic, value_serializer="raw", acks=False), name=topic)(read)
    async with asyncio.timeout(40):
        await app.start()
        await are_read.wait()
    await app.stop()
    assert max(at_once[many]) == TOGETHER
    assert set(at_once[single]) == {1}
    for topic, by_partition in seen.items():
        for partition, messages in by_partition.items():
            numbers = range(partition, RECORDS, PARTITIONS)
            assert [message.value for message in messages] == [b"%d" % number for number in numbers]
            assert [message.offset for message in messages] == list(range(len(numbers)))
            assert [message.timestamp for message in messages] == [(1_000 + number) / 1_000 for number in numbers]
            assert {(message.topic, message.key, message.headers) for message in messages} == {
                (topic, b"key", (("name", b"value"),))
            }
