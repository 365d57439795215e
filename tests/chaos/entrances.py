"""The three ways in. Each sends traces, and returns when all were acknowledged or it cannot know whether they were.

What was not acknowledged is sent again, as our exporter, OTLP's exporters and the Collector do: it may arrive twice.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from tests.chaos.traffic import FAILING, PATTERN, SERVICES, SPANS, Trace, otlp_request, service_of
from tracewatch import KafkaSpanExporter
from tracewatch.exporter import KafkaSpanProcessor
from tracewatch.settings import KafkaSettings, ProducerSettings

logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 0.5
#: Spans in one request or record; what an outage left behind goes out in several.
BATCH_SPANS: Final = 1000
_FLUSH_TIMEOUT_MS: Final = 5000
_REQUEST_TIMEOUT_S: Final = 15.0

ClockMs = Callable[[], int]


class Entrance(Protocol):
    """One way in."""

    async def send(self, traces: Sequence[Trace]) -> bool:
        """True: every span was acknowledged. False: some may not have been, and none will be sent again."""

    async def close(self) -> None:
        """Nothing more will be sent."""


class SdkEntrance:
    """Four instrumented services and our exporter, as ``tracewatch.configure`` sets them up."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._ids = _Ids()
        self._exporter = KafkaSpanExporter(ProducerSettings(kafka=KafkaSettings(bootstrap_servers=bootstrap_servers)))
        processor = KafkaSpanProcessor(self._exporter)
        self._tracers = {}
        for service in SERVICES:
            resource = Resource({"service.name": service_of("sdk", service)})
            provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
            provider.add_span_processor(processor)
            self._tracers[service] = provider.get_tracer("tests.chaos")

    async def send(self, traces: Sequence[Trace]) -> bool:
        """False if the exporter had to drop any span meanwhile: it does not tell which."""
        dropped = self._exporter.counters.dropped_spans_total
        for trace in traces:
            self._record(trace)
            await asyncio.sleep(0)
        while not await asyncio.to_thread(self._exporter.force_flush, _FLUSH_TIMEOUT_MS):
            logger.info("sdk: still waiting for Kafka")
        return self._exporter.counters.dropped_spans_total == dropped

    async def close(self) -> None:
        await asyncio.to_thread(self._exporter.shutdown)

    def _record(self, trace: Trace) -> None:
        self._ids.trace = trace
        spans: list[Span] = []
        for place, step in enumerate(PATTERN):
            self._ids.place = place
            start_ns, _ = trace.times_ns(place)
            span = self._tracers[step.service].start_span(
                trace.operation(place),
                context=set_span_in_context(spans[step.parent]) if spans else None,
                kind=SpanKind(int(step.kind) - 1),
                start_time=start_ns,
            )
            span.set_attribute("number", trace.number)
            spans.append(span)
        if trace.failing:
            spans[FAILING].set_attribute("error.type", "Incident")
            spans[FAILING].set_status(Status(StatusCode.ERROR, "on purpose"))
        for place in reversed(range(SPANS)):
            spans[place].end(trace.times_ns(place)[1])


class GatewayEntrance:
    """OTLP/HTTP with protobuf, as any language's exporter sends it; 200 is the acknowledgement."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S))

    async def send(self, traces: Sequence[Trace]) -> bool:
        for batch in _batches(traces):
            await _until_done(partial(self._post, otlp_request(batch)))
        return True

    async def close(self) -> None:
        await self._session.close()

    async def _post(self, body: bytes) -> bool:
        headers = {"content-type": "application/x-protobuf"}
        try:
            async with self._session.post(self._url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            logger.debug("gateway: %r", error)
            return False


class CollectorEntrance:
    """Records on the Collector's topic, cut without regard for traces and sent to any partition."""

    def __init__(self, bootstrap_servers: str, topic: str, clock_ms: ClockMs) -> None:
        self._producer = RecordProducer(bootstrap_servers)
        self._topic = topic
        self._clock_ms = clock_ms

    async def send(self, traces: Sequence[Trace]) -> bool:
        for batch in _batches(traces, cut_after=SPANS // 2):
            await self._producer.deliver(self._topic, otlp_request(batch), self._clock_ms())
        return True

    async def close(self) -> None:
        await self._producer.close()


class RecordProducer:
    """Single records, each sent until it is acknowledged by all."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._producer: AIOKafkaProducer | None = None

    async def deliver(self, topic: str, value: bytes, timestamp_ms: int) -> None:
        """Returns when the broker has it."""
        await _until_done(partial(self._sent, topic, value, timestamp_ms))

    async def close(self) -> None:
        """End the connection."""
        if self._producer is not None:
            await self._producer.stop()

    async def _sent(self, topic: str, value: bytes, timestamp_ms: int) -> bool:
        try:
            producer = await self._connected()
            await asyncio.wait_for(producer.send_and_wait(topic, value, timestamp_ms=timestamp_ms), _REQUEST_TIMEOUT_S)
        except (KafkaError, OSError, TimeoutError) as error:
            logger.debug("producer: %r", error)
            return False
        return True

    async def _connected(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap_servers, acks="all", request_timeout_ms=5000, retry_backoff_ms=200
            )
            await producer.start()
            self._producer = producer
        return self._producer


class _Ids(IdGenerator):
    """The SDK's spans get the ids that the books know."""

    trace: Trace
    place: int

    def generate_trace_id(self) -> int:
        return int.from_bytes(self.trace.trace_id, "big")

    def generate_span_id(self) -> int:
        return int.from_bytes(self.trace.span_id(self.place), "big")


def _batches(traces: Sequence[Trace], cut_after: int = 0) -> list[list[tuple[Trace, int]]]:
    """Spans in batches; with ``cut_after`` the first batch ends so many spans into a trace."""
    spans = [(trace, place) for trace in traces for place in range(SPANS)]
    batches = [spans[:cut_after]] if cut_after else []
    rest = spans[cut_after:]
    return batches + [rest[at : at + BATCH_SPANS] for at in range(0, len(rest), BATCH_SPANS)]


async def _until_done(attempt: Callable[[], Awaitable[bool]]) -> None:
    while not await attempt():  # noqa: ASYNC110  what is waited for is another process
        await asyncio.sleep(RETRY_AFTER_S)
