"""Records leave here: through the producer that Faust runs, in batches of our own.

To hand a record to Faust costs 92-160 us, to aiokafka 32 us, to a batch 1 us; there is a record a trace. So records are
gathered by partition, and a batch goes to the producer when it is full or has waited for ``linger_s``. aiokafka has one
request under way, with a batch of each partition that has one: what is sent together is handed over together.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from functools import lru_cache, partial
from typing import Any

import faust
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP

from stream.errors import DeliveryFailed
from stream.outgoing import Outgoing, OutgoingRun
from stream.producing import append_run
from tracecore.partition import partition_of_key

logger = logging.getLogger(__name__)


class Outlet:
    """Sends without waiting for the broker; ``flush`` waits, and tells if anything was not accepted.

    Records of one partition are stored in the order in which they were sent.
    """

    def __init__(self, app: faust.App, linger_s: float) -> None:
        self._app = app
        self._linger_s = linger_s
        # How many partitions a topic has; asked again after each flush, for partitions may be added.
        self._partitions: dict[str, int] = {}
        # Batches by topic and partition; and those that take no more, in the order in which they are to be handed over.
        self._filling: dict[tuple[str, int], Any] = {}
        self._filled: dict[tuple[str, int], deque[Any]] = {}
        # Held while batches are handed over: a later one of the same partition must not pass an earlier one.
        self._handing_over = asyncio.Lock()
        self._lingering: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._deliveries: set[asyncio.Future[Any]] = set()
        self._failure: DeliveryFailed | None = None
        self.sent_total = 0
        #: Records too large for the broker: dropped, each with an ERROR in the log.
        self.oversized_total = 0

    async def send(self, records: Iterable[Outgoing], partition: int | None = None) -> None:
        """Gather records; waits only while the producer cannot take a batch that is full.

        They go to ``partition``, or each to its own, or to that of its key.
        """
        producer, filling, now_ms = self._producer(), self._filling, int(time.time() * 1000)
        for record in records:
            count = self._partitions.get(record.topic)
            if count is None:
                count = self._partitions[record.topic] = len(await producer.partitions_for(record.topic))
            chosen = record.partition if partition is None else partition
            if isinstance(record, OutgoingRun):
                self._gather_run((record.topic, chosen % count), record, now_ms)
                continue
            topic, key, value, timestamp_ms, headers, _ = record
            # What is keyed stays with its key, though a topic may have fewer partitions than the source.
            place = topic, _placed(key, count) if chosen is None else chosen % count
            at_ms = now_ms if timestamp_ms is None else timestamp_ms
            whole = {"timestamp": at_ms, "key": key or None, "value": value, "headers": list(headers)}
            batch = filling.get(place)
            if batch is None or batch.append(**whole) is None:
                self._begun(place).append(**whole)
            self.sent_total += 1
        if self._filled:
            await self._hand_over()
        if filling and self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(self._linger_s, self._lingered)

    def _gather_run(self, place: tuple[str, int], run: OutgoingRun, now_ms: int) -> None:
        batch, taken = self._filling.get(place), 0
        while taken < len(run):
            if batch is not None:
                taken += append_run(batch, run, taken, now_ms)
            if taken < len(run):
                batch = self._begun(place)
        self.sent_total += len(run)

    def _begun(self, place: tuple[str, int]) -> Any:
        """A batch that is empty, in place of the one that is full."""
        full = self._filling.get(place)
        if full is not None:
            self._filled.setdefault(place, deque()).append(full)
        batch = self._filling[place] = self._producer().create_batch()
        return batch

    async def flush(self) -> None:
        """Wait until everything sent so far is stored; raises ``DeliveryFailed``."""
        self._partitions.clear()
        await self._hand_over_all()
        if self._deliveries:
            await asyncio.wait(set(self._deliveries))
        if self._failure is not None:
            raise self._failure

    def _lingered(self) -> None:
        self._lingering = None
        task = asyncio.get_running_loop().create_task(self._hand_over_all())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _hand_over_all(self) -> None:
        for place, batch in self._filling.items():
            self._filled.setdefault(place, deque()).append(batch)
        self._filling.clear()
        await self._hand_over()

    async def _hand_over(self) -> None:
        async with self._handing_over:
            while self._filled:
                # One of each partition in turn, for they go in one request.
                for place in list(self._filled):
                    await self._hand_over_first(place)

    async def _hand_over_first(self, place: tuple[str, int]) -> None:
        # It stays in its place until it is taken: who is cancelled meanwhile loses nothing.
        batch = self._filled[place][0]
        batch.close()
        try:
            # Waits only until the batch of this partition before it is under way.
            delivery = await self._producer().send_batch(batch, place[0], partition=place[1])
        except KafkaError as error:
            self._failure = DeliveryFailed(place[0], repr(error))
        else:
            self._deliveries.add(delivery)
            delivery.add_done_callback(partial(self._delivered, TP(*place), batch.record_count()))
        self._filled[place].popleft()
        if not self._filled[place]:
            del self._filled[place]

    def _producer(self) -> Any:
        # Private in Faust: app.producer.send() does the same with more steps.
        return self._app.producer._producer  # type: ignore[attr-defined]

    def _delivered(self, tp: TP, records: int, delivery: asyncio.Future[Any]) -> None:
        self._deliveries.discard(delivery)
        error = None if delivery.cancelled() else delivery.exception()
        if delivery.cancelled():
            self._failure = DeliveryFailed(tp.topic, "cancelled")
        elif isinstance(error, MessageSizeTooLargeError) and records == 1:
            # To stop here would stop all else for one record, again after every start.
            self.oversized_total += 1
            logger.error(
                "dropped a record for %s[%d]: %s; raise the topic's max.message.bytes", tp.topic, tp.partition, error
            )
        elif error is not None:
            self._failure = DeliveryFailed(tp.topic, repr(error))


@lru_cache(maxsize=65536)
def _placed(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's clients place it; what has no key stands in the first."""
    return partition_of_key(key, partitions) if key else 0
