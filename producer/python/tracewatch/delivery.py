"""The background thread that turns ended spans into Kafka records.

One daemon thread runs one event loop with two jobs. *Collecting* takes spans
from the service's queue, a linger after the first of them or earlier when asked,
and encodes them. *Delivering* sends what is encoded and keeps it until Kafka has
acknowledged it. They are apart so that a Kafka that is away stops only the
second: the queue goes on being emptied into compact bytes, up to a bound.
"""

import asyncio
import logging
import socket
import threading
import time
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry import context
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY
from opentelemetry.sdk.trace import ReadableSpan

from tracewatch.encoder import SpanEncoder
from tracewatch.kafka import kafka_producer
from tracewatch.records import EncodedSpan, Record, records
from tracewatch.settings import MAX_RECORD_BYTES, ProducerSettings

logger = logging.getLogger(__name__)

# Between slices the loop's poll releases the GIL: a request waits for at most ~1 ms of encoding.
_SPANS_PER_SLICE = 32
# Records cost by the piece (~0.3 ms each): under load, rounds grow apart rather than take more of the service's CPU.
_LARGEST_CPU_SHARE = 0.1
# What one round of deliveries carries at most; the rest follows in the next.
_SPANS_PER_ROUND = 8192
_FIRST_BACKOFF_S = 0.25
_MAX_BACKOFF_S = 5.0
_LOG_LOSSES_EVERY_S = 60.0
# A span too large for a record is encoded again with its texts cut to these lengths, in turn.
_CUTS = (16_384, 1024, 64)


@dataclass(slots=True)
class Counters:
    """What became of the spans of this process, since its start or fork.

    ``dropped_spans_total`` were never delivered: the queue was full, the pending
    bytes were at their bound, or the process ended while Kafka was away.
    """

    exported_spans_total: int = 0
    exported_records_total: int = 0
    dropped_spans_total: int = 0
    shortened_spans_total: int = 0
    delivery_failures_total: int = 0


