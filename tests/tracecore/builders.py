"""Small builders of spans and traces, for every room's tests: what comes out has real OTLP bytes and real analysis.

client = span("GET /orders", service="web", kind=SpanKind.CLIENT, duration_ms=80)
server = span("GET /orders", parent=client, service="orders", kind=SpanKind.SERVER, start_ms=10, duration_ms=60)
trace = closed([client, server])
"""

from collections.abc import Mapping, Sequence
from itertools import count

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace, CloseReason
from tracecore.otlp import AttributeValue, decode_spans, encode_spans
from tracecore.skew import MAX_SKEW_NS
from tracecore.span import Span, SpanKind

#: When built traces begin: 2023-11-14 22:13:20 UTC.
T0_NS = 1_700_000_000 * 1_000_000_000
MS = 1_000_000

_ids = count(1)


def trace_id(number: int) -> bytes:
    """The trace id of trace ``number``, counted from 1."""
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    """The span id of span ``number``, counted from 1."""
    return number.to_bytes(8, "big")


def span(
    name: str = "work",
    *,
    trace: int | None = None,
    id: int | None = None,
    parent: Span | int | None = None,
    service: str = "shop",
    host: str = "",
    kind: int = SpanKind.INTERNAL,
    start_ms: float = 0,
    duration_ms: float = 10,
    error: bool | str = False,
    attributes: Mapping[str, AttributeValue] | None = None,
    resource: Mapping[str, AttributeValue] | None = None,
    events: Sequence[tuple[str, float, Mapping[str, AttributeValue]]] = (),
    links: Sequence[Span] = (),
    trace_state: str = "",
    scope: str = "tests",
) -> Span:
    """One span, decoded from OTLP as the stream does it.

    ``start_ms`` counts from ``T0_NS``. ``id`` is the next free one if not given; ``trace`` is the parent's, or 1.
    ``error`` may be the status message. ``events`` are (name, milliseconds from ``T0_NS``, attributes). ``host`` is
    ``host.name``; without it the service's name stands for the host.
    """
    of_trace = parent.trace_id if isinstance(parent, Span) and trace is None else trace_id(trace or 1)
    parent_span_id = parent.span_id if isinstance(parent, Span) else span_id(parent) if parent else b""
    start_ns = T0_NS + round(start_ms * MS)
    message = SpanMessage(
        trace_id=of_trace,
        span_id=span_id(next(_ids) + 0x100000 if id is None else id),
        parent_span_id=parent_span_id,
        name=name,
        kind=SpanMessage.SpanKind.ValueType(kind),
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + round(duration_ms * MS),
        attributes=_key_values(attributes or {}),
        events=[
            SpanMessage.Event(name=name, time_unix_nano=T0_NS + round(at_ms * MS), attributes=_key_values(more))
            for name, at_ms, more in events
        ],
        links=[SpanMessage.Link(trace_id=linked.trace_id, span_id=linked.span_id) for linked in links],
        trace_state=trace_state,
    )
    if error:
        message.status.CopyFrom(
            Status(code=Status.StatusCode.STATUS_CODE_ERROR, message=error if isinstance(error, str) else "")
        )
    of_resource: dict[str, AttributeValue] = {"service.name": service} if service else {}
    if host:
        of_resource["host.name"] = host
    resource_spans = ResourceSpans(
        resource=ResourceMessage(attributes=_key_values({**of_resource, **(resource or {})})),
        scope_spans=[ScopeSpans(spans=[message])],
    )
    resource_spans.scope_spans[0].scope.name = scope
    spans, rejected = decode_spans(ExportTraceServiceRequest(resource_spans=[resource_spans]).SerializeToString())
    assert not rejected, rejected
    return spans[0]


def request(*spans: Span) -> bytes:
    """An ExportTraceServiceRequest with ``spans``, as a record of the spans topic carries it."""
    return encode_spans(spans)


def closed(
    spans: Sequence[Span],
    *,
    revision: int = 1,
    reason: CloseReason = "complete",
    first_arrival_ns: int | None = None,
    last_arrival_ns: int | None = None,
    max_skew_ns: int = MAX_SKEW_NS,
    replay_id: str = "",
    warnings: Sequence[str] = (),
) -> ClosedTrace:
    """``spans`` of one trace, analysed; they arrived right after the last of them ended, if nothing else is said."""
    arrival_ns = max(span.end_ns for span in spans)
    return closed_trace(
        spans[0].trace_id,
        spans,
        revision=revision,
        reason=reason,
        first_arrival_ns=arrival_ns if first_arrival_ns is None else first_arrival_ns,
        last_arrival_ns=arrival_ns if last_arrival_ns is None else last_arrival_ns,
        max_skew_ns=max_skew_ns,
        replay_id=replay_id,
        warnings=warnings,
    )


def order_spans(trace: int = 1, *, start_ms: float = 0, failed: bool = False) -> list[Span]:
    """A small shop's request: web calls orders over HTTP, orders asks PostgreSQL and publishes to Kafka, mail consumes.

    100 ms long; 10 ms of network each way between web and orders. ``failed``: the query fails, and all above it.
    """
    base = (trace - 1) * 100
    error: str | bool = "duplicate key" if failed else False
    root = span("GET /", trace=trace, id=base + 1, service="web", kind=SpanKind.SERVER, start_ms=start_ms,
                duration_ms=100, error=bool(failed))  # fmt: skip
    call = span("POST", id=base + 2, parent=root, service="web", kind=SpanKind.CLIENT, start_ms=start_ms + 10,
                duration_ms=80, error=bool(failed), attributes={"server.address": "orders"})  # fmt: skip
    served = span("POST /orders", id=base + 3, parent=call, service="orders", kind=SpanKind.SERVER,
                  start_ms=start_ms + 20, duration_ms=60, error=bool(failed))  # fmt: skip
    query = span("INSERT orders", id=base + 4, parent=served, service="orders", kind=SpanKind.CLIENT,
                 start_ms=start_ms + 25, duration_ms=30, error=error,
                 attributes={"db.system.name": "postgresql", "db.namespace": "shop"})  # fmt: skip
    publish = span("send orders", id=base + 5, parent=served, service="orders", kind=SpanKind.PRODUCER,
                   start_ms=start_ms + 60, duration_ms=5,
                   attributes={"messaging.system": "kafka", "messaging.destination.name": "orders"})  # fmt: skip
    consume = span("process orders", id=base + 6, parent=publish, service="mail", kind=SpanKind.CONSUMER,
                   start_ms=start_ms + 70, duration_ms=20,
                   attributes={"messaging.system": "kafka", "messaging.destination.name": "orders"})  # fmt: skip
    return [root, call, served, query, publish, consume]


def _key_values(attributes: Mapping[str, AttributeValue]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: AttributeValue) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_any_value(item) for item in value]))
    return AnyValue(kvlist_value=KeyValueList(values=_key_values(value)))
