"""A history to query: traces as services would have sent them, stored by the sink's own store."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from sink.batches import Batcher, BatchLimits, Record, batch_of
from sink.rows import RowEncoder
from sink.store import Store
from tracecore.alert import Alert
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.otlp import decode_spans
from tracecore.span import SpanKind
from tracecore.topics import Topics
from tracecore.window import OperationWindow
from tracecore.wire import encode_alert, encode_trace, encode_window

#: 2026-11-22 12:00:00 UTC.
NOON_NS = 1_795_348_800 * 1_000_000_000
MS = 1_000_000
NOON_MS = NOON_NS // MS


@dataclass(frozen=True)
class Made:
    """A span to make; times in milliseconds, ``start_ms`` after noon."""

    span_id: int
    parent_id: int = 0
    service: str = "front"
    name: str = "GET /"
    kind: int = SpanKind.SERVER
    start_ms: float = 0.0
    duration_ms: float = 10.0
    error: bool = False
    attributes: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)
    scope: dict[str, Any] = field(default_factory=dict)
    #: Attributes of each event.
    events: tuple[dict[str, Any], ...] = ()
    link: dict[str, Any] = field(default_factory=dict)


def request_of(trace_id: int, spans: Sequence[Made]) -> bytes:
    """An ExportTraceServiceRequest."""
    request = ExportTraceServiceRequest()
    for made in spans:
        resource_spans = request.resource_spans.add()
        _set(resource_spans.resource.attributes, {"service.name": made.service, **made.resource})
        scope_spans = resource_spans.scope_spans.add()
        scope_spans.scope.name, scope_spans.scope.version = "made", "1.2"
        _set(scope_spans.scope.attributes, made.scope)
        span = scope_spans.spans.add()
        span.trace_id, span.span_id = trace_id.to_bytes(16, "big"), made.span_id.to_bytes(8, "big")
        if made.parent_id:
            span.parent_span_id = made.parent_id.to_bytes(8, "big")
        span.name, span.kind = made.name, made.kind
        span.start_time_unix_nano = NOON_NS + round(made.start_ms * MS)
        span.end_time_unix_nano = span.start_time_unix_nano + round(made.duration_ms * MS)
        _set(span.attributes, made.attributes)
        if made.error:
            span.status.code, span.status.message = 2, "it broke"
        for event in made.events:
            _set(span.events.add(name="happened", time_unix_nano=span.start_time_unix_nano).attributes, event)
        if made.link:
            _set(span.links.add(trace_id=b"\1" * 16, span_id=b"\2" * 8).attributes, made.link)
    return request.SerializeToString()


def trace_of(request: bytes, replay_id: str = "") -> ClosedTrace:
    """The closed trace of a request's spans."""
    spans, rejected = decode_spans(request)
    assert not rejected
    arrival = max(span.end_ns for span in spans)
    return closed_trace(
        spans[0].trace_id,
        spans,
        revision=1,
        reason="complete",
        first_arrival_ns=arrival,
        last_arrival_ns=arrival,
        replay_id=replay_id,
    )


def made_trace(trace_id: int, *spans: Made) -> ClosedTrace:
    """The closed trace of spans to make."""
    return trace_of(request_of(trace_id, spans))


def store(
    database_url: str,
    traces: Sequence[ClosedTrace] = (),
    windows: Sequence[OperationWindow] = (),
    alerts: Sequence[Alert] = (),
) -> None:
    """Store them, as the sink does."""
    topics = Topics()
    batcher = Batcher(topics, BatchLimits(rows=10**9, bytes=10**9, age_s=0, parts_timeout_s=0))
    said = [
        *((topics.traces, record) for trace in traces for record in encode_trace(trace)),
        *((topics.windows, encode_window(window)) for window in windows),
        *((topics.alerts, encode_alert(alert)) for alert in alerts),
    ]
    offsets = {topic: itertools.count() for topic in {topic for topic, _ in said}}
    for topic, value in said:
        batcher.add(Record(topic, 0, next(offsets[topic]), NOON_MS, b"", value), 0.0)
    history = Store(database_url, topics.spans)
    try:
        known = history.offsets([(topic, 0) for topic in offsets])
        outcome = history.store(batch_of(batcher.take(1.0), RowEncoder()), known, lambda letters: None)
        assert not outcome.letters, outcome.letters
    finally:
        history.close()


def _set(attributes: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        pair: KeyValue = attributes.add(key=key)
        if isinstance(value, bool):
            pair.value.bool_value = value
        elif isinstance(value, int):
            pair.value.int_value = value
        elif isinstance(value, float):
            pair.value.double_value = value
        elif isinstance(value, bytes):
            pair.value.bytes_value = value
        else:
            pair.value.string_value = value
