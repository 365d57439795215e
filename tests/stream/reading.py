"""What the stream published, gathered while it publishes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from tracecore.closed_trace import ClosedTrace
from tracecore.topics import Topics
from tracecore.window import Window
from tracecore.wire import decode_trace, decode_window


@dataclass
class Published:
    """Everything on the output topics so far; poll with ``more``."""

    consumer: AIOKafkaConsumer
    topics: Topics
    #: Every revision of every trace, in the order of its topic; parts of one revision each as they came.
    revisions: dict[bytes, list[ClosedTrace]] = field(default_factory=lambda: defaultdict(list))
    windows: list[Window] = field(default_factory=list)
    findings: list[ConsumerRecord] = field(default_factory=list)
    dead_letters: list[ConsumerRecord] = field(default_factory=list)
    records: int = 0

    @classmethod
    async def of(cls, bootstrap_servers: str, topics: Topics) -> Self:
        consumer = AIOKafkaConsumer(
            topics.traces,
            topics.windows,
            topics.findings,
            topics.dead_letters,
            bootstrap_servers=bootstrap_servers,
            auto_offset_reset="earliest",
        )
        await consumer.start()
        return cls(consumer, topics)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.stop()

    async def more(self, timeout_ms: int = 200) -> int:
        """Take what is there; returns how many records."""
        count = 0
        for partition, records in (await self.consumer.getmany(timeout_ms=timeout_ms, max_records=20_000)).items():
            count += len(records)
            for record in records:
                self._take(partition.topic, record)
        self.records += count
        return count

    async def until(self, condition: Callable[["Published"], bool], timeout_s: float, what: str) -> None:
        """Poll until ``condition``; fails with ``what``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not condition(self):
            assert loop.time() < deadline, f"not within {timeout_s:g} s: {what}"
            await self.more()

    async def until_quiet(self, polls: int = 5) -> None:
        """Poll until nothing came ``polls`` times in a row."""
        quiet = 0
        while quiet < polls:
            quiet = 0 if await self.more() else quiet + 1

    def best(self) -> dict[bytes, ClosedTrace]:
        """Of each trace the revision with the most spans."""
        return {
            trace_id: max(revisions, key=lambda trace: trace.span_count)
            for trace_id, revisions in self.revisions.items()
        }

    def _take(self, topic: str, record: ConsumerRecord) -> None:
        if topic == self.topics.traces:
            trace = decode_trace(record.value)
            self.revisions[trace.trace_id].append(trace)
        elif topic == self.topics.windows:
            self.windows.append(decode_window(record.value))
        elif topic == self.topics.findings:
            self.findings.append(record)
        else:
            self.dead_letters.append(record)


async def send(producer: AIOKafkaProducer, topic: str, records: list[tuple[int, bytes]]) -> None:
    """Send records to their partitions, and wait until they are stored."""
    for partition, value in records:
        await producer.send(topic, value, partition=partition)
    await producer.flush()
