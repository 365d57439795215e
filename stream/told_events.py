"""What of the alerts topic was told last: a crash between sending an event and storing that it was sent repeats it, and
who reads this first need not.
"""

import logging
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.settings import KafkaSettings
from tracecore.wire import decode_alert

logger = logging.getLogger(__name__)

#: Events at the topic's end that are read: what one second, the interval of commits, can have brought at the worst.
MAX_EVENTS = 2_000
#: A broker that does not answer for this long is not waited for: an event may come twice then, by the same id.
TIMEOUT_S = 10.0


class ToldEvents:
    """Events by id, and as of when they were told last."""

    def __init__(self, told: Mapping[str, int] | None = None) -> None:
        self._told = dict(told or {})

    def holds(self, alert: Alert) -> bool:
        """True if this very event was told, or a later word on it (a repeat has the same id, and a later time)."""
        return self._told.get(alert.event_id, -1) >= alert.updated_at_ns


async def told_events(kafka: KafkaSettings, topic: str) -> ToldEvents:
    """The last events of a topic with one partition."""
    told: dict[str, int] = {}
    tp = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(**kafka.client_options(), enable_auto_commit=False, fetch_max_wait_ms=100)
    deadline = time.monotonic() + TIMEOUT_S
    try:
        await consumer.start()
        consumer.assign([tp])
        begin = (await consumer.beginning_offsets([tp]))[tp]
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, max(begin, end - MAX_EVENTS))
        # To the high watermark of an answer: the embedded broker's end_offsets are too low.
        while (highwater := consumer.highwater(tp)) is None or await consumer.position(tp) < highwater:
            for record in [one for some in (await consumer.getmany(timeout_ms=200)).values() for one in some]:
                try:
                    alert = decode_alert(record.value or b"")
                except MalformedPayload:
                    continue
                told[alert.event_id] = max(told.get(alert.event_id, 0), alert.updated_at_ns)
            if time.monotonic() > deadline:
                raise TimeoutError
    except (KafkaError, TimeoutError) as error:
        logger.warning("what was told last is not known, an event may come twice: %r", error)
    finally:
        await consumer.stop()
    return ToldEvents(told)
