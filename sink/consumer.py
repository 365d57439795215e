"""From Kafka to the store: reads ahead by one batch, holds back when PostgreSQL is slow or away, seeks to what it says.

Three batches are in hand at most: one that is being stored, on a thread of its own; the next, whose rows are made
meanwhile, so that neither we nor PostgreSQL wait for the other; and one that is being read. When the third is full, the
partitions are paused until the first is stored. Kafka's own committed offsets are written for those who watch lag;
where to read on is PostgreSQL's word.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from sink.batches import Batch, Batcher, Record, batch_of
from sink.compiled import CompiledCode
from sink.errors import Overtaken, SchemaMissing, StoreAway
from sink.letters import Letter
from sink.rows import RowEncoder
from sink.settings import SinkSettings
from sink.store import Outcome, Partition, Store
from sink.telemetry import Metrics, Progress
from tracecore.log_end import LogEnds
from tracecore.redaction import Redaction
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Records that one poll takes: few enough that decoding them never holds the loop for long.
POLL_RECORDS = 256
POLL_S = 0.5
#: Bytes that one answer of Kafka's holds, whatever the number of partitions: aiokafka copies it twice, and memory that
#: is new each time costs more than to ask more often.
FETCH_BYTES = 4 * 1024 * 1024
FIRST_RETRY_S = 0.1
PUBLISH_TIMEOUT_S = 60.0
#: How long a rebalance, or the end, waits for the batch in hand.
LAST_BATCH_S = 5.0
REPORT_EVERY_S = 10.0


class Sink(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """One member of the consumer group."""

    def __init__(
        self, kafka: KafkaSettings, settings: SinkSettings, store: Store, metrics: Metrics, redaction: Redaction
    ) -> None:
        topics = kafka.topics
        self._kafka = kafka
        self._settings = settings
        self._topics = topics
        self._names = (topics.traces, topics.windows, topics.alerts, topics.health)
        self._store = store
        self._metrics = metrics
        self._encoder = RowEncoder(redaction)
        self._batcher = Batcher(topics, settings.batch_limits, redaction)
        self._compiled = CompiledCode(redaction, settings.compiled != "never")
        #: Where PostgreSQL stands, of the partitions that were sought; others are not read yet.
        self._stored: dict[Partition, int] = {}
        self._assigned: set[Partition] = set()
        self._log_ends = LogEnds()
        self._made_anew: set[Partition] = set()
        self._generation = 0
        self._storing: asyncio.Task[None] | None = None
        #: What Kafka is told beside the storing, and what it is to be told next.
        self._telling: asyncio.Task[None] | None = None
        self._untold: dict[TopicPartition, int] = {}
        #: The batch after the one that is being stored.
        self._made: Batch | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._stopping = asyncio.Event()
        self.progress = Progress(time.monotonic())

    def stop(self) -> None:
        """Store what is in hand and return from ``run``."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until ``stop``; raises ``KafkaError`` if the broker cannot be reached at the start."""
        if self._settings.compiled == "always":
            self._compiled.wanted()
        if not await self._topics_are_there():
            return
        options = self._kafka.client_options()
        session_ms = int(self._settings.session_timeout_s * 1000)
        self._consumer = AIOKafkaConsumer(
            group_id=self._settings.group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=2 * 1024 * 1024,
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=max(session_ms // 4, 250),
            **options,
        )
        self._producer = AIOKafkaProducer(acks="all", max_request_size=2_000_000, **options)
        await self._producer.start()
        try:
            self._consumer.subscribe(self._names, listener=self)
            await self._consumer.start()
            try:
                logger.info("storing %s", ", ".join(self._names))
                await self._consume()
                await self._store_the_rest()
                await self._told_kafka()
            finally:
                await self._consumer.stop()
        finally:
            await self._producer.stop()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Let the batch in hand end, if it ends soon; what was only read is left to the next owner."""
        if self._storing is not None:
            await asyncio.wait({self._storing}, timeout=LAST_BATCH_S)
        await self._told_kafka()
        self._start_over()
        self._assigned = set()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Note them; ``_seek`` asks PostgreSQL where to read on."""
        self._start_over()
        self._assigned = {(tp.topic, tp.partition) for tp in assigned}
        if assigned:
            logger.info("assigned %s", ", ".join(f"{topic}[{number}]" for topic, number in sorted(self._assigned)))

    async def _topics_are_there(self) -> bool:
        """Wait for the topics, which the stream makes; False if told to stop meanwhile."""
        deadline = time.monotonic() + self._settings.broker_timeout_s
        told = False
        while not self._stopping.is_set():
            try:
                admin = AIOKafkaAdminClient(**self._kafka.client_options())
                await admin.start()
                try:
                    missing = set(self._names) - set(await admin.list_topics())
                finally:
                    await admin.close()
            except KafkaError as error:
                if time.monotonic() > deadline:
                    raise
                logger.warning("Kafka cannot be reached at %s: %s", self._kafka.bootstrap_servers, error)
            else:
                if not missing:
                    return True
                if not told:
                    logger.info("waiting for %s, which the stream creates", ", ".join(sorted(missing)))
                    told = True
            await self._pause_s(0.5)
        return False

    async def _consume(self) -> None:
        reported_s = 0.0
        while not self._stopping.is_set():
            now_s = time.monotonic()
            if now_s - reported_s > REPORT_EVERY_S / 10:
                reported_s = now_s
                self._report()
            if self._assigned - self._stored.keys():
                await self._seek()
                continue
            if self._storing is not None and self._storing.done():
                await self._storing  # a bug in storing ends the process, loudly
                self._storing = None
            due_s = self._batcher.due_in_s(now_s)
            if self._storing is None and (self._made is not None or due_s == 0.0):
                await self._begin_to_store()
                continue
            if self._storing is not None and self._batcher.is_full:
                if self._made is None:
                    self._made = self._next_batch()
                else:
                    await self._hold_back(self._storing)
                continue
            wait_s = POLL_S if due_s is None or self._storing is not None else min(due_s, POLL_S)
            await self._read(wait_s)

    async def _read(self, wait_s: float) -> None:
        polled = await self._consumer.getmany(timeout_ms=int(wait_s * 1000), max_records=POLL_RECORDS)
        now_s = time.monotonic()
        self._batcher.leaves_traces = self._compiled.packing is not None
        for tp, messages in polled.items():
            if (tp.topic, tp.partition) not in self._stored:
                continue  # assigned a moment ago, and not sought yet: read again from where PostgreSQL stands
            self._metrics.records.labels(tp.topic).inc(len(messages))
            self._batcher.add_all(tp, map(_record, messages), now_s)

    async def _hold_back(self, storing: asyncio.Task[None]) -> None:
        """Wait until the batch in hand is stored; if that takes long, pause the partitions, and the group hears of us.

        Not at once: of a partition that is paused, aiokafka throws away what it has fetched ahead.
        """
        await asyncio.wait({storing}, timeout=POLL_S)
        if storing.done() or self._stopping.is_set():
            return
        partitions = self._consumer.assignment()
        self._consumer.pause(*partitions)
        while not storing.done() and not self._stopping.is_set() and self._consumer.assignment() == partitions:
            await asyncio.wait({storing}, timeout=POLL_S)
            await self._consumer.getmany(timeout_ms=0)
            self._report()
        self._consumer.resume(*(self._consumer.assignment() & partitions))

    async def _seek(self) -> None:
        """Go to where PostgreSQL stands, in every partition that is newly ours."""
        generation = self._generation
        wanted = sorted(self._assigned - self._stored.keys())
        stored = await self._until_stored(lambda: self._store.offsets(wanted), generation)
        if stored is None or generation != self._generation:
            return
        beginnings = await self._consumer.beginning_offsets([TopicPartition(*partition) for partition in stored])
        if generation != self._generation:
            return
        for partition, offset in stored.items():
            tp = TopicPartition(*partition)
            if 0 < offset < beginnings[tp]:
                logger.error(
                    "%s[%d]: Kafka deleted offsets %d to %d before they were stored; its retention is too short",
                    *partition,
                    offset,
                    beginnings[tp] - 1,
                )
            self._consumer.seek(tp, max(offset, beginnings[tp]))
            self._stored[partition] = offset

    async def _begin_to_store(self) -> None:
        batch = self._made or self._next_batch()
        self._made = None
        if batch is not None:
            self._storing = asyncio.create_task(self._store_batch(batch, self._generation))
            # So that it begins: the rows of the next batch are made before anything else is awaited.
            await asyncio.sleep(0)

    def _next_batch(self) -> Batch | None:
        """What was read, with its rows; None if nothing is whole."""
        if self._batcher.is_full:
            self._compiled.wanted()
        entries = self._batcher.take(time.monotonic())
        if not entries:
            return None
        return batch_of(entries, self._encoder, self._compiled.packing)

    async def _store_batch(self, batch: Batch, generation: int) -> None:
        loop = asyncio.get_running_loop()

        def publish(letters: Sequence[Letter]) -> None:
            sending = asyncio.run_coroutine_threadsafe(self._publish(letters), loop)
            try:
                sending.result(PUBLISH_TIMEOUT_S)
            except (KafkaError, FutureTimeoutError) as error:
                raise StoreAway(f"dead letters cannot be written to Kafka: {error}") from error

        def attempt() -> Outcome:
            return self._store.store(batch, self._stored, publish)

        started_s = time.monotonic()
        try:
            outcome = await self._until_stored(attempt, generation)
        except Overtaken as overtaken:
            logger.warning("another sink was faster: %s", overtaken)
            self._metrics.overtaken.inc()
            self._start_over()
            return
        if generation != self._generation:
            return
        if outcome is None:
            # Told to stop before it could be stored. What came after it must not be, or offsets would pass over it.
            self._start_over()
            return
        for partition, offsets in batch.ranges.items():
            self._stored[partition] = offsets.next
        now_s = time.monotonic()
        self.progress.last_progress_s = now_s
        self._metrics.count(outcome, now_s - started_s, time.time() - batch.oldest_timestamp_ms / 1000)
        if outcome.letters:
            logger.warning("%d dead letters in this batch", len(outcome.letters))
        self._untold |= {TopicPartition(*partition): offsets.next for partition, offsets in batch.ranges.items()}
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell_kafka())

    async def _until_stored(self, attempt: Callable[[], T], generation: int) -> T | None:
        """Try until PostgreSQL does it; None if the partitions are lost or the sink is to stop meanwhile."""
        loop = asyncio.get_running_loop()
        since_s, pause_s = None, FIRST_RETRY_S
        while True:
            try:
                done = await loop.run_in_executor(self._thread, attempt)
            except (StoreAway, SchemaMissing) as error:
                now_s = time.monotonic()
                if since_s is None:
                    since_s = now_s
                    self.progress.away_since_s = now_s
                self.progress.away_reason = str(error)
                self._metrics.retries.inc()
                away_s = now_s - since_s
                self._metrics.postgres_away.set(away_s)
                logger.warning("PostgreSQL is away since %.1f s, trying again in %.1f s: %s", away_s, pause_s, error)
                await self._pause_s(pause_s)
                if generation != self._generation or self._stopping.is_set():
                    return None
                pause_s = min(pause_s * 2, self._settings.retry_max_s)
                continue
            if since_s is not None:
                logger.info("PostgreSQL is back after %.1f s", time.monotonic() - since_s)
            self.progress.away_since_s = None
            self._metrics.postgres_away.set(0)
            return done

    async def _publish(self, letters: Sequence[Letter]) -> None:
        topic = self._topics.dead_letters
        for letter in letters:
            try:
                await self._producer.send_and_wait(topic, letter.value, key=letter.key, headers=list(letter.headers))
            except MessageSizeTooLargeError:
                # Larger than Kafka takes back: its headers still tell where it stands.
                await self._producer.send_and_wait(topic, b"", key=letter.key, headers=list(letter.headers))

    async def _tell_kafka(self) -> None:
        """Beside the next batch, which need not wait: where to read on is PostgreSQL's word."""
        while self._untold:
            assigned = self._consumer.assignment()
            offsets, self._untold = {tp: offset for tp, offset in self._untold.items() if tp in assigned}, {}
            try:
                if offsets:
                    await self._consumer.commit(offsets)
            except KafkaError as error:
                logger.debug("Kafka did not take the offsets, which are in PostgreSQL: %s", error)

    async def _told_kafka(self) -> None:
        """Let what Kafka is being told come to its end: a partition may have nothing more to tell for long."""
        if self._telling is not None:
            await asyncio.wait({self._telling}, timeout=LAST_BATCH_S)

    async def _store_the_rest(self) -> None:
        while self._storing is not None or self._made is not None or not self._batcher.is_empty:
            if self._storing is None:
                await self._begin_to_store()
            if self._storing is None:
                return  # only revisions whose parts are missing: they are read again
            await asyncio.wait({self._storing}, timeout=LAST_BATCH_S)
            if not self._storing.done():
                return
            await self._storing
            self._storing = None

    def _start_over(self) -> None:
        """Forget where we stood and what was read: the next thing is to ask PostgreSQL."""
        self._generation += 1
        self._batcher.forget(self._stored)
        self._made = None
        self._stored = {}
        self._made_anew.clear()

    def _report(self) -> None:
        lag = 0
        for partition, stored in self._stored.items():
            tp = TopicPartition(*partition)
            highwater = self._consumer.highwater(tp) if tp in self._consumer.assignment() else None
            if highwater is None:
                continue
            if self._log_ends.is_anew(partition, stored, highwater, self._consumer.last_poll_timestamp(tp) or 0):
                if partition not in self._made_anew:
                    self._made_anew.add(partition)
                    # Deleted and made again, or it is the embedded broker, which forgets: begin at its start.
                    logger.warning("%s[%d] ends at %d, before %d: it was made anew", *partition, highwater, stored)
                    self._consumer.seek(tp, 0)
                continue
            behind = max(0, highwater - stored)
            lag += behind
            self._metrics.lag.labels(*partition).set(behind)
        if not lag:
            self.progress.last_progress_s = time.monotonic()
        self.progress.lag = lag
        self._metrics.buffered_rows.set(self._batcher.rows + (self._made.row_count if self._made else 0))

    async def _pause_s(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _record(message: ConsumerRecord) -> Record:
    # Hot, once a record: made as a tuple, which names would take twice as long to.
    headers = tuple([(name, bytes(value or b"")) for name, value in message.headers]) if message.headers else ()
    place = message.topic, message.partition, message.offset, message.timestamp
    return tuple.__new__(Record, (*place, message.key, message.value or b"", headers))
