"""The background thread that turns ended spans into Kafka records.

One daemon thread runs one event loop with two jobs. *Encoding* takes spans from
the service's queue as soon as some wait, and turns them into bytes. *Delivering*
sends what is encoded, a linger after the first span or earlier when asked, and
keeps it until Kafka has acknowledged it. They are apart so that a Kafka that is
away stops only the second: the queue goes on being emptied into compact bytes, up
to a bound.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from tracewatch.background import ResolvingLoop, keep_out_of_traces_and_logs
from tracewatch.counters import Counters
from tracewatch.ended_spans import EndedSpan
from tracewatch.kafka import close_producer, kafka_producer, started
from tracewatch.pending import PendingSpans
from tracewatch.records import Record, records
from tracewatch.settings import MAX_RECORD_BYTES, ProducerSettings

logger = logging.getLogger(__name__)

# So many are encoded at once. One by one, where they end, they would cost twice that, because the encoder's code and
# data would have left the processor's caches each time; from 128 to 1024 at once it makes no difference.
ENCODE_AT_SPANS = 256
# After so many the GIL is handed over, really: a request waits for at most ~1 ms of encoding. A poll would give it up
# and take it again before another thread awakes.
_PAUSE_S = 0.0001
# Records cost by the piece (~0.1 ms each): under load, rounds grow apart rather than take more of the service's CPU.
_LARGEST_CPU_SHARE = 0.1
# What is grouped at once, in ~2 ms without giving up the GIL; the rest follows after Kafka's answer.
_SPANS_PER_REQUEST = 2048
_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 5.0
_LOG_LOSSES_EVERY_S = 60.0
# A broker that takes smaller records than Kafka's default gets smaller ones, down to this.
_SMALLEST_RECORD_BYTES = 4096


class Delivery:
    """Encodes what is in ``queue`` and delivers it to ``settings.topic``. Runs from creation until ``stop``."""

    def __init__(self, settings: ProducerSettings, queue: deque[EndedSpan], counters: Counters) -> None:
        self.pending = PendingSpans(settings.max_pending_bytes, counters, settings.redaction)
        # What is asked for already. Set by service threads, cleared by ours before it takes spans; a race costs one
        # needless wake-up.
        self.armed = False
        self.hurried = False
        self.encoding = False
        self._settings = settings
        self._queue = queue
        self._counters = counters
        self._loop = ResolvingLoop()
        self._collected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_round_at = 0.0
        self._cpu_s = 0.0
        self._producer: AIOKafkaProducer | None = None
        self._max_record_bytes = MAX_RECORD_BYTES
        self._logged_drops = 0
        self._logged_at = float("-inf")
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name="tracewatch-delivery", daemon=True)
        self._thread.start()

    # Called by the service's threads.

    def arm(self) -> None:
        """A span waits: deliver after the linger."""
        self.armed = True
        self._loop.call_soon_threadsafe(self._schedule, self._settings.linger_ms / 1000)

    def hurry(self) -> None:
        """An error or a local root ended: deliver as soon as the early flush interval allows."""
        self.armed = self.hurried = True
        self._loop.call_soon_threadsafe(self._schedule, 0.0)

    def encode_soon(self) -> None:
        """Spans heap up: take them from the queue."""
        self.encoding = True
        self._loop.call_soon_threadsafe(self._encode)

    def flush(self, timeout_s: float) -> bool:
        """Deliver everything queued so far; False if Kafka did not have it in time."""
        try:
            done: Future[None] = asyncio.run_coroutine_threadsafe(self._flushed(), self._loop)
        except RuntimeError:  # the loop is closed
            return not self._queue
        try:
            done.result(timeout_s)
        except FutureTimeoutError:
            done.cancel()
            return False
        return True

    def stop(self, timeout_s: float) -> None:
        """Flush, then end the thread. What Kafka did not take in time is counted as dropped."""
        if not self._thread.is_alive():
            return
        self.flush(timeout_s)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2.0)
        lost = len(self._queue) + len(self.pending)
        if lost:
            self._counters.dropped_spans_total += lost
            self._queue.clear()
            self.pending.clear()
            logger.warning(
                "%d spans were not delivered before the end: Kafka at %s did not take them (%s)",
                lost,
                self._settings.kafka.bootstrap_servers,
                self._last_error or "no answer yet",
            )

    # Everything below runs on the background thread.

    def _run(self) -> None:
        keep_out_of_traces_and_logs()
        asyncio.set_event_loop(self._loop)
        delivering = self._loop.create_task(self._deliver_forever())
        try:
            self._loop.run_forever()
        finally:
            delivering.cancel()
            self._loop.run_until_complete(asyncio.gather(delivering, self._close_producer(), return_exceptions=True))
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def _schedule(self, delay_s: float) -> None:
        at = max(self._loop.time() + delay_s, self._next_round_at)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._start_round)

    def _start_round(self) -> None:
        self._timer = None
        self._next_round_at = self._loop.time() + self._interval_s()
        # Cleared before the queue is read: a span that ends meanwhile arms the next round.
        self.armed = self.hurried = False
        self._collect()
        self._log_losses()

    def _encode(self) -> None:
        self.encoding = False
        # Only what is here now: a service that is faster than this must not keep it from delivering.
        for _ in range(-(-len(self._queue) // ENCODE_AT_SPANS)):
            self.pending.encode(self._queue, ENCODE_AT_SPANS)
            if self._queue:
                time.sleep(_PAUSE_S)

    def _collect(self) -> None:
        self._encode()
        if self.pending:
            self._idle.clear()
            self._collected.set()

    def _interval_s(self) -> float:
        """How long the next early flush has to wait: the setting, longer where a round costs much, up to the linger."""
        cpu_s = time.thread_time()
        round_cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        linger_s = self._settings.linger_ms / 1000
        return max(self._settings.early_flush_interval_ms / 1000, min(round_cpu_s / _LARGEST_CPU_SHARE, linger_s))

    async def _deliver_forever(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            await self._collected.wait()
            try:
                await self._deliver()
                backoff_s = _FIRST_BACKOFF_S
            except Exception as error:  # the thread's outermost loop: it ends with the process, not with an error
                # The circuit: Kafka is left alone for a while, and nothing is lost but by the bound.
                self._counters.delivery_failures_total += 1
                if not isinstance(error, KafkaError | OSError):
                    logger.exception("unexpected failure while delivering spans")
                self._note_failure(error)
                await self._close_producer()
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    async def _deliver(self) -> None:
        """Send everything pending. Raises with the undelivered pending again."""
        while self.pending:
            producer = await self._connected_producer()
            partitions = await producer.partitions_for(self._settings.topic)
            batch = records(self.pending.take(_SPANS_PER_REQUEST), len(partitions), self._max_record_bytes)
            outcomes = await self._send(producer, batch)
            failure: BaseException | None = None
            for record, outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    self._counters.exported_spans_total += len(record.spans)
                    self._counters.exported_records_total += 1
                    self.pending.settled(record.spans)
                elif isinstance(outcome, MessageSizeTooLargeError):
                    self._send_smaller(record)
                else:
                    self.pending.put_back(record.spans)
                    failure = outcome
            if failure is not None:
                raise failure
            self._last_error = ""
        self._collected.clear()
        self._idle.set()

    async def _send(self, producer: AIOKafkaProducer, batch: list[Record]) -> list[BaseException | None]:
        """Hand over all records and wait for all: the client sends them in one request for each broker."""
        acknowledgments = []
        for record in batch:
            # A prepared batch is exactly one Kafka record batch, and passes by instrumentations of `send`.
            builder = producer.create_batch()
            builder.append(key=None, value=record.value, timestamp=time.time_ns() // 1_000_000)
            builder.close()
            try:
                acknowledgments.append(
                    await producer.send_batch(builder, self._settings.topic, partition=record.partition)
                )
            except KafkaError as error:
                refused = self._loop.create_future()
                refused.set_exception(error)
                acknowledgments.append(refused)
        outcomes = await asyncio.gather(*acknowledgments, return_exceptions=True)
        return [outcome if isinstance(outcome, BaseException) else None for outcome in outcomes]

    def _send_smaller(self, record: Record) -> None:
        """The broker or the topic takes less than Kafka's default: trying the same again would never end."""
        if len(record.spans) == 1 or len(record.value) <= _SMALLEST_RECORD_BYTES:
            self._counters.dropped_spans_total += len(record.spans)
            self.pending.settled(record.spans)
            self._last_error = f"a record of {len(record.value)} bytes is too large for Kafka"
        else:
            self._max_record_bytes = max(_SMALLEST_RECORD_BYTES, len(record.value) // 2)
            self.pending.put_back(record.spans)

    async def _connected_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = kafka_producer(
                self._settings.kafka, client_id="tracewatch-producer", compression=self._settings.compression
            )
            self._producer = await started(producer)
        return self._producer

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer, 1.0)

    async def _flushed(self) -> None:
        self._collect()
        await self._idle.wait()

    def _note_failure(self, error: BaseException) -> None:
        description = f"{type(error).__name__}: {error}".rstrip(": ")
        if not self._last_error:
            logger.warning(
                "Kafka at %s does not take spans for topic %s (%s); keeping up to %d MB of them and trying again. "
                "Is TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS right, and does the topic exist?",
                self._settings.kafka.bootstrap_servers,
                self._settings.topic,
                description,
                self._settings.max_pending_bytes // 1_000_000,
            )
        self._last_error = description

    def _log_losses(self) -> None:
        dropped = self._counters.dropped_spans_total
        now = self._loop.time()
        if dropped > self._logged_drops and now - self._logged_at >= _LOG_LOSSES_EVERY_S:
            logger.warning(
                "%d spans dropped since the last notice (%s)", dropped - self._logged_drops, self._last_error
            )
            self._logged_drops, self._logged_at = dropped, now
