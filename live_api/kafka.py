"""Kafka, as the feeds need it: the tail of a topic, for ever; and any stretch of it again, on demand."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from live_api.errors import Unavailable
from tracecore.log_end import LogEnds
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: How long a poll may wait for records. Apache Kafka answers as soon as there is one, the embedded broker sleeps half
#: of it first; and each poll that brings nothing costs us 0.3 ms of CPU.
SOON_MS = 100
LATER_MS = 500
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_LOG_WAIT_EVERY_S = 10.0
#: A poll that brought nothing for so long means that the broker is away.
_SILENT_AFTER_S = 15.0
#: New partitions are looked for so often.
_PARTITIONS_EVERY_S = 30.0
_HISTORY_CONSUMERS = 4
_HISTORY_RECORDS = 500
_HISTORY_TIMEOUT_S = 10.0
_WRITE_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0


class TailHandler(Protocol):
    """What a tail tells: where it begins, what it read, and that the log is another one."""

    def began(self, offsets: list[int]) -> None: ...
    def records(self, records: list[ConsumerRecord]) -> None: ...
    def rewound(self, partition: int, offset: int) -> None: ...
    def grown(self, partitions: int) -> None: ...


class TopicTail:
    """Reads all partitions of a topic from some time ago to its end, and then what comes.

    No consumer group: every live_api reads everything, and commits nothing. ``caught_up`` is set once the end that
    the broker's fetch replies name was reached in every partition (the embedded broker's ListOffsets is wrong).
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        handler: TailHandler,
        lookback_s: float | None,
        max_wait_ms: int = SOON_MS,
    ) -> None:
        """``lookback_s`` None begins at the end, infinity at the beginning."""
        self.topic = topic
        self.caught_up = asyncio.Event()
        self.records_read = 0
        self._settings = settings
        self._handler = handler
        self._lookback_s = lookback_s
        self._max_wait_ms = max_wait_ms
        self._positions: list[int] | None = None
        self._log_ends = LogEnds()
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self) -> None:
        """Until cancelled. Whatever Kafka does, it goes on where it stood."""
        failures = 0
        while True:
            try:
                async with _consumer(self._settings, self._max_wait_ms) as consumer:
                    await self._wait_for_topic(consumer)
                    self._consumer = consumer
                    await self._assign(consumer)
                    failures = 0
                    await self._read(consumer)
            except (TimeoutError, KafkaError, OSError) as error:
                delay_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
                failures += 1
                logger.warning("reading %s failed, trying again in %.1f s: %r", self.topic, delay_s, error)
                await asyncio.sleep(delay_s)
            finally:
                self._consumer = None

    def not_ready(self) -> str:
        """Why what was there before the start is not read yet, or nothing is read now; or an empty string."""
        return self.stands_still() or ("" if self.caught_up.is_set() else "still reading what was there before")

    def lag(self) -> int | None:
        """Records that are there and not read; None if that is not known."""
        if self._consumer is None or self._positions is None:
            return None
        tps = [TopicPartition(self.topic, partition) for partition in range(len(self._positions))]
        if not set(tps) <= self._consumer.assignment():
            return None
        ends = [self._consumer.highwater(tp) for tp in tps]
        return sum(max(0, (end or 0) - position) for end, position in zip(ends, self._positions, strict=True))

    def stands_still(self) -> str:
        """Why the tail makes no progress, or an empty string."""
        consumer = self._consumer
        if consumer is None or self._positions is None:
            return f"no connection to {self.topic}"
        now_ms = time.time() * 1000
        for partition in range(len(self._positions)):
            tp = TopicPartition(self.topic, partition)
            if tp not in consumer.assignment():
                return f"{self.topic}[{partition}] is not being read"
            polled_ms = consumer.last_poll_timestamp(tp)
            if polled_ms is not None and now_ms - polled_ms > _SILENT_AFTER_S * 1000:
                return f"{self.topic}[{partition}]: no answer from the broker for {(now_ms - polled_ms) / 1000:.0f} s"
        return ""

    async def _wait_for_topic(self, consumer: AIOKafkaConsumer) -> None:
        logged_at = -_LOG_WAIT_EVERY_S
        while self.topic not in await consumer.topics():
            now = time.monotonic()
            if now - logged_at >= _LOG_WAIT_EVERY_S:
                logger.info("waiting for topic %s, which the stream creates at its start", self.topic)
                logged_at = now
            await asyncio.sleep(0.25)

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        partitions = await self._partitions(consumer)
        tps = [TopicPartition(self.topic, partition) for partition in range(partitions)]
        consumer.assign(tps)
        if self._positions is None:
            self._positions = await self._start(consumer, tps)
            self._handler.began(list(self._positions))
        elif partitions > len(self._positions):
            self._positions += [0] * (partitions - len(self._positions))
            self._handler.grown(partitions)
        for tp, position in zip(tps, self._positions, strict=True):
            consumer.seek(tp, position)

    async def _partitions(self, consumer: AIOKafkaConsumer) -> int:
        # The client learns a topic's partitions once one of them is assigned, and again every metadata_max_age_ms.
        if not consumer.assignment():
            consumer.assign([TopicPartition(self.topic, 0)])
        while not (partitions := consumer.partitions_for_topic(self.topic)):  # noqa: ASYNC110  it has no event
            await asyncio.sleep(0.02)
        return len(partitions)

    async def _start(self, consumer: AIOKafkaConsumer, tps: list[TopicPartition]) -> list[int]:
        """The first offset not older than the look-back; the embedded broker always names the first of all."""
        # The embedded broker's ends are a little early: at worst a few records are read that nobody missed.
        ends = await consumer.end_offsets(tps)
        if self._lookback_s is None:
            starts = ends
        else:
            starts = await consumer.beginning_offsets(tps)
        if self._lookback_s is not None and self._lookback_s != math.inf:
            since_ms = int((time.time() - self._lookback_s) * 1000)
            times = await consumer.offsets_for_times(dict.fromkeys(tps, since_ms))
            # Nothing is that young: the end.
            starts = {tp: max(starts[tp], found.offset if (found := times[tp]) else ends[tp]) for tp in tps}
        if all(starts[tp] >= ends[tp] for tp in tps):
            self.caught_up.set()  # nothing is there to be read, and a poll need not come back to say so
        return [starts[tp] for tp in tps]

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        positions = self._positions
        assert positions is not None
        looked_at = time.monotonic()
        while True:
            batches = await consumer.getmany(timeout_ms=1000, max_records=1000)
            for tp, records in batches.items():
                if records[0].offset < positions[tp.partition]:
                    self._rewind(positions, tp.partition, records[0].offset)
                self.records_read += len(records)
                positions[tp.partition] = records[-1].offset + 1
                self._handler.records(records)
            self._watch_ends(consumer, positions)
            if time.monotonic() - looked_at > _PARTITIONS_EVERY_S:
                looked_at = time.monotonic()
                if len(consumer.partitions_for_topic(self.topic) or ()) > len(positions):
                    await self._assign(consumer)

    def _watch_ends(self, consumer: AIOKafkaConsumer, positions: list[int]) -> None:
        level = True
        for partition, position in enumerate(positions):
            tp = TopicPartition(self.topic, partition)
            end = consumer.highwater(tp)
            level = level and end is not None and end <= position
            if end is None:
                continue
            if self._log_ends.is_anew(partition, position, end, consumer.last_poll_timestamp(tp) or 0):
                # The embedded broker gives no error for an offset beyond its end: it was restarted, empty.
                self._rewind(positions, partition, 0)
                consumer.seek(tp, 0)
                level = False
        if level:
            self.caught_up.set()

    def _rewind(self, positions: list[int], partition: int, offset: int) -> None:
        logger.warning(
            "%s[%d] ends before offset %d, where it was read: the topic was made anew; reading it from offset %d",
            self.topic,
            partition,
            positions[partition],
            offset,
        )
        positions[partition] = offset
        self._handler.rewound(partition, offset)


