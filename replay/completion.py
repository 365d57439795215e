"""A replay is done when all that it sent was assembled, judged and stored: committed offsets tell, nobody is asked."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from replay.errors import ReplayError
from tracecore.settings import KafkaSettings

_POLL_S = 0.2
_POLL_MS = 100

Check = Callable[[], None]


class Completion:
    """Waits for consumers to pass offsets. ``check`` is called at every look and may raise."""

    def __init__(self, kafka: KafkaSettings, timeout_s: float, check: Check) -> None:
        self._kafka = kafka
        self._timeout_s = timeout_s
        self._check = check

    async def committed(self, group: str, topic: str, wanted: Mapping[int, int]) -> None:
        """Wait until ``group`` has committed the ``wanted`` offsets of ``topic``."""
        admin = AIOKafkaAdminClient(**self._kafka.client_options())
        await admin.start()
        # Named one by one: some brokers cannot answer for all of a group's.
        partitions = [TopicPartition(topic, partition) for partition in wanted]
        try:

            async def reached() -> dict[int, int]:
                offsets = await admin.list_consumer_group_offsets(group, partitions)
                return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic}

            await self._wait(f"the stream worker of the replay ({group}) to assemble it", reached, wanted)
        finally:
            await admin.close()

    async def stored(self, stored_offsets: Callable[[str], Awaitable[dict[int, int]]], topics: Iterable[str]) -> None:
        """Wait until the sink has stored everything that stands in ``topics`` now."""
        for topic in topics:
            ends = {partition: end for partition, end in (await self.ends(topic)).items() if end}
            await self._wait(f"the sink to store {topic}; does it run?", partial(stored_offsets, topic), ends)

    async def ends(self, topic: str) -> dict[int, int]:
        """Per partition, the offset behind the last record: as a fetch tells it, for some brokers answer
        ListOffsets wrongly."""
        consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
            await consumer.topics()
            partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            if not partitions:
                return {}
            consumer.assign(partitions)
            for partition, end in (await consumer.end_offsets(partitions)).items():
                consumer.seek(partition, end)
            async with asyncio.timeout(self._timeout_s):
                while any(consumer.highwater(partition) is None for partition in partitions):
                    await consumer.getmany(timeout_ms=_POLL_MS)
            return {partition.partition: consumer.highwater(partition) for partition in partitions}
        finally:
            await consumer.stop()

    async def _wait(
        self, what: str, reached: Callable[[], Awaitable[dict[int, int]]], wanted: Mapping[int, int]
    ) -> None:
        clock = asyncio.get_running_loop().time
        last: dict[int, int] = {}
        moved_at = clock()
        while True:
            self._check()
            now = await reached()
            missing = {partition: end for partition, end in wanted.items() if now.get(partition, 0) < end}
            if not missing:
                return
            if now != last:
                last, moved_at = now, clock()
            elif clock() - moved_at > self._timeout_s:
                partition, end = next(iter(missing.items()))
                raise ReplayError(
                    f"waited {self._timeout_s:.0f} s in vain for {what}"
                    f" (partition {partition} is at {now.get(partition, 0)} of {end}). Resume the replay when it does."
                )
            await asyncio.sleep(_POLL_S)