class Delivery:
    """Collects from ``queue`` and delivers to ``settings.topic``. Runs from creation until ``stop``."""

    def __init__(self, settings: ProducerSettings, queue: deque[ReadableSpan], counters: Counters) -> None:
        self._settings = settings
        self._queue = queue
        self._counters = counters
        self._loop = _ResolvingLoop()
        self._collected = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        # Set by service threads, cleared by ours before it takes spans; a race costs one needless wake-up.
        self._armed = False
        self._hurried = False
        self._timer: asyncio.TimerHandle | None = None
        self._next_collect_at = 0.0
        self._cpu_s = 0.0
        self._collecting: asyncio.Task[None] | None = None
        self._encoder = SpanEncoder()
        self._pending: deque[EncodedSpan] = deque()
        self._pending_bytes = 0
        self._producer: AIOKafkaProducer | None = None
        self._stopping = False
        self._logged_drops = 0
        self._logged_at = float("-inf")
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name="tracewatch-delivery", daemon=True)
        self._thread.start()

    # Called by the service's threads.

    def arm(self) -> None:
        """A span waits: collect after the linger. Cheap when already armed."""
        if not self._armed:
            self._armed = True
            self._loop.call_soon_threadsafe(self._schedule, self._settings.linger_ms / 1000)

    def hurry(self) -> None:
        """An error or a local root ended: collect as soon as the early flush interval allows."""
        if not self._hurried:
            self._armed = self._hurried = True
            self._loop.call_soon_threadsafe(self._schedule, 0.0)

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
        lost = len(self._queue) + len(self._pending)
        if lost:
            self._counters.dropped_spans_total += lost
            self._queue.clear()
            self._pending.clear()
            logger.warning(
                "%d spans were not delivered before the end: Kafka at %s did not take them (%s)",
                lost,
                self._settings.kafka.bootstrap_servers,
                self._last_error or "no answer yet",
            )

    # Everything below runs on the background thread.

    def _run(self) -> None:
        # Instrumented Kafka clients and sockets must not trace the tracer.
        context.attach(context.set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        asyncio.set_event_loop(self._loop)
        _quiet_threads.add(threading.get_ident())
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
        now = self._loop.time()
        at = max(now + delay_s, self._next_collect_at)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._start_collecting)

    def _start_collecting(self) -> None:
        self._timer = None
        if self._collecting is None or self._collecting.done():
            self._collecting = self._loop.create_task(self._collect())
        else:
            self._schedule(self._settings.early_flush_interval_ms / 1000)

    async def _collect(self) -> None:
        self._next_collect_at = self._loop.time() + self._interval_s()
        self._armed = self._hurried = False
        queue = self._queue
        # Only what is here now: spans that end meanwhile have armed the next round.
        for index in range(len(queue)):
            if index % _SPANS_PER_SLICE == _SPANS_PER_SLICE - 1:
                await asyncio.sleep(0)
            try:
                span = queue.popleft()
            except IndexError:
                break
            self._accept(span)
        if self._pending:
            self._idle.clear()
            self._collected.set()
        self._log_losses()

    def _interval_s(self) -> float:
        """How long the next early flush has to wait: the setting, longer where a round costs much, up to the linger."""
        cpu_s = time.thread_time()
        round_cpu_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        linger_s = self._settings.linger_ms / 1000
        return max(self._settings.early_flush_interval_ms / 1000, min(round_cpu_s / _LARGEST_CPU_SHARE, linger_s))

    def _accept(self, span: ReadableSpan) -> None:
        try:
            encoded = self._encoded(span)
        except Exception:
            # A span is data of any kind (a str subclass whose encode fails): one of them must not stop the rest.
            self._counters.dropped_spans_total += 1
            logger.warning("A span could not be encoded and was dropped", exc_info=True)
            return
        size = len(encoded.span)
        if self._pending_bytes + size > self._settings.max_pending_bytes:
            self._counters.dropped_spans_total += 1
            return
        self._pending.append(encoded)
        self._pending_bytes += size

    def _encoded(self, span: ReadableSpan) -> EncodedSpan:
        encoder = self._encoder
        resource, scope = encoder.resource(span.resource), encoder.scope(span.instrumentation_scope)
        body = encoder.span(span)
        limit = MAX_RECORD_BYTES - len(resource) - len(scope) - 64
        if len(body) > limit:
            self._counters.shortened_spans_total += 1
            for max_text_length in _CUTS:
                body = encoder.span(span, max_text_length)
                if len(body) <= limit:
                    break
        assert span.context is not None
        return EncodedSpan(span.context.trace_id, resource, scope, body)

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
        """Send everything pending. Raises with the undelivered back in ``_pending``."""
        while self._pending:
            producer = await self._connected_producer()
            partitions = await producer.partitions_for(self._settings.topic)
            taken = [self._pending.popleft() for _ in range(min(len(self._pending), _SPANS_PER_ROUND))]
            batch = records(taken, len(partitions), MAX_RECORD_BYTES)
            outcomes = await asyncio.gather(*(self._send(producer, record) for record in batch), return_exceptions=True)
            failure: BaseException | None = None
            for record, outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    self._counters.exported_spans_total += len(record.spans)
                    self._counters.exported_records_total += 1
                    self._pending_bytes -= sum(len(span.span) for span in record.spans)
                else:
                    self._pending.extendleft(reversed(record.spans))
                    failure = outcome
            if failure is not None:
                raise failure
            self._last_error = ""
        self._collected.clear()
        self._idle.set()

    async def _send(self, producer: AIOKafkaProducer, record: Record) -> None:
        # A prepared batch is exactly one Kafka record batch, and passes by instrumentations of `send`.
        batch = producer.create_batch()
        batch.append(key=None, value=record.value, timestamp=time.time_ns() // 1_000_000)
        batch.close()
        await (await producer.send_batch(batch, self._settings.topic, partition=record.partition))

    async def _connected_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = kafka_producer(
                self._settings.kafka, client_id="tracewatch-producer", compression=self._settings.compression
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer

    async def _close_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                await asyncio.wait_for(producer.stop(), 1.0)
            except (KafkaError, OSError, TimeoutError) as error:
                logger.debug("closing the Kafka producer: %s", error)

    async def _flushed(self) -> None:
        while True:
            if self._collecting is not None:
                await asyncio.shield(self._collecting)
            if not self._queue:
                break
            self._start_collecting()
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


# aiokafka logs several errors a second while Kafka is away. On our threads we say it ourselves, once; a service's own
# Kafka clients run on other threads and keep their voice.
_quiet_threads: set[int] = set()


def _is_not_ours_to_tell(record: logging.LogRecord) -> bool:
    return record.thread not in _quiet_threads or logger.isEnabledFor(logging.DEBUG)


for _name in ("aiokafka", "aiokafka.conn", "aiokafka.cluster", "aiokafka.producer.sender"):
    logging.getLogger(_name).addFilter(_is_not_ours_to_tell)


class _ResolvingLoop(asyncio.SelectorEventLoop):
    """Resolves names on its own thread.

    asyncio would hand that to an executor, which takes no work once the
    interpreter is ending: a short script could then never deliver its spans.
    Nothing else waits for this loop.
    """

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        return socket.getaddrinfo(host, port, **hints)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        return socket.getnameinfo(sockaddr, flags)
