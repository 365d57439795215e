"""The gateway as an ASGI application.

POST /v1/traces      OTLP/HTTP: protobuf or JSON, gzip or plain
POST /api/v2/spans   Zipkin v2 JSON
GET  /metrics        Prometheus
GET  /healthz        200 while Kafka can be reached, else 503
"""

import hmac
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tracewatch.gateway.body import read_body
from tracewatch.gateway.errors import MissingToken, RefusedRequest, UnknownMediaType
from tracewatch.gateway.otlp import JSON, PROTOBUF, Received, decode_json, decode_protobuf, failure, success
from tracewatch.gateway.publisher import Publisher
from tracewatch.gateway.settings import GatewaySettings
from tracewatch.gateway.zipkin import decode_zipkin

_DECODERS: dict[str, Callable[[bytes], Received]] = {PROTOBUF: decode_protobuf, JSON: decode_json}


def gateway(settings: GatewaySettings) -> Starlette:
    """The application. It connects to Kafka when it is started and whenever a request finds no connection."""
    state = _Gateway(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await state.publisher.start()
        try:
            yield
        finally:
            await state.publisher.stop()

    return Starlette(
        routes=[
            Route("/v1/traces", state.otlp, methods=["POST"]),
            Route("/api/v2/spans", state.zipkin, methods=["POST"]),
            Route("/metrics", state.metrics, methods=["GET"]),
            Route("/healthz", state.healthz, methods=["GET"]),
        ],
        lifespan=lifespan,
    )


class _Gateway:
    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self.publisher = Publisher(settings)
        self._registry = CollectorRegistry()
        self._registry.register(_PublisherCollector(self.publisher))
        counter = partial(Counter, registry=self._registry)
        self._requests = counter("tracewatch_gateway_requests", "Requests answered", ["protocol", "status"])
        self._spans = counter("tracewatch_gateway_spans", "Spans acknowledged by Kafka", ["protocol"])
        self._rejected = counter("tracewatch_gateway_rejected_spans", "Spans that were no valid spans", ["protocol"])

    async def otlp(self, request: Request) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            decoder = _DECODERS.get(media_type)
            if decoder is None:
                raise UnknownMediaType(f"content-type {media_type!r} is not read: send {PROTOBUF} or {JSON}")
            received = await self._publish(request, decoder, "otlp")
        except RefusedRequest as refusal:
            # Where the request has no type of ours, text that a person can read.
            answer_type = media_type if media_type in _DECODERS else JSON
            answer = failure(refusal.grpc_code, str(refusal), answer_type)
            return self._refused(refusal, answer, answer_type, "otlp")
        self._requests.labels("otlp", "200").inc()
        return Response(success(received, media_type), 200, media_type=media_type)

    async def zipkin(self, request: Request) -> Response:
        try:
            media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
            if media_type != JSON:
                raise UnknownMediaType(f"content-type {media_type!r} is not read: send Zipkin v2 spans as {JSON}")
            received = await self._publish(request, decode_zipkin, "zipkin")
            if received.rejected_spans and not received.spans:
                # Zipkin's protocol has no partial success: all bad is a bad request.
                raise RefusedRequest(f"no valid span: {received.reason}")
        except RefusedRequest as refusal:
            return self._refused(refusal, f"{refusal}\n".encode(), "text/plain", "zipkin")
        self._requests.labels("zipkin", "202").inc()
        return Response(status_code=202)

    async def metrics(self, _: Request) -> Response:
        return PlainTextResponse(generate_latest(self._registry))

    async def healthz(self, _: Request) -> Response:
        if await self.publisher.is_connected():
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": "no Kafka", "reason": self.publisher.last_error}, 503)

    async def _publish(self, request: Request, decoder: Callable[[bytes], Received], protocol: str) -> Received:
        self._authorize(request)
        try:
            body = await read_body(
                request.stream(), request.headers.get("content-encoding", ""), self._settings.max_body_bytes
            )
        except ClientDisconnect as error:
            raise RefusedRequest("the connection was closed before the body's end") from error
        received = decoder(body)
        await self.publisher.publish(received.spans, len(body))
        self._spans.labels(protocol).inc(len(received.spans))
        self._rejected.labels(protocol).inc(received.rejected_spans)
        return received

    def _authorize(self, request: Request) -> None:
        token = self._settings.token
        if token is None:
            return
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(shown.strip().encode(), token.encode()):
            raise MissingToken

    def _refused(self, refusal: RefusedRequest, answer: bytes, media_type: str, protocol: str) -> Response:
        self._requests.labels(protocol, str(refusal.status)).inc()
        headers = {}
        if refusal.retry_after_s is not None:
            headers["Retry-After"] = str(refusal.retry_after_s)
        if refusal.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(answer, refusal.status, headers, media_type)


class _PublisherCollector(Collector):
    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def collect(self) -> Iterable[Metric]:
        publisher = self._publisher
        yield CounterMetricFamily("tracewatch_gateway_records", "Records written to Kafka", publisher.records_total)
        yield CounterMetricFamily(
            "tracewatch_gateway_kafka_failures", "Rounds that Kafka did not take", publisher.failures_total
        )
        yield GaugeMetricFamily(
            "tracewatch_gateway_waiting_bytes", "Bodies waiting for Kafka's answer", publisher.waiting_bytes
        )