class TopicHistory:
    """Reads stretches of a topic that the memory no longer holds. A few consumers serve all who ask."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self.topic = topic
        self._settings = settings
        self._idle: list[AIOKafkaConsumer] = []
        self._free = asyncio.Semaphore(_HISTORY_CONSUMERS)

    async def begins(self, partitions: list[int]) -> dict[int, int]:
        """The first offset that Kafka still holds, by partition. Raises ``Unavailable``."""
        tps = [TopicPartition(self.topic, partition) for partition in partitions]
        async with self._borrowed() as consumer:
            found = await consumer.beginning_offsets(tps)
        return {tp.partition: offset for tp, offset in found.items()}

    async def read(self, ranges: dict[int, tuple[int, int]]) -> tuple[list[ConsumerRecord], dict[int, int]]:
        """The next records of one of the stretches, and how far they reach: partition to next offset.

        ``ranges`` is partition to (from, up to but not including). Raises ``Unavailable``.
        """
        partition, (begin, end) = next(iter(ranges.items()))
        tp = TopicPartition(self.topic, partition)
        async with self._borrowed() as consumer:
            consumer.assign([tp])
            consumer.seek(tp, begin)
            async with asyncio.timeout(_HISTORY_TIMEOUT_S):
                while True:
                    batch = await consumer.getmany(tp, timeout_ms=500, max_records=_HISTORY_RECORDS)
                    position = await consumer.position(tp)
                    records = [record for record in batch.get(tp, []) if record.offset < end]
                    if records or position >= end:
                        break
        return records, {partition: min(position, end)}

    async def close(self) -> None:
        """Close the consumers."""
        while self._idle:
            await self._idle.pop().stop()

    @asynccontextmanager
    async def _borrowed(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._free:
            consumer = None
            try:
                consumer = self._idle.pop() if self._idle else await _started(self._settings)
                yield consumer
            except (TimeoutError, KafkaError, OSError) as error:
                raise Unavailable(f"Kafka does not answer for {self.topic}: {error!r}; try again") from error
            else:
                self._idle.append(consumer)
                consumer = None
            finally:
                if consumer is not None:
                    await consumer.stop()


class TopicWriter:
    """Writes single records to a topic, each acknowledged. Connects when it is first asked."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()

    async def write(self, key: bytes, value: bytes) -> None:
        """Returns when the brokers have it. Raises ``Unavailable``."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                producer = await self._connected()
                await producer.send_and_wait(self._topic, value, key=key)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Unavailable(f"Kafka does not take records of {self._topic} now: {error!r}; try again") from error

    async def close(self) -> None:
        """Close the connection. What Kafka does not take by then was refused to who asked, and is given up."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            await asyncio.wait_for(producer.stop(), _CLOSE_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError):
            # Interrupted, stop() has closed nothing; the rest ends with the process.
            await producer.client.close()

    async def _connected(self) -> AIOKafkaProducer:
        async with self._connecting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._settings.client_options(), client_id="tracewatch-live-api", acks="all"
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer


async def _started(settings: KafkaSettings, max_wait_ms: int = SOON_MS) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        client_id="tracewatch-live-api",
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=max_wait_ms,
        metadata_max_age_ms=30_000,
    )
    try:
        await consumer.start()
    except BaseException:
        await consumer.stop()
        raise
    return consumer


@asynccontextmanager
async def _consumer(settings: KafkaSettings, max_wait_ms: int) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = await _started(settings, max_wait_ms)
    try:
        yield consumer
    finally:
        await consumer.stop()
