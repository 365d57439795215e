"""From Kafka to the store: reads ahead by one batch, holds back when PostgreSQL is slow or away, seeks to what it says.

Three batches are in hand at most: one that is being stored, on a thread of its own; the next, whose rows are made
meanwhile, so that neither we nor PostgreSQL wait for the other; and one that is being read. When the third is full, the
partitions are paused until the first is stored. Kafka's own committed offsets are written for those who watch lag;
where to read on is PostgreSQL's word.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sink.batches import Batch, Batcher, batch_of
from sink.compiled import CompiledCode
from sink.errors import KafkaAway, Overtaken, SchemaMissing, StoreAway
from sink.letter_box import LetterBox
from sink.reading import Reader
from sink.rows import RowEncoder
from sink.settings import SinkSettings
from sink.store import Outcome, Partition, Store
from sink.telemetry import Metrics, Progress
from tracecore.log_end import LogEnds
from tracecore.redaction import Redaction
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Records that one read takes: few enough that decoding them never holds the loop for long.
READ_RECORDS = 256
READ_S = 0.5
FIRST_RETRY_S = 0.1
#: How long a rebalance, or the end, waits for the batch in hand.
LAST_BATCH_S = 5.0
REPORT_EVERY_S = 1.0


class Sink:
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
        #: How far we are where Kafka has not been told yet.
        self._untold: dict[Partition, int] = {}
        #: The batch after the one that is being stored.
        self._made: Batch | None = None
        self._letter_box = LetterBox(kafka)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._stopping = asyncio.Event()
        self.progress = Progress(time.monotonic())

    def stop(self) -> None:
        """Store what is in hand and return from ``run``."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until ``stop``; raises ``KafkaAway`` if the broker cannot be reached at the start."""
        if self._settings.compiled == "always":
            self._compiled.wanted()
        self._reader = Reader(self._kafka, self._settings.group_id, self._settings.session_timeout_s)
        try:
            if not await self._topics_are_there():
                return
            await self._reader.join(self._names, self)
            logger.info("storing %s", ", ".join(self._names))
            await self._consume()
            await self._store_the_rest()
            await self._reader.tell(self._taken_untold())
        finally:
            await self._reader.close()
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def on_assigned(self, partitions: Collection[Partition]) -> None:
        """Note them; ``_seek`` asks PostgreSQL where to read on."""
        self._start_over()
        self._assigned = set(partitions)
        if partitions:
            logger.info("assigned %s", ", ".join(f"{topic}[{number}]" for topic, number in sorted(self._assigned)))

    async def on_revoked(self) -> Mapping[Partition, int]:
        """Let the batch in hand end, if it ends soon; what was only read is left to the next owner."""
        if self._storing is not None:
            await asyncio.wait({self._storing}, timeout=LAST_BATCH_S)
        self._start_over()
        self._assigned = set()
        return self._taken_untold()

    async def _topics_are_there(self) -> bool:
        """Wait for the topics, which the stream makes; False if told to stop meanwhile."""
        deadline = time.monotonic() + self._settings.broker_timeout_s
        told = False
        while not self._stopping.is_set():
            try:
                missing = set(self._names) - await self._reader.topics()
            except KafkaAway as error:
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
            if now_s - reported_s > REPORT_EVERY_S:
                reported_s = now_s
                await self._report()
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
            wait_s = READ_S if due_s is None or self._storing is not None else min(due_s, READ_S)
            await self._read(wait_s)

    async def _read(self, wait_s: float) -> None:
        found = await self._reader.read(READ_RECORDS, wait_s)
        now_s = time.monotonic()
        self._batcher.leaves_traces = self._compiled.packing is not None
        for partition, records in found.items():
            if partition not in self._stored:
                continue  # lost while it was read: whoever has it reads it again
            self._metrics.records.labels(partition[0]).inc(len(records))
            self._batcher.add_all(partition, records, now_s)

    async def _hold_back(self, storing: asyncio.Task[None]) -> None:
        """Wait until the batch in hand is stored; if that takes long, pause the partitions, and the group hears of us.

        Not at once: of a partition that is paused, librdkafka throws away what it has fetched ahead.
        """
        await asyncio.wait({storing}, timeout=READ_S)
        if storing.done() or self._stopping.is_set():
            return
        generation = self._generation
        await self._reader.pause()
        while not storing.done() and not self._stopping.is_set() and generation == self._generation:
            await self._read(0)
            await self._report()
            await asyncio.wait({storing}, timeout=READ_S)
        await self._reader.resume()

    async def _seek(self) -> None:
        """Go to where PostgreSQL stands, in all partitions that are ours."""
        generation = self._generation
        wanted = sorted(self._assigned)
        asking = asyncio.create_task(self._until_stored(lambda: self._store.offsets(wanted), generation))
        while not asking.done():
            await asyncio.wait({asking}, timeout=READ_S)
            await self._read(0)  # nothing is read yet, but the group hears of us, and we of it
        stored = asking.result()
        if stored is None or generation != self._generation:
            return
        try:
            beginnings = await self._reader.beginnings([partition for partition, offset in stored.items() if offset])
        except KafkaAway as error:
            logger.warning("Kafka does not tell where its logs begin, trying again: %s", error)
            await self._pause_s(FIRST_RETRY_S)
            return
        if generation != self._generation:
            return
        for partition, beginning in beginnings.items():
            if stored[partition] < beginning:
                logger.error(
                    "%s[%d]: Kafka deleted offsets %d to %d before they were stored; its retention is too short",
                    *partition,
                    stored[partition],
                    beginning - 1,
                )
        self._stored = stored
        await self._reader.begin({partition: max(at, beginnings.get(partition, 0)) for partition, at in stored.items()})

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
        def attempt() -> Outcome:
            return self._store.store(batch, self._stored, self._letter_box.send)

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
        self._untold |= {partition: offsets.next for partition, offsets in batch.ranges.items()}
        self._made_anew -= batch.ranges.keys()

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

    def _taken_untold(self) -> dict[Partition, int]:
        """What Kafka is told beside the storing, which need not wait: where to read on is PostgreSQL's word."""
        untold, self._untold = self._untold, {}
        return untold

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

    async def _report(self) -> None:
        await self._reader.tell(self._taken_untold())
        lag = 0
        for partition, end in (await self._reader.log_ends(list(self._stored))).items():
            stored = self._stored.get(partition)
            if stored is None or await self._is_anew(partition, stored, end):
                continue
            behind = max(0, end - stored)
            lag += behind
            self._metrics.lag.labels(*partition).set(behind)
        if not lag:
            self.progress.last_progress_s = time.monotonic()
        self.progress.lag = lag
        self._metrics.buffered_rows.set(self._batcher.rows + (self._made.row_count if self._made else 0))

    async def _is_anew(self, partition: Partition, stored: int, end: int) -> bool:
        """Whether a log, that ends at ``end``, is another one than what was stored of it; if so, read all of it."""
        if partition in self._made_anew:
            return end < stored
        # Kafka's last answer may have come before the records that were read, or none since: it is asked once more.
        if not self._log_ends.is_anew(partition, stored, end, int(time.monotonic() * 1000)):
            return False
        generation = self._generation
        if not await self._reader.ends_before(partition, stored) or generation != self._generation:
            return False
        # Deleted and made again, or it is the embedded broker, which forgets: begin at its start.
        logger.warning("%s[%d] ends at %d, before %d: it was made anew", *partition, end, stored)
        if await self._reader.begin_again(partition):
            self._made_anew.add(partition)
        return True

    async def _pause_s(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
