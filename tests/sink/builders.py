"""Traces as the stream publishes them, built from spans as services send them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from sink.batches import Record
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace, CloseReason
from tracecore.otlp import decode_spans
from tracecore.span import Span, SpanKind
from tracecore.topics import Topics
from tracecore.wire import encode_trace

SECOND_NS = 1_000_000_000
#: 2026-11-22 12:00:00 UTC.
NOON_NS = 1_795_348_800 * SECOND_NS


@dataclass(frozen=True)
class SpanSpec:
    """A span to build; times in milliseconds after the trace's start."""

    span_id: int
    parent_id: int = 0
    service: str = "shop"
    name: str = "GET /"
    kind: int = SpanKind.SERVER
    start_ms: float = 0
    duration_ms: float = 10
    error: str = ""
    attributes: tuple[tuple[str, Any], ...] = ()
    message: str = ""


def spans_of(trace_id: bytes, specs: Sequence[SpanSpec], start_ns: int = NOON_NS) -> list[Span]:
    """Spans as they come from Kafka."""
    request = ExportTraceServiceRequest()
    for spec in specs:
        resource_spans = request.resource_spans.add()
        set_attributes(resource_spans.resource.attributes, {"service.name": spec.service, "host.name": "host-1"})
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name, scope_spans.scope.version = "tests", "1"
        span = scope_spans.spans.add()
        span.trace_id, span.span_id = trace_id, spec.span_id.to_bytes(8, "big")
        if spec.parent_id:
            span.parent_span_id = spec.parent_id.to_bytes(8, "big")
        span.name, span.kind = spec.name, spec.kind
        span.start_time_unix_nano = start_ns + int(spec.start_ms * 1e6)
        span.end_time_unix_nano = span.start_time_unix_nano + int(spec.duration_ms * 1e6)
        set_attributes(span.attributes, dict(spec.attributes))
        if spec.error:
            span.status.code, span.status.message = 2, spec.message
            set_attributes(span.attributes, {"error.type": spec.error})
            event = span.events.add(name="exception", time_unix_nano=span.end_time_unix_nano)
            set_attributes(event.attributes, {"exception.type": spec.error, "exception.stacktrace": "at line 1"})
    spans, rejected = decode_spans(request.SerializeToString())
    assert not rejected
    return spans


def set_attributes(target: Any, attributes: dict[str, Any]) -> None:
    """Add attributes to a protobuf list of KeyValue."""
    for key, value in attributes.items():
        pair: KeyValue = target.add(key=key)
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        elif isinstance(value, bytes):
            pair.value.bytes_value = value
        elif isinstance(value, list):
            pair.value.array_value.SetInParent()
            for item in value:
                pair.value.array_value.values.add(string_value=item)
        else:
            pair.value.string_value = value


def trace_of(
    spans: Sequence[Span],
    revision: int = 1,
    reason: CloseReason = "complete",
    replay_id: str = "",
    arrival_s: float = 1,
) -> ClosedTrace:
    """A closed trace of spans, whose last arrived ``arrival_s`` after the first began."""
    first_ns = min(span.start_ns for span in spans)
    return closed_trace(
        spans[0].trace_id,
        spans,
        revision=revision,
        reason=reason,
        first_arrival_ns=first_ns + SECOND_NS // 2,
        last_arrival_ns=first_ns + int(arrival_s * SECOND_NS),
        replay_id=replay_id,
    )


def checkout_trace(number: int, start_ns: int = NOON_NS, spans: int = 8, seed: int = 0) -> list[Span]:
    """A trace with calls between services, an error now and then; the same for the same arguments."""
    pick = random.Random(f"{seed}-{number}")
    trace_id = pick.randbytes(16)
    specs = [SpanSpec(1, service="frontend", name="POST /checkout", duration_ms=1000)]
    for i in range(2, spans + 1):
        parent = pick.choice(specs[-3:])
        is_client = parent.kind == SpanKind.SERVER
        start_ms = parent.start_ms + pick.random() * parent.duration_ms / 2
        specs.append(
            SpanSpec(
                i,
                parent.span_id,
                service=parent.service if is_client else pick.choice(("cart", "payment", "stock")),
                name="GET" if is_client else f"GET /items/{pick.randrange(3)}",
                kind=SpanKind.CLIENT if is_client else SpanKind.SERVER,
                start_ms=start_ms,
                duration_ms=max(0.1, (parent.start_ms + parent.duration_ms - start_ms) * pick.random()),
                error="TimeoutError" if pick.random() < 0.05 else "",
                message="upstream request timed out",
                attributes=(
                    ("http.request.method", "GET"),
                    ("http.response.status_code", 200),
                    ("user.id", pick.randrange(1000)),
                    ("server.address", f"10.0.0.{pick.randrange(20)}"),
                ),
            )
        )
    return spans_of(trace_id, specs, start_ns + number * SECOND_NS // 100)


def records_of(traces: Sequence[ClosedTrace], topics: Topics, partition: int = 0, offset: int = 0) -> Iterator[Record]:
    """The traces as records of one partition, at Kafka's own time: what is older than its retention, it deletes."""
    for trace in traces:
        for value in encode_trace(trace):
            key = trace.trace_id.hex().encode()
            yield Record(topics.traces, partition, offset, 0, key, value)
            offset += 1
