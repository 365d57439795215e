"""Faust's Kafka transport, changed in six places that were measured.

- Faust fetches with ``fetch_max_wait_ms=1500``: on a broker that sleeps through a long poll that is the latency.
- Faust makes four asyncio tasks for every record it hands to a stream. Handing over rarely has to wait, so the
  coroutine is stepped once; only if it does wait is Faust's way taken. This doubles the rate of events.
- Even so an event costs 50 us. Of topics that are read together, some records at a time are one event.
- Faust asks the consumer's thread through a queue of calls, which costs as much as to fetch.
- Faust drops what lies below the last offset it handed out. After a seek back, a batch that was under way moves that
  offset on again, and what was asked for falls, again and again. Every agent here keeps a cursor of its own.
- Faust's producer is aiokafka's; here it is ``producing.Producer``.
"""

import asyncio
import types
from collections.abc import Collection, Coroutine, Generator
from typing import Any

import aiokafka
import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.producing import Producer

#: Records of a partition that are one event at most, in topics that are read together.
TOGETHER = 16
FETCH_MAX_WAIT_MS = 100


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's)
        """Ask the thread itself; each of Faust's two workers would make three tasks to see that it is asked."""
        consumer = self._ensure_consumer()
        records = self._fetch_records(
            consumer, active_partitions, timeout=timeout, max_records=consumer._max_poll_records
        )
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(records, self.thread_loop))


class _NoOffsets(dict[Any, Any]):
    """Remembers no offset, so that Faust drops no record."""

    def __getitem__(self, key: Any) -> None:
        return None


class Together(ConsumerMessage):
    """Messages of one partition that were fetched together, as one message; ``together`` gives each of them."""

    __slots__ = ("messages",)


def together(message: ConsumerMessage) -> list[ConsumerMessage]:
    """The messages that an event's message stands for."""
    return message.messages if isinstance(message, Together) else [message]


class _Consumer(driver.Consumer):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _NoOffsets()

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109 (Faust's)
        records, active_partitions = await super()._wait_next_records(timeout)
        for tp, its in (records or {}).items():
            if tp.topic in self.transport.read_together:
                records[tp] = [its[at : at + TOGETHER] for at in range(0, len(its), TOGETHER)]
        return records, active_partitions

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        messages = [super(_Consumer, self)._to_message(tp, one) for one in record]
        last = messages[-1]
        # Faust looks at the offset, and at the generation. It decodes the value: there is nothing to decode.
        message = Together(
            last.topic, last.partition, last.offset, last.timestamp, last.timestamp_type, None, None, b"", None,
            tp=tp, generation_id=last.generation_id,
        )  # fmt: skip
        message.messages = messages
        return message

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: Any, timeout: Any = None) -> Any:  # noqa: ASYNC109 (Faust's signature)
        """Wait for the first of ``coros``; the first of two is stepped here, for it is done at once as a rule."""
        if timeout is None and len(coros) == 2 and isinstance(coros[0], types.CoroutineType):
            delivery, suspended = coros
            try:
                waits_for = delivery.send(None)
            except StopIteration:
                suspended.close()
                return None
            return await super().wait_first(_rest_of(delivery, waits_for), suspended)
        return await super().wait_first(*coros, timeout=timeout)


class _Producer(driver.Producer):
    @property
    def _producer_type(self) -> type[aiokafka.AIOKafkaProducer]:
        return Producer


class Transport(driver.Transport):
    """The transport to give to an app, before anything of it is used: ``app.transport = Transport(...)``."""

    Consumer = _Consumer
    Producer = _Producer
    #: Topics of which a message may be ``Together``.
    read_together: Collection[str] = ()


def install(app: faust.App, read_together: Collection[str] = ()) -> None:
    """Let ``app`` consume and produce through this transport; agents of ``read_together`` ask ``together``."""
    app.transport = Transport(app.conf.broker_consumer, app)
    app.transport.read_together = read_together


async def _rest_of(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    return await _resumed(coroutine, waits_for)


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    """Go on with a coroutine that was stepped by hand and waits for ``waits_for``."""
    try:
        while True:
            try:
                result = yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(result)
    except StopIteration as done:
        return done.value
