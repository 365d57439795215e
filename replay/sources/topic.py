"""A stretch of a topic: any retained topic whose records are OTLP.

Times are checked as records are read, so a broker whose time index is wrong costs time and nothing else. Partitions are
merged by (time, partition, offset): the same order each time, as long as the offsets are the same.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from replay.errors import SourceUnreadable
from replay.records import SourceRecord
from replay.stretch import Stretch
from replay.topic_admin import partitions_of
from tracecore.settings import KafkaSettings
from tracecore.topics import HANDOVER_HEADER

logger = logging.getLogger(__name__)

_MILLISECOND_NS = 1_000_000
_POLL_MS = 200
#: Records of each partition that are read ahead; the rest of the topic waits in Kafka.
_READ_AHEAD = 500
_FIRST_ANSWER_S = 30.0
_LOG_APPEND_TIME = 1

#: By partition, the first offset and the one behind the last; None: to the end that the topic has then.
Offsets = dict[int, tuple[int, int | None]]


class TopicStretch:
    """The records of a topic whose time lies in ``stretch``, and within ``offsets`` if they are given.

    Partitions that ``offsets`` does not name are left out then.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        stretch: Stretch,
        offsets: Offsets | None = None,
    ) -> None:
        self._kafka = kafka
        self.topic = topic
        self._stretch = stretch
        self._offsets = offsets
        self.total_records: int | None = None

    @property
    def name(self) -> str:
        """``topic:NAME``."""
        return f"topic:{self.topic}"

    async def fixed_offsets(self) -> Offsets:
        """The offsets of the stretch as the topic stands now: with them, a later reading gives the same records."""
        async with self._consumer() as consumer:
            starts = await self._seek(consumer, await self._partitions())
            deadline = asyncio.get_running_loop().time() + _FIRST_ANSWER_S
            while unknown := [partition for partition in starts if consumer.highwater(partition) is None]:
                if asyncio.get_running_loop().time() > deadline:
                    raise SourceUnreadable(f"{self.name}: no answer about partition {unknown[0].partition}")
                await consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
            fixed: Offsets = {}
            for partition, start in starts.items():
                asked = self._offsets[partition.partition][1] if self._offsets is not None else None
                end = consumer.highwater(partition) if asked is None else min(asked, consumer.highwater(partition))
                fixed[partition.partition] = (start, max(start, end))
            return fixed

    async def records(self) -> AsyncIterator[SourceRecord]:
        """Records by time; what a stopping stream worker left for its successor stands twice and is passed over."""
        async with self._consumer() as consumer:
            starts = await self._seek(consumer, await self._partitions())
            position = 0
            async for message in self._merged(consumer, list(starts)):
                if not any(key == HANDOVER_HEADER for key, _ in message.headers):
                    yield SourceRecord(position, message.timestamp * _MILLISECOND_NS, message.value or b"")
                    position += 1

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8_000_000,
        )
        try:
            await consumer.start()
            yield consumer
        except (KafkaError, OSError) as error:
            raise SourceUnreadable(f"{self.name} at {self._kafka.bootstrap_servers}: {error!r}") from None
        finally:
            await consumer.stop()

    async def _partitions(self) -> list[TopicPartition]:
        numbers = await partitions_of(self._kafka, self.topic)
        if not numbers:
            raise SourceUnreadable(f"there is no topic {self.topic} at {self._kafka.bootstrap_servers}")
        if self._offsets is not None:
            unknown = sorted(set(self._offsets) - set(numbers))
            if unknown:
                raise SourceUnreadable(f"{self.topic} has no partition {unknown[0]}; it has {len(numbers)}")
            numbers = sorted(self._offsets)
        return [TopicPartition(self.topic, number) for number in numbers]

    async def _seek(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """Go to where the stretch begins, by the broker's word; returns the offsets."""
        starts: dict[TopicPartition, int] = {}
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
                first = self._offsets[partition.partition][0]
                if first < beginnings[partition]:
                    raise SourceUnreadable(
                        f"{self.topic} has no offset {first} in partition {partition.partition} any more, it begins"
                        f" at {beginnings[partition]}: start a new replay of what is left"
                    )
                start = max(start, first)
            consumer.seek(partition, start)
            starts[partition] = start
        return starts

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
                    end = self._offsets[partition.partition][1] if self._offsets is not None else None
                    last = highwater if end is None or highwater is None else min(end, highwater)
                    if last is not None and await consumer.position(partition) >= last:
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
            if end is not None and message.offset >= end:
                return True
            if self._stretch.is_past(arrival_ns) and message.timestamp_type == _LOG_APPEND_TIME:
                return True  # times that producers set may go back: of those every record is looked at
            if self._stretch.holds(arrival_ns):
                ahead.append(message)
        return False
