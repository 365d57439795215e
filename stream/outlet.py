"""Records leave here: through the producer that Faust runs, not by Faust's own way of sending, which costs thrice."""

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

import faust
from aiokafka.errors import MessageSizeTooLargeError

from stream.errors import DeliveryFailed
from stream.pipeline import Outgoing

logger = logging.getLogger(__name__)


class Outlet:
    """Sends without waiting for the broker; ``flush`` waits, and tells if anything was not accepted."""

    def __init__(self, app: faust.App) -> None:
        self._app = app
        self._failure: DeliveryFailed | None = None
        self.sent_total = 0
        #: Records too large for the broker: dropped, each with an ERROR in the log.
        self.oversized_total = 0

    async def send(self, records: Iterable[Outgoing], partition: int | None = None) -> None:
        """Hand records to the producer; waits only while its buffers are full."""
        producer = self._producer()
        for topic, key, value, timestamp_ms, headers in records:
            try:
                delivery = await producer.send(
                    topic, value, key=key or None, partition=partition, timestamp_ms=timestamp_ms, headers=list(headers)
                )
            except MessageSizeTooLargeError as error:
                self._too_large(topic, key, error)
                continue
            delivery.add_done_callback(partial(self._delivered, topic, key))
            self.sent_total += 1

    async def flush(self) -> None:
        """Wait until everything sent so far is stored; raises ``DeliveryFailed``."""
        await self._app.producer.flush()
        if self._failure is not None:
            raise self._failure

    def _producer(self) -> Any:
        # Private in Faust: app.producer.send() does the same with more steps (92-160 us against 32).
        return self._app.producer._producer  # type: ignore[attr-defined]

    def _delivered(self, topic: str, key: bytes, delivery: Any) -> None:
        if delivery.cancelled():
            self._failure = DeliveryFailed(topic, "cancelled")
            return
        error = delivery.exception()
        if isinstance(error, MessageSizeTooLargeError):
            self._too_large(topic, key, error)
        elif error is not None:
            self._failure = DeliveryFailed(topic, repr(error))

    def _too_large(self, topic: str, key: bytes, error: BaseException) -> None:
        # To stop here would stop all else for one record, again after every start.
        self.oversized_total += 1
        logger.error("dropped a record for %s, key %r: %s; raise the topic's max.message.bytes", topic, key, error)
