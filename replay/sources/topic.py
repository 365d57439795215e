"""A stretch of a topic: any retained topic whose records are OTLP.

Times are checked as records are read, so a broker whose time index is wrong costs time and nothing else. Partitions are
merged by (time, partition, offset): the same order each time.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from replay.errors import SourceUnreadable
from replay.records import SourceRecord
from replay.stretch import Stretch
from tracecore.settings import KafkaSettings
from tracecore.topics import HANDOVER_HEADER

logger = logging.getLogger(__name__)

_MILLISECOND_NS = 1_000_000
_POLL_MS = 200
#: Records of each partition that are read ahead; the rest of the topic waits in Kafka.
_READ_AHEAD = 500
_FIRST_ANSWER_S = 30.0


class TopicStretch:
    """The records of a topic whose time lies in ``stretch``; its end must be set and not lie in the future.

    ``offsets`` narrows partitions down to ranges of offsets, the end exclusive; partitions that it does not name
    are left out.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        stretch: Stretch,
        offsets: dict[int, tuple[int, int | None]] | None = None,
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._stretch = stretch
        self._offsets = offsets
        self.total_records: int | None = None

    @property
    def name(self) -> str:
        """``topic:NAME``."""
        return f"topic:{self._topic}"

    async def records(self) -> AsyncIterator[SourceRecord]:
        """Records by time; what a stopping stream worker left for its successor stands twice and is passed over."""
        consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8_000_000,
        )
        try:
            await consumer.start()
            partitions = await self._partitions(consumer)
            await self._seek(consumer, partitions)
            position = 0
            async for message in self._merged(consumer, partitions):
                if not any(key == HANDOVER_HEADER for key, _ in message.headers):
                    yield SourceRecord(position, message.timestamp * _MILLISECOND_NS, message.value or b"")
                    position += 1
        except (KafkaError, OSError) as error:
            raise SourceUnreadable(f"{self.name} at {self._kafka.bootstrap_servers}: {error!r}") from None
        finally:
            await consumer.stop()

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        # partitions_for_topic only knows topics that metadata was asked for.
        topics = await consumer.topics()
        if self._topic not in topics:
            raise SourceUnreadable(f"there is no topic {self._topic} at {self._kafka.bootstrap_servers}")
        numbers = sorted(consumer.partitions_for_topic(self._topic) or ())
        if self._offsets is not None:
            unknown = sorted(set(self._offsets) - set(numbers))
            if unknown:
                raise SourceUnreadable(f"{self._topic} has no partition {unknown[0]}; it has {len(numbers)}")
            numbers = sorted(self._offsets)
        return [TopicPartition(self._topic, number) for number in numbers]

    async def _seek(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        by_time: dict[TopicPartition, Any] = {}
        if self._stretch.from_ns is not None:
            by_time = await consumer.offsets_for_times(
                dict.fromkeys(partitions, -(-self._stretch.from_ns // _MILLISECOND_NS))
            )
        for partition in partitions:
            found = by_time.get(partition)
            start: int = max(found.offset if found else 0, beginnings[partition])
            if self._offsets is not None:
                start = max(start, self._offsets[partition.partition][0])
            consumer.seek(partition, start)

    async def _merged(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> AsyncIterator[Any]:
        ahead: dict[TopicPartition, deque[Any]] = {partition: deque() for partition in partitions}
        unfinished = set(partitions)
        # Without an answer about a partition it is not known whether it has anything to give.
        deadline = asyncio.get_running_loop().time() + _FIRST_ANSWER_S
        while unfinished or any(ahead.values()):
            while unfinished and not all(ahead[partition] for partition in unfinished):
                full = [partition for partition in unfinished if len(ahead[partition]) >= _READ_AHEAD]
                consumer.pause(*full)
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=2000)
                consumer.resume(*full)
                for partition, messages in batches.items():
                    if partition in unfinished and self._take(messages, ahead[partition]):
                        unfinished.discard(partition)
                for partition in list(unfinished):
                    highwater = consumer.highwater(partition)
                    if highwater is not None and await consumer.position(partition) >= highwater:
                        unfinished.discard(partition)
                    elif highwater is None and asyncio.get_running_loop().time() > deadline:
                        raise SourceUnreadable(f"{self.name}: no answer about partition {partition.partition}")
            # Until the next refill, what is oldest of all that stands at a head is oldest of all.
            while any(ahead.values()) and all(ahead[partition] for partition in unfinished):
                oldest = min(
                    (partition for partition in partitions if ahead[partition]),
                    key=lambda partition: (ahead[partition][0].timestamp, partition.partition),
                )
                yield ahead[oldest].popleft()

    def _take(self, messages: list[Any], ahead: deque[Any]) -> bool:
        """Keep what belongs to the stretch; True once its end was seen."""
        for message in messages:
            end = self._offsets[message.partition][1] if self._offsets is not None else None
            arrival_ns = message.timestamp * _MILLISECOND_NS
            if self._stretch.is_past(arrival_ns) or (end is not None and message.offset >= end):
                return True
            if self._stretch.holds(arrival_ns):
                ahead.append(message)
        return False
