"""Spans to Kafka, acknowledged before the sender is: several requests share records while one round is under way."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tracewatch.gateway.errors import KafkaUnavailable, TooManyWaiting
from tracewatch.gateway.settings import GatewaySettings
from tracewatch.kafka import close_producer, kafka_producer, started
from tracewatch.records import EncodedSpan, Record, records
from tracewatch.settings import MAX_RECORD_BYTES

logger = logging.getLogger(__name__)

_CLOSE_TIMEOUT_S = 2.0


class _Waiting(NamedTuple):
    spans: list[EncodedSpan]
    acknowledged: "asyncio.Future[None]"


class Publisher:
    """Publishes for all requests of one event loop.

    A round takes everything that waits; what arrives meanwhile waits for the next.
    So a lone request goes out at once, and under load a record holds the spans of
    many.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._rounds: asyncio.Task[None] | None = None
        self.waiting_bytes = 0
        self.records_total = 0
        self.failures_total = 0
        self.last_error = ""

    async def start(self) -> None:
        """Begin; Kafka may still be away."""
        self._rounds = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End; requests still waiting are answered that Kafka did not take them."""
        if self._rounds is not None:
            self._rounds.cancel()
            with suppress(asyncio.CancelledError):
                await self._rounds
        self._answer(self._waiting, KafkaUnavailable("the gateway is stopping"))
        await self._disconnect()

    async def publish(self, spans: list[EncodedSpan], size_bytes: int) -> None:
        """Return once every span is in Kafka, on all in-sync replicas. Raises TooManyWaiting, KafkaUnavailable."""
        if not spans:
            return
        if self.waiting_bytes + size_bytes > self._settings.max_waiting_bytes:
            raise TooManyWaiting
        waiting = _Waiting(spans, asyncio.get_running_loop().create_future())
        self.waiting_bytes += size_bytes
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            # Longer than a round's own limit: one may be under way before ours.
            await asyncio.wait_for(waiting.acknowledged, self._settings.delivery_timeout_s)
        except TimeoutError:
            raise KafkaUnavailable(self.last_error or f"no answer in {self._settings.delivery_timeout_s} s") from None
        finally:
            self.waiting_bytes -= size_bytes

    async def is_connected(self) -> bool:
        """Whether Kafka answers and has the topic."""
        try:
            async with asyncio.timeout(2):
                await (await self._connected()).partitions_for(self._settings.topic)
        except (KafkaError, OSError, TimeoutError) as error:
            self.last_error = _described(error)
            return False
        return True

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            # Senders that gave up will send again: their spans need not go out twice.
            round_, self._waiting = [each for each in self._waiting if not each.acknowledged.done()], []
            if not round_:
                continue
            try:
                async with asyncio.timeout(self._settings.delivery_timeout_s):
                    await self._send([span for each in round_ for span in each.spans])
            except (KafkaError, OSError, TimeoutError) as error:
                self.failures_total += 1
                self.last_error = _described(error)
                logger.warning("Kafka did not take the spans of %d requests: %s", len(round_), self.last_error)
                self._answer(round_, KafkaUnavailable(self.last_error))
                await self._disconnect()
            else:
                self.last_error = ""
                self._answer(round_, None)

    async def _send(self, spans: list[EncodedSpan]) -> None:
        producer = await self._connected()
        partitions = await producer.partitions_for(self._settings.topic)
        batch = records(spans, len(partitions), MAX_RECORD_BYTES)
        await asyncio.gather(*(self._send_record(producer, record) for record in batch))
        self.records_total += len(batch)

    async def _send_record(self, producer: AIOKafkaProducer, record: Record) -> None:
        batch = producer.create_batch()
        batch.append(key=None, value=record.value, timestamp=time.time_ns() // 1_000_000)
        batch.close()
        await (await producer.send_batch(batch, self._settings.topic, partition=record.partition))

    async def _connected(self) -> AIOKafkaProducer:
        # A round and a health check may both come when Kafka is back: one would replace the other's, unclosed.
        async with self._connecting:
            if self._producer is None:
                producer = kafka_producer(self._settings.kafka, client_id="tracewatch-gateway")
                self._producer = await started(producer)
            return self._producer

    async def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await close_producer(producer, _CLOSE_TIMEOUT_S)

    def _answer(self, waiting: list[_Waiting], refusal: KafkaUnavailable | None) -> None:
        for each in waiting:
            if not each.acknowledged.done():
                if refusal is None:
                    each.acknowledged.set_result(None)
                else:
                    each.acknowledged.set_exception(refusal)


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
