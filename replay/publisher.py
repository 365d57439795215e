"""The edge to the replay topic: sends records with their original times, and knows after a crash what it had sent."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from replay.errors import ReplayError
from replay.records import POSITION_HEADER, Place, ReplayRecord
from tracecore.settings import KafkaSettings
from tracecore.topics import MAX_RECORD_BYTES, REPLAY_END_HEADER, REPLAY_HEADER

logger = logging.getLogger(__name__)

_MILLISECOND_NS = 1_000_000
_POLL_MS = 200


class ReplayPublisher:
    """Sends the records of one replay. Use as an async context manager."""

    def __init__(self, kafka: KafkaSettings, topic: str, replay_id: str, max_in_flight_bytes: int) -> None:
        self._kafka = kafka
        self._topic = topic
        self._replay_id = replay_id
        self._max_in_flight_bytes = max_in_flight_bytes
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._failure: BaseException | None = None
        self._last_arrival_ns: dict[int, int] = {}
        #: Per partition, the offset behind the last acknowledged record.
        self.next_offsets: dict[int, int] = {}
        self.sent_bytes = 0
        self.partitions = 0

    async def __aenter__(self) -> "ReplayPublisher":
        self._producer = AIOKafkaProducer(
            **self._kafka.client_options(),
            acks="all",
            linger_ms=5,
            max_batch_size=MAX_RECORD_BYTES // 2,
            max_request_size=2 * MAX_RECORD_BYTES,
        )
        await self._producer.start()
        self.partitions = len(await self._producer.partitions_for(self._topic))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._producer.stop()

    async def send(self, record: ReplayRecord) -> None:
        """Hand a record to the producer; waits while more than the bound is not acknowledged."""
        while self._in_flight_bytes > self._max_in_flight_bytes:
            self._room.clear()
            await self._room.wait()
        self._raise_failure()
        self._last_arrival_ns[record.partition] = record.arrival_ns
        await self._deliver(record.partition, record.arrival_ns, record.value, record.headers(self._replay_id))

    async def tell_time(self, arrival_ns: int) -> None:
        """Tell partitions that got nothing of late that all is sent that arrived before: workers take records in the
        order of arrival over all partitions, and would wait for more."""
        for partition in range(self.partitions):
            if self._last_arrival_ns.get(partition, 0) < arrival_ns:
                self._last_arrival_ns[partition] = arrival_ns
                await self._deliver(partition, arrival_ns, b"", [(REPLAY_HEADER, self._replay_id.encode())])

    async def flush(self) -> None:
        """Wait until everything sent is stored by Kafka. Raises ``ReplayError`` if something was not."""
        await self._producer.flush()
        await asyncio.sleep(0)  # the callbacks of the last acknowledgements
        self._raise_failure()

    async def end(self, arrival_ns: int) -> dict[int, int]:
        """Tell every partition that the replay ends, and return per partition the offset behind that record."""
        headers = [(REPLAY_HEADER, self._replay_id.encode()), (REPLAY_END_HEADER, b"1")]
        for partition in range(self.partitions):
            await self._deliver(partition, self._last_arrival_ns.get(partition, arrival_ns), b"", headers)
        await self.flush()
        return dict(self.next_offsets)

    async def last_sent(self, since: Mapping[int, int]) -> dict[int, Place]:
        """Per partition, the place of the last record of this replay that stands at or behind ``since``.

        What an interrupted run sent after its last checkpoint is found here, and not sent again.
        """
        consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(self._topic, number) for number in range(self.partitions)]
            consumer.assign(partitions)
            for partition in partitions:
                consumer.seek(partition, since.get(partition.partition, 0))
            found: dict[int, Place] = {}
            waiting = set(partitions)
            while waiting:
                for partition, messages in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                    for message in messages:
                        headers = dict(message.headers)
                        if headers.get(REPLAY_HEADER) == self._replay_id.encode() and POSITION_HEADER in headers:
                            found[partition.partition] = Place.decoded(headers[POSITION_HEADER])
                            self._last_arrival_ns[partition.partition] = message.timestamp * _MILLISECOND_NS
                        self.next_offsets[partition.partition] = message.offset + 1
                for partition in list(waiting):
                    highwater = consumer.highwater(partition)
                    if highwater is not None and await consumer.position(partition) >= highwater:
                        waiting.discard(partition)
            return found
        finally:
            await consumer.stop()

    async def _deliver(self, partition: int, arrival_ns: int, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        size = len(value)
        self._in_flight_bytes += size
        self.sent_bytes += size
        delivery = await self._producer.send(
            self._topic, value, partition=partition, timestamp_ms=arrival_ns // _MILLISECOND_NS, headers=headers
        )
        delivery.add_done_callback(lambda done: self._delivered(done, partition, size))

    def _delivered(self, delivery: "asyncio.Future[Any]", partition: int, size: int) -> None:
        self._in_flight_bytes -= size
        self._room.set()
        if delivery.cancelled():
            self._failure = asyncio.CancelledError()
        elif (error := delivery.exception()) is not None:
            self._failure = error
        else:
            offset = delivery.result().offset
            self.next_offsets[partition] = max(self.next_offsets.get(partition, 0), offset + 1)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise ReplayError(f"Kafka did not store the replay's records: {self._failure!r}") from (
                self._failure if isinstance(self._failure, KafkaError) else None
            )
