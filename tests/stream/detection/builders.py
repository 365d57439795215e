"""Spans and traces for tests, in a line each."""

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.span import ONE_SPAN_MILLI, Resource, Scope, Span, SpanKind, StatusCode

SECOND_NS = 1_000_000_000


def span(
    service: str,
    name: str = "op",
    *,
    trace: int = 1,
    span_id: int = 1,
    parent: int = 0,
    end_ns: int = SECOND_NS,
    duration_ns: int = 1_000_000,
    status: StatusCode = StatusCode.UNSET,
    attributes: dict[str, str] | None = None,
) -> Span:
    """A decoded span whose raw bytes hold its attributes."""
    pairs = [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in (attributes or {}).items()]
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=span_id.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        kind=SpanKind.SERVER,
        start_ns=end_ns - duration_ns,
        end_ns=end_ns,
        status=status,
        count_milli=ONE_SPAN_MILLI,
        resource=Resource(service.encode(), "", service, service),
        scope=Scope(b"", ""),
        raw=SpanMessage(name=name, attributes=pairs).SerializeToString(),
    )


def failed(service: str, name: str = "op", **fields: object) -> Span:
    """A failed span."""
    return span(service, name, status=StatusCode.ERROR, **fields)  # type: ignore[arg-type]
