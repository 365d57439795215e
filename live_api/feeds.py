"""The two feeds, from topic to hub: alerts with what fires, closed traces as a live tail."""

import logging
import math
import time
from typing import Any, Generic, TypeVar

from aiokafka import ConsumerRecord

from live_api.cursor import FeedName
from live_api.events import alert_event, trace_event
from live_api.feed import Event, Feed
from live_api.firing import Firing
from live_api.hub import Hub, ReadEvent
from live_api.kafka import LATER_MS, TopicHistory, TopicTail, TopicWriter
from live_api.metrics import Metrics
from live_api.red import Red
from live_api.settings import LiveApiSettings
from live_api.silences import Silences
from live_api.traces import TraceSummary
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.silence import Silence
from tracecore.topics import REPLAY_HEADER
from tracecore.window import OperationWindow
from tracecore.wire import decode_silence, decode_window, encode_silence

logger = logging.getLogger(__name__)

SubjectT = TypeVar("SubjectT")


class LiveFeed(Generic[SubjectT]):
    """A topic's tail, published through a hub. Hears what the tail tells (``TailHandler``)."""

    def __init__(
        self,
        name: FeedName,
        event_type: str,
        topic: str,
        read_event: ReadEvent[SubjectT],
        *,
        kafka: KafkaSettings,
        settings: LiveApiSettings,
        metrics: Metrics,
        lookback_s: float | None,
        skip_when_slow: bool,
    ) -> None:
        self.metrics = metrics.of_feed(name)
        self.history = TopicHistory(kafka, topic)
        self.feed: Feed[SubjectT] = Feed(name, [], settings.retained_events, settings.retained_bytes)
        self.hub: Hub[SubjectT] = Hub(
            self.feed,
            event_type=event_type,
            read_event=read_event,
            history=self.history,
            metrics=self.metrics,
            stuck_after_s=settings.stuck_after_s,
            skip_when_slow=skip_when_slow,
        )
        self.tail = TopicTail(kafka, topic, self, lookback_s)

    def began(self, offsets: list[int]) -> None:
        self.feed.began(offsets)

    def records(self, records: list[ConsumerRecord[Any, bytes]]) -> None:
        now_s = time.time()
        for record in records:
            event = self.hub.event_of(record.partition, record.offset, record.value)
            if event is None:
                self.feed.passed(record.partition, record.offset + 1)
                continue
            self.observe(event)
            self.hub.publish(event)
            if self.tail.caught_up.is_set():
                self.metrics.delay_s.observe(max(0.0, now_s - record.timestamp / 1000))

    def rewound(self, partition: int, offset: int) -> None:
        self.feed.rewound(partition, offset)

    def grown(self, partitions: int) -> None:
        self.feed.grown(partitions)

    def observe(self, event: Event[SubjectT]) -> None:
        """Learn from an event before it is published."""


class WindowFeed:
    """Windows of operations, added up for /metrics; nobody subscribes. Hears what its tail tells (``TailHandler``)."""

    def __init__(self, kafka: KafkaSettings, max_operations: int) -> None:
        self.red = Red(max_operations)
        self.tail = TopicTail(kafka, kafka.topics.windows, self, None, LATER_MS)

    def records(self, records: list[ConsumerRecord[Any, bytes]]) -> None:
        for record in records:
            if any(key == REPLAY_HEADER for key, _ in record.headers):
                continue
            try:
                window = decode_window(record.value or b"")
            except MalformedPayload as error:
                logger.warning("passing over %s[%d]@%d: %s", record.topic, record.partition, record.offset, error)
                continue
            if isinstance(window, OperationWindow):
                self.red.observe(window)

    def began(self, offsets: list[int]) -> None:
        """Counters begin at zero."""

    def rewound(self, partition: int, offset: int) -> None:
        """Counters only grow."""

    def grown(self, partitions: int) -> None:
        """Nothing is held by partition."""


class SilenceBook:
    """Silences, read from their topic and written to it. Hears what its tail tells (``TailHandler``)."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.silences = Silences()
        self.tail = TopicTail(kafka, kafka.topics.silences, self, math.inf, LATER_MS)
        self._writer = TopicWriter(kafka, kafka.topics.silences)

    async def publish(self, silence: Silence) -> None:
        """Write a silence; returns when Kafka has it. Raises ``Unavailable``."""
        await self._writer.write(silence.silence_id.encode(), encode_silence(silence))
        self.silences.observe(silence)

    async def close(self) -> None:
        """End the writer."""
        await self._writer.close()

    def records(self, records: list[ConsumerRecord[Any, bytes]]) -> None:
        for record in records:
            try:
                self.silences.observe(decode_silence(record.value or b""))
            except MalformedPayload as error:
                logger.warning("passing over %s[%d]@%d: %s", record.topic, record.partition, record.offset, error)

    def began(self, offsets: list[int]) -> None:
        """Read from the beginning: the topic is compacted."""

    def rewound(self, partition: int, offset: int) -> None:
        self.silences.clear()

    def grown(self, partitions: int) -> None:
        """Nothing is held by partition."""


class AlertFeed(LiveFeed[Alert]):
    """Alerts: every one is delivered, however slow the subscriber."""

    def __init__(self, kafka: KafkaSettings, settings: LiveApiSettings, metrics: Metrics) -> None:
        self.firing = Firing()
        super().__init__(
            "alerts",
            "alert",
            kafka.topics.alerts,
            alert_event,
            kafka=kafka,
            settings=settings,
            metrics=metrics,
            lookback_s=settings.lookback_h * 3600,
            skip_when_slow=False,
        )

    def observe(self, event: Event[Alert]) -> None:
        self.firing.observe(event.subject)

    def rewound(self, partition: int, offset: int) -> None:
        super().rewound(partition, offset)
        self.firing.clear()


class TraceFeed(LiveFeed[TraceSummary]):
    """Closed traces: a live tail. A slow subscriber is told how many it missed, and goes on with the newest."""

    def __init__(self, kafka: KafkaSettings, settings: LiveApiSettings, metrics: Metrics) -> None:
        super().__init__(
            "traces",
            "trace",
            kafka.topics.traces,
            trace_event,
            kafka=kafka,
            settings=settings,
            metrics=metrics,
            lookback_s=None,
            skip_when_slow=True,
        )
