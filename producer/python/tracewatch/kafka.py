"""A Kafka producer from settings: the one place that knows aiokafka's arguments."""

import asyncio
import logging
import ssl

from aiokafka import AIOKafkaProducer

from tracewatch.errors import InvalidSetting
from tracewatch.settings import MAX_RECORD_BYTES, KafkaSettings

logger = logging.getLogger(__name__)

# Room for the record's and the request's framing around a full record.
_MAX_REQUEST_BYTES = MAX_RECORD_BYTES + 40_000
# The event loop itself holds tasks only weakly.
_stopping: set[asyncio.Task[None]] = set()


def kafka_producer(
    kafka: KafkaSettings, *, client_id: str, compression: str = "none", request_timeout_ms: int = 10_000
) -> AIOKafkaProducer:
    """An unstarted producer; call it on the event loop that will run it.

    Every acknowledgment is waited for (``acks=all``): a span counts as delivered
    only when it outlives a broker. Without idempotence, because a retry's
    duplicate is dropped downstream by (trace id, span id), and because not every
    broker and not every ACL grants it. Raises InvalidSetting.
    """
    try:
        return AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers,
            client_id=client_id,
            acks="all",
            compression_type=None if compression == "none" else compression,
            max_request_size=_MAX_REQUEST_BYTES,
            max_batch_size=_MAX_REQUEST_BYTES,
            request_timeout_ms=request_timeout_ms,
            security_protocol=kafka.security_protocol,
            sasl_mechanism=kafka.sasl_mechanism,
            sasl_plain_username=kafka.sasl_username,
            sasl_plain_password=kafka.sasl_password,
            ssl_context=_ssl_context(kafka),
        )
    except RuntimeError as error:
        # aiokafka finds out here that a codec's library is missing.
        raise InvalidSetting("TRACEWATCH_PRODUCER_COMPRESSION", compression, f"an installed codec ({error})") from error


async def started(producer: AIOKafkaProducer) -> AIOKafkaProducer:
    """The same producer, once it is connected; what it opened is closed if it cannot be."""
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer


async def close_producer(producer: AIOKafkaProducer, timeout_s: float) -> None:
    """End a producer for good; returns when it has ended, at the latest after ``timeout_s``.

    It goes on ending after that: aiokafka waits until Kafka took what is buffered or the request timeout gave it up,
    and an interrupted ``stop()`` would leave a sender and its connections behind, for each outage.
    """
    stopping = asyncio.create_task(producer.stop())
    _stopping.add(stopping)
    stopping.add_done_callback(_stopped)
    await asyncio.wait({stopping}, timeout=timeout_s)


def _stopped(stopping: asyncio.Task[None]) -> None:
    _stopping.discard(stopping)
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        logger.debug("closing a Kafka producer: %s", error)


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    if not kafka.security_protocol.endswith("SSL"):
        return None
    try:
        return ssl.create_default_context(cafile=kafka.ssl_cafile)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSetting(
            "TRACEWATCH_KAFKA_SSL_CAFILE", kafka.ssl_cafile, f"a readable PEM file ({error})"
        ) from error
