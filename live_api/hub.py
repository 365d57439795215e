"""Fan-out: an event is encoded once and written to everyone who asked for it; whoever is slow is served apart."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Generic, TypeVar

from live_api.errors import Unavailable
from live_api.feed import Event, Feed
from live_api.frames import FrameWriter, drained_within, text_frame
from live_api.kafka import TopicHistory
from live_api.messages import event_message, gap_message, heartbeat_message
from live_api.metrics import FeedMetrics
from live_api.subscription import Filter, Level, ReadHistory, Subscription
from tracecore.errors import MalformedPayload

logger = logging.getLogger(__name__)

SubjectT = TypeVar("SubjectT")

#: Partition, offset and value of a record to its event; None for a record that holds none.
ReadEvent = Callable[[int, int, bytes], Event[SubjectT] | None]

#: Close code, IANA's registry of RFC 6455: try again later.
TRY_AGAIN_LATER = 1013


class Subscriber(Generic[SubjectT]):
    """A subscription, and the connection that it is served on."""

    __slots__ = ("asked", "close", "subscription", "task", "writer")

    def __init__(
        self,
        subscription: Subscription[SubjectT],
        asked: Filter[SubjectT],
        writer: FrameWriter,
        close: Callable[[int, str], Awaitable[None]],
    ) -> None:
        self.subscription = subscription
        self.asked = asked
        self.writer = writer
        self.close = close
        #: Serves the subscriber while it is behind.
        self.task: asyncio.Task[None] | None = None


class Hub(Generic[SubjectT]):
    """A feed and its subscribers. ``skip_when_slow``: freshness matters more than to see everything."""

    def __init__(
        self,
        feed: Feed[SubjectT],
        *,
        event_type: str,
        read_event: ReadEvent[SubjectT],
        history: TopicHistory,
        metrics: FeedMetrics,
        stuck_after_s: float,
        skip_when_slow: bool,
    ) -> None:
        self.feed = feed
        self.event_type = event_type
        self.metrics = metrics
        self._read_event = read_event
        self._history = history
        self._stuck_after_s = stuck_after_s
        self._skip_when_slow = skip_when_slow
        # By what they asked for: one decision an event and filter, however many subscribers share it. Beside each
        # stands its transport's own write: to look at 500 connections costs more than to write down that one changed.
        self._level: dict[Filter[SubjectT], dict[Subscriber[SubjectT], Callable[[bytes], object]]] = {}
        self._arrived = asyncio.Event()

    def event_of(self, partition: int, offset: int, value: bytes | None) -> Event[SubjectT] | None:
        """The event of a record; None, counted and logged, if it cannot be read."""
        try:
            return self._read_event(partition, offset, value or b"")
        except MalformedPayload as error:
            self.metrics.undecodable.inc()
            logger.warning("passing over %s[%d]@%d: %s", self._history.topic, partition, offset, error)
            return None

    def publish(self, event: Event[SubjectT]) -> None:
        """Append an event to the feed and write it to everyone who asked for it and keeps up."""
        self.feed.append(event)
        self.metrics.events.inc()
        frame = b""
        deliveries = 0
        # Lists of their own: whoever is full with this event leaves at once.
        for asked, writes in list(self._level.items()):
            if not asked.matches(event.subject):
                continue
            frame = frame or text_frame(event_message(self.event_type, str(self.feed.cursor), event.body))
            deliveries += len(writes)
            for write in list(writes.values()):
                write(frame)
        self.metrics.deliveries.inc(deliveries)
        self.wake()

    def heartbeat(self) -> None:
        """Tell everyone who is level that the feed lives."""
        frame = text_frame(heartbeat_message(str(self.feed.cursor)))
        for writes in list(self._level.values()):
            for write in list(writes.values()):
                write(frame)

    async def serve(self, subscriber: Subscriber[SubjectT]) -> None:
        """Send a subscriber what it missed; on return it is level, or its connection is closing."""
        try:
            while True:
                async for messages in self.missed(subscriber.subscription):
                    for message in messages:
                        if not await self._write(subscriber, message):
                            return
                    await asyncio.sleep(0)  # everyone else's turn
                if not subscriber.writer.full:
                    break
                if not await self._drained(subscriber):
                    return
        except Unavailable as error:
            logger.warning("a subscriber is closed and may resume from its cursor: %s", error)
            await subscriber.close(TRY_AGAIN_LATER, "events cannot be read from Kafka now; resume from your cursor")
            return
        # Nothing was awaited since the subscription said that it is level: no event can slip between.
        write = subscriber.writer.direct(partial(self._unfit, subscriber))
        if write is not None:
            self._level.setdefault(subscriber.asked, {})[subscriber] = write

    async def missed(self, subscription: Subscription[SubjectT]) -> AsyncIterator[list[bytes]]:
        """Messages until the subscription is level with the feed."""
        while not isinstance(step := subscription.step(), Level):
            if not isinstance(step, ReadHistory):
                yield step.messages
                continue
            gap = subscription.expired(await self._history.begins(list(step.ranges)))
            if gap is not None:
                yield [gap_message(gap)]
                continue
            records, positions = await self._history.read(step.ranges)
            events = [self.event_of(record.partition, record.offset, record.value) for record in records]
            yield subscription.read([event for event in events if event is not None], positions)

    async def arrival(self, timeout_s: float) -> bool:
        """Wait for the next event; False if none comes in time."""
        arrived = self._arrived
        try:
            async with asyncio.timeout(timeout_s):
                await arrived.wait()
        except TimeoutError:
            return False
        return True

    def wake(self) -> None:
        """Let everyone who waits for an arrival look again."""
        self._arrived.set()
        self._arrived = asyncio.Event()

    def remove(self, subscriber: Subscriber[SubjectT]) -> None:
        """Forget a subscriber whose connection is gone."""
        if subscriber.task is not None:
            subscriber.task.cancel()
        self._leave(subscriber)

    def _unfit(self, subscriber: Subscriber[SubjectT]) -> None:
        """Its connection takes no more: it is closing, or full with the last event that was published."""
        if self._leave(subscriber) and subscriber.writer.full:
            self.metrics.behind.inc()
            subscriber.subscription.fell_behind(self.feed.sequence, self.feed.next_offsets)
            subscriber.task = asyncio.create_task(self._serve_slow(subscriber))

    def _leave(self, subscriber: Subscriber[SubjectT]) -> bool:
        """Write to it no more; False if it was not level."""
        writes = self._level.get(subscriber.asked, {})
        was_level = writes.pop(subscriber, None) is not None
        if was_level and not writes:
            del self._level[subscriber.asked]
        return was_level

    async def _serve_slow(self, subscriber: Subscriber[SubjectT]) -> None:
        if not await self._drained(subscriber):
            return
        subscription = subscriber.subscription
        if not subscription.is_level:
            gap = subscription.skipped() if self._skip_when_slow else subscription.slow()
            subscriber.writer.write(text_frame(gap_message(gap)))
        await self.serve(subscriber)

    async def _write(self, subscriber: Subscriber[SubjectT], message: bytes) -> bool:
        if subscriber.writer.full and not await self._drained(subscriber):
            return False
        return subscriber.writer.write(text_frame(message))

    async def _drained(self, subscriber: Subscriber[SubjectT]) -> bool:
        if await drained_within(subscriber.writer, self._stuck_after_s):
            return True
        self.metrics.stuck.inc()
        logger.warning("a subscriber took nothing for %g s and is cut", self._stuck_after_s)
        subscriber.writer.abort()  # a close frame would only join what it does not read
        return False
