"""A replay is done when all that it sent was assembled, judged and stored: offsets tell, nobody is asked."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from replay.errors import ReplayError
from replay.topic_admin import partitions_of
from tracecore.settings import KafkaSettings

_POLL_S = 0.2
_POLL_MS = 100

#: Called at every look; raises if there is no use in waiting.
Check = Callable[[], Awaitable[None]]


class Completion:
    """Looks at offsets, and waits for consumers to pass them. Use as an async context manager."""

    def __init__(self, kafka: KafkaSettings, timeout_s: float, tell_share: Callable[[float], None]) -> None:
        """``tell_share`` hears, at every look, how much of the way is done: 0 to 1."""
        self._kafka = kafka
        self._timeout_s = timeout_s
        self._tell_share = tell_share

    async def __aenter__(self) -> Self:
        self._admin = AIOKafkaAdminClient(**self._kafka.client_options())
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    async def committed_offsets(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """What ``group`` has committed, by partition; -1 where it has nothing."""
        # Named one by one: some brokers cannot answer for all of a group's.
        wanted = [TopicPartition(topic, number) for number in partitions]
        offsets = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
        return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic}

    async def committed(self, group: str, topic: str, wanted: Mapping[int, int], check: Check) -> None:
        """Wait until ``group`` has committed the ``wanted`` offsets of ``topic``."""
        reached = partial(self.committed_offsets, group, topic, list(wanted))
        await self._wait(f"the stream worker of the replay ({group}) to pass {topic}", reached, wanted, check)

    async def stored(
        self, stored_offsets: Callable[[str], Awaitable[dict[int, int]]], topics: Iterable[str], check: Check
    ) -> None:
        """Wait until the sink has stored everything that stands in ``topics`` now."""
        for topic in topics:
            ends = {partition: end for partition, end in (await self.ends(topic)).items() if end}
            await self._wait(f"the sink to store {topic}; does it run?", partial(stored_offsets, topic), ends, check)

    async def ends(self, topic: str) -> dict[int, int]:
        """Per partition, the offset behind the last record: as a fetch tells it, for some brokers answer
        ListOffsets wrongly."""
        partitions = [TopicPartition(topic, number) for number in await partitions_of(self._kafka, topic)]
        if not partitions:
            return {}
        consumer = AIOKafkaConsumer(
            **self._kafka.client_options(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        try:
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
        self, what: str, reached: Callable[[], Awaitable[dict[int, int]]], wanted: Mapping[int, int], check: Check
    ) -> None:
        clock = asyncio.get_running_loop().time
        last: dict[int, int] = {}
        moved_at = clock()
        first: dict[int, int] | None = None
        while True:
            await check()
            now = await reached()
            first = now if first is None else first
            self._tell_share(_share(first, now, wanted))
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


def _share(first: Mapping[int, int], now: Mapping[int, int], wanted: Mapping[int, int]) -> float:
    whole = sum(max(0, end - max(0, first.get(number, 0))) for number, end in wanted.items())
    left = sum(max(0, end - max(0, now.get(number, 0))) for number, end in wanted.items())
    return 1.0 - left / whole if whole else 1.0
