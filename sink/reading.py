"""Kafka as the sink reads it: one member of the consumer group, by librdkafka (docs/adr/015).

librdkafka fetches, checks and unpacks ahead on threads of its own. It is asked on one thread alone, since a call
waits for every other: the reader's. While a rebalance waits for the listener, that thread waits with it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from sink.batches import Record
from sink.errors import KafkaAway
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Partition = tuple[str, int]

#: How long Kafka may take to answer a question, and to be told of the end.
ANSWER_TIMEOUT_S = 5.0
#: A rebalance waits this long for a member that does not come to its next read; a session, if that is longer.
LEAST_REBALANCE_S = 30.0
#: What librdkafka says again and again, twenty times a second if Kafka is away, is logged this often.
SAID_AGAIN_S = 10.0
OPTIONS: Mapping[str, str | int | bool] = {
    "client.id": "tracewatch-sink",
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    # A sink that reads by aiokafka knows no other: both may be in the group while one is upgraded after the other.
    "partition.assignment.strategy": "roundrobin",
    "isolation.level": "read_uncommitted",
    "check.crcs": True,
    "fetch.wait.max.ms": 100,
    "fetch.max.bytes": 4 * 1024 * 1024,
    "max.partition.fetch.bytes": 2 * 1024 * 1024,
    # What is read ahead: a batch of the default, whatever the number of partitions.
    "queued.max.messages.kbytes": 16 * 1024,
    # Kafka is asked again so soon after that much was there. By default a second later: many batches.
    "fetch.queue.backoff.ms": 10,
    "reconnect.backoff.max.ms": 1000,
    "socket.timeout.ms": 10_000,
}


class Listener(Protocol):
    """Who is told which partitions are ours. The group waits for it, and so does the reader."""

    async def on_assigned(self, partitions: Collection[Partition]) -> None:
        """These are ours; none of them is read before ``Reader.begin``."""

    async def on_revoked(self) -> Mapping[Partition, int]:
        """None is ours when this returns how far we are, for ``Reader.tell``. The reader cannot be asked meanwhile."""


class Reader:
    """One member of the consumer group, for one event loop."""

    def __init__(self, kafka: KafkaSettings, group_id: str, session_timeout_s: float) -> None:
        """Waits for nothing. Raises ``KafkaAway`` for settings that librdkafka cannot use."""
        self._loop = asyncio.get_running_loop()
        self._thread = _DaemonThread("reader")
        #: Why Kafka cannot be reached, by what librdkafka said last.
        self._away = ""
        self._is_leaving = False
        session_ms = int(session_timeout_s * 1000)
        options = {
            **kafka.librdkafka_options(),
            **OPTIONS,
            "group.id": group_id,
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": max(session_ms // 4, 250),
            "max.poll.interval.ms": max(session_ms, int(LEAST_REBALANCE_S * 1000)),
            "error_cb": self._note_error,
            "on_commit": _note_commit,
        }
        try:
            self._consumer = Consumer(options, logger=client_logger())
        except KafkaException as error:
            raise KafkaAway(said_of(error)) from error

    async def topics(self) -> set[str]:
        """The topics that Kafka has. Raises ``KafkaAway``."""

        def ask() -> set[str]:
            try:
                return set(self._consumer.list_topics(timeout=ANSWER_TIMEOUT_S).topics)
            except KafkaException as error:
                # Why is told beside, and only to who looks.
                self._consumer.poll(0)
                raise KafkaAway(self._away or said_of(error)) from error

        return await self._on_thread(ask)

    async def join(self, topics: Sequence[str], listener: Listener) -> None:
        """Join the group; ``read`` tells the listener what it was given."""

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            # Where to read on is not known yet; without an answer librdkafka would begin by itself.
            consumer.assign([])
            self._heard(listener.on_assigned([(each.topic, each.partition) for each in partitions]))

        def revoked(consumer: Consumer, _: list[TopicPartition]) -> None:
            self._tell(self._heard(listener.on_revoked()) or {})
            consumer.unassign()

        await self._on_thread(self._consumer.subscribe, list(topics), assigned, revoked, revoked)

    async def beginnings(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where the logs of these partitions begin. Raises ``KafkaAway``."""

        return {partition: (await self._bounds(partition))[0] for partition in partitions}

    async def begin(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions, and no others, from these offsets on; 0 is the beginning, wherever it is."""
        places = [TopicPartition(*partition, offset or OFFSET_BEGINNING) for partition, offset in offsets.items()]
        await self._on_thread(self._consumer.assign, places)
        await self.resume()  # a pause outlives a rebalance

    async def begin_again(self, partition: Partition) -> bool:
        """Read a partition from the beginning of its log; False if that cannot be at this moment."""
        try:
            await self._on_thread(self._consumer.seek, TopicPartition(*partition, OFFSET_BEGINNING))
        except KafkaException as error:
            logger.debug("%s[%d] cannot be read from its beginning yet: %s", *partition, said_of(error))
            return False
        return True

    async def read(self, count: int, wait_s: float) -> dict[Partition, list[Record]]:
        """At most ``count`` records, as soon as there is one, by partition and in its order; tells the listener."""
        return await self._on_thread(self._read, count, wait_s)

    async def pause(self) -> None:
        """Read no more of what was begun; ``read`` still keeps us in the group."""
        await self._on_thread(lambda: self._consumer.pause(self._consumer.assignment()))

    async def resume(self) -> None:
        """End a pause."""
        await self._on_thread(lambda: self._consumer.resume(self._consumer.assignment()))

    async def log_ends(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Where the logs of partitions end, by Kafka's last answer about each; those without one are left out."""

        def ask() -> dict[Partition, int]:
            ends = {
                each: self._consumer.get_watermark_offsets(TopicPartition(*each), cached=True) for each in partitions
            }
            return {partition: end for partition, (_, end) in ends.items() if end >= 0}

        return await self._on_thread(ask)

    async def ends_before(self, partition: Partition, offset: int) -> bool:
        """Whether Kafka, asked now, says that the log of a partition ends before an offset; False without an answer."""
        try:
            return (await self._bounds(partition))[1] < offset
        except KafkaAway:
            return False

    async def tell(self, offsets: Mapping[Partition, int]) -> None:
        """Tell Kafka how far we are, for those who watch lag. Does not wait for its answer."""
        await self._on_thread(self._tell, offsets)

    async def close(self) -> None:
        """Leave the group; the listener is told nothing more. What Kafka does not answer is left to its time."""
        self._is_leaving = True
        closing = asyncio.ensure_future(self._on_thread(self._consumer.close))
        done, _ = await asyncio.wait({closing}, timeout=ANSWER_TIMEOUT_S)
        if done:
            closing.result()
            self._thread.shutdown()
        else:
            logger.warning("Kafka does not answer that we leave the group: it will see in a session's time")

    def _read(self, count: int, wait_s: float) -> dict[Partition, list[Record]]:
        # A wait for many ends when all are there; for one, when one is.
        messages = self._consumer.consume(1, wait_s)
        if messages:
            messages += self._consumer.consume(count - 1, 0)
        found: dict[Partition, list[Record]] = {}
        new = tuple.__new__
        for message in messages:
            # Hot, once a record: each of its parts is a call, and is made once.
            error = message.error()
            if error is not None:
                logger.warning("Kafka: %s", error.str())
                continue
            topic, partition, headers = message.topic() or "", message.partition() or 0, message.headers()
            place = topic, partition, message.offset(), message.timestamp()[1]
            record = new(Record, (*place, message.key(), message.value() or b"", _headers(headers) if headers else ()))
            found.setdefault((topic, partition), []).append(record)
        return found

    def _tell(self, offsets: Mapping[Partition, int]) -> None:
        if not offsets:
            return
        places = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            _note_commit(error.args[0], [])

    async def _bounds(self, partition: Partition) -> tuple[int, int]:
        """Where a log begins and ends, asked now."""

        def ask() -> tuple[int, int] | None:
            return self._consumer.get_watermark_offsets(TopicPartition(*partition), ANSWER_TIMEOUT_S)

        try:
            answer = await self._on_thread(ask)
        except KafkaException as error:
            raise KafkaAway(self._away or said_of(error)) from error
        if answer is None:
            raise KafkaAway(self._away or "no answer")
        return answer

    def _heard(self, telling: Coroutine[object, object, T]) -> T | None:
        if self._is_leaving:
            telling.close()
            return None
        return asyncio.run_coroutine_threadsafe(telling, self._loop).result()

    def _note_error(self, error: KafkaError) -> None:
        # Of several, the one that tells why: that all brokers are down is what follows.
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self._away:
            self._away = error.str()

    async def _on_thread(self, ask: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._thread, ask, *arguments)


class _DaemonThread(Executor):
    """One thread. Unlike a ThreadPoolExecutor's, it keeps no process from ending while it waits for Kafka."""

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[tuple[Future[Any], Callable[..., Any], tuple[object, ...]] | None] = SimpleQueue()
        Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, fn: Callable[..., T], /, *arguments: object, **_: object) -> Future[T]:
        """Do it when all before is done."""
        future: Future[T] = Future()
        self._work.put((future, fn, arguments))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End after what is to be done."""
        self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, ask, arguments = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(ask(*arguments))
            except BaseException as error:  # whatever it is, it is raised where it was asked for
                future.set_exception(error)


class _SaidOften(logging.Filter):
    """Lets a kind of line of librdkafka's pass once in a while: it has its first word in common with others."""

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """True if it was not said lately."""
        kind, now_s = record.getMessage().partition(" ")[0], time.monotonic()
        if now_s - self._said_s.get(kind, -SAID_AGAIN_S) < SAID_AGAIN_S:
            return False
        self._said_s[kind] = now_s
        return True


def client_logger() -> logging.Logger:
    """The logger of what librdkafka says itself, warnings and worse."""
    found = logging.getLogger("librdkafka")
    found.setLevel(logging.WARNING)
    if not found.filters:
        found.addFilter(_SaidOften())
    return found


def _headers(headers: Any) -> tuple[tuple[str, bytes], ...]:
    return tuple([(name, bytes(value or b"")) for name, value in headers])


def said_of(error: KafkaError | KafkaException) -> str:
    """What went wrong, in librdkafka's words."""
    said = error.args[0] if isinstance(error, KafkaException) else error
    return said.str() if isinstance(said, KafkaError) else str(said)


def _note_commit(error: KafkaError | None, _: list[TopicPartition]) -> None:
    if error is not None:
        logger.debug("Kafka did not take the offsets, which are in PostgreSQL: %s", error.str())
