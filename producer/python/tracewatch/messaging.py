"""Kafka messages carry the trace: ``instrument_aiokafka()``, once.

A sent record is a PRODUCER span whose context travels in the record's headers. A
record that ``getone`` or ``async for`` delivers is a CONSUMER span, current until
the consumer is asked for the next one: what the loop's body does belongs to it.
Batches of ``getmany`` have no such body; ``message_span`` makes the span of one
record of them, and of records from any other client.

OpenTelemetry's package ends the consumer's span before the record is processed,
so that nothing of the processing would be inside.
"""

import functools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, Context
from opentelemetry.propagators.textmap import Setter
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from tracewatch.configuration import tracer
from tracewatch.http_server import set_exception
from tracewatch.propagation import TracewatchPropagator, extracted

Headers = list[tuple[str, bytes]]

_propagator = TracewatchPropagator()
# On the consumer: the span of the record that is being processed, and the context from before it.
_IN_PROCESS = "_tracewatch_in_process"


def instrument_aiokafka() -> None:
    """Trace every AIOKafkaProducer and AIOKafkaConsumer from now on; calling it again changes nothing."""
    if not hasattr(AIOKafkaProducer.send, "__wrapped__"):
        AIOKafkaProducer.send = _traced_send(AIOKafkaProducer.send)
        AIOKafkaConsumer.getone = _traced_getone(AIOKafkaConsumer.getone)
        AIOKafkaConsumer.stop = _traced_stop(AIOKafkaConsumer.stop)


@contextmanager
def message_span(record: Any) -> Iterator[Span]:
    """The CONSUMER span of processing one record (topic, partition, offset, headers), current within the block."""
    span, context = _start_processing(record, None)
    token = context_api.attach(context)
    try:
        yield span
    except Exception as error:
        set_exception(span, error)
        raise
    finally:
        context_api.detach(token)
        span.end()


def _traced_send(send: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(send)
    async def traced(
        self: AIOKafkaProducer,
        topic: str,
        value: Any = None,
        key: Any = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Iterable[tuple[str, bytes]] | None = None,
    ) -> Any:
        if context_api.get_value(_SUPPRESS_INSTRUMENTATION_KEY):
            return await send(self, topic, value, key, partition, timestamp_ms, headers)
        attributes: dict[str, AttributeValue] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
        }
        span = tracer().start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
        carried: Headers = list(headers or ())
        _propagator.inject(carried, trace.set_span_in_context(span), _SETTER)
        try:
            delivered = await send(self, topic, value, key, partition, timestamp_ms, carried)
        except BaseException as error:
            set_exception(span, error)
            span.end()
            raise
        # The span lasts until the broker has the record, as the caller's future does.
        delivered.add_done_callback(functools.partial(_end_sending, span))
        return delivered

    return traced


def _end_sending(span: Span, delivered: Any) -> None:
    error = None if delivered.cancelled() else delivered.exception()
    if error is not None:
        set_exception(span, error)
    elif not delivered.cancelled() and (metadata := delivered.result()) is not None:
        span.set_attribute("messaging.destination.partition.id", str(metadata.partition))
        span.set_attribute("messaging.kafka.offset", metadata.offset)
    span.end()


def _traced_getone(getone: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(getone)
    async def traced(self: AIOKafkaConsumer, *partitions: Any) -> Any:
        _end_processing(self)
        record = await getone(self, *partitions)
        before = context_api.get_current()
        span, context = _start_processing(record, self._group_id)
        context_api.attach(context)
        setattr(self, _IN_PROCESS, (span, before))
        return record

    return traced


def _traced_stop(stop: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(stop)
    async def traced(self: AIOKafkaConsumer) -> None:
        _end_processing(self)
        await stop(self)

    return traced


def _start_processing(record: Any, group_id: str | None) -> tuple[Span, Context]:
    headers: dict[str, list[str]] = {}
    for name, value in record.headers or ():
        headers.setdefault(name.lower(), []).append((value or b"").decode("utf-8", "replace"))

    def values(name: str) -> Sequence[str]:
        return headers.get(name, ())

    attributes: dict[str, AttributeValue] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": record.topic,
        "messaging.destination.partition.id": str(record.partition),
        "messaging.kafka.offset": record.offset,
    }
    if group_id:
        attributes["messaging.consumer.group.name"] = group_id
    parent = extracted(values, context_api.get_current())
    span = tracer().start_span(f"process {record.topic}", parent, SpanKind.CONSUMER, attributes)
    return span, trace.set_span_in_context(span, parent)


def _end_processing(consumer: AIOKafkaConsumer) -> None:
    span, before = getattr(consumer, _IN_PROCESS, None) or (None, Context())
    if span is not None:
        setattr(consumer, _IN_PROCESS, None)
        span.end()
        # Another task may ask for the next record: its context is its own.
        if trace.get_current_span() is span:
            context_api.attach(before)


class _HeadersSetter(Setter[Headers]):
    def set(self, carrier: Headers, key: str, value: str) -> None:
        carrier[:] = [pair for pair in carrier if pair[0].lower() != key.lower()]
        carrier.append((key, value.encode()))


_SETTER = _HeadersSetter()
