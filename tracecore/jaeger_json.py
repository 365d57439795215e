"""Jaeger's JSON (query API v1, what its UI downloads) to OTLP, so that a Jaeger trace is read like any other.

Source: Jaeger's model/json and its translation to OTLP: tags become attributes, ``span.kind`` the kind, ``error`` or
``otel.status_code`` the status, logs events, a CHILD_OF reference of the same trace the parent, further ones links.
"""

from typing import Any

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.errors import MalformedPayload

_MICROSECOND_NS = 1000
_KINDS = {
    "internal": SpanMessage.SPAN_KIND_INTERNAL,
    "server": SpanMessage.SPAN_KIND_SERVER,
    "client": SpanMessage.SPAN_KIND_CLIENT,
    "producer": SpanMessage.SPAN_KIND_PRODUCER,
    "consumer": SpanMessage.SPAN_KIND_CONSUMER,
}
#: Tags that say what OTLP has fields for.
_FIELDS = {"span.kind", "error", "otel.status_code", "otel.status_description", "w3c.tracestate"}


class _Tag(msgspec.Struct):
    key: str
    value: Any = None
    type: str = "string"


class _Reference(msgspec.Struct, rename="camel"):
    ref_type: str = "CHILD_OF"
    trace_id: str = msgspec.field(name="traceID", default="")
    span_id: str = msgspec.field(name="spanID", default="")


class _Log(msgspec.Struct):
    timestamp: int = 0
    fields: list[_Tag] = []


class _Process(msgspec.Struct, rename="camel"):
    service_name: str = ""
    tags: list[_Tag] | None = None


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str = msgspec.field(name="traceID")
    span_id: str = msgspec.field(name="spanID")
    operation_name: str = ""
    start_time: int = 0
    duration: int = 0
    references: list[_Reference] | None = None
    tags: list[_Tag] | None = None
    logs: list[_Log] | None = None
    process_id: str = msgspec.field(name="processID", default="")
    process: _Process | None = None
    parent_span_id: str = msgspec.field(name="parentSpanID", default="")


class _Trace(msgspec.Struct):
    spans: list[_Span] = []
    processes: dict[str, _Process] = {}


class _Answer(msgspec.Struct):
    data: list[_Trace]


_decoder = msgspec.json.Decoder(_Answer)


def otlp_of_jaeger_json(body: bytes) -> bytes:
    """An ExportTraceServiceRequest of the traces in ``{"data": [...]}``. Raises ``MalformedPayload`` with the place."""
    try:
        traces = _decoder.decode(body).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(f"not Jaeger's JSON: {error}") from None
    request = ExportTraceServiceRequest()
    for number, trace in enumerate(traces):
        by_process: dict[str, ResourceSpans] = {}
        for span in trace.spans:
            try:
                resource_spans = by_process.get(span.process_id) if span.process is None else None
                if resource_spans is None:
                    process = span.process or trace.processes.get(span.process_id) or _Process()
                    resource_spans = by_process[span.process_id] = request.resource_spans.add()
                    resource_spans.scope_spans.add()
                    resource_spans.resource.attributes.append(_attribute("service.name", process.service_name))
                    resource_spans.resource.attributes.extend(_attributes(process.tags or []))
                resource_spans.scope_spans[0].spans.append(_otlp_span(span))
            except (ValueError, TypeError, OverflowError) as error:
                raise MalformedPayload(f"Jaeger trace {number}, span {span.span_id!r}: {error}") from None
    return request.SerializeToString()


def _otlp_span(span: _Span) -> SpanMessage:
    tags = {tag.key: tag for tag in span.tags or []}
    message = SpanMessage(
        trace_id=_identifier(span.trace_id, 16),
        span_id=_identifier(span.span_id, 8),
        name=span.operation_name,
        kind=_kind(tags),
        start_time_unix_nano=span.start_time * _MICROSECOND_NS,
        end_time_unix_nano=(span.start_time + span.duration) * _MICROSECOND_NS,
        trace_state=str(tags["w3c.tracestate"].value) if "w3c.tracestate" in tags else "",
        status=_status(tags),
        attributes=_attributes([tag for tag in span.tags or [] if tag.key not in _FIELDS]),
    )
    references = span.references or []
    parent = next((r for r in references if r.ref_type == "CHILD_OF" and r.trace_id == span.trace_id), None)
    parent = parent or next((r for r in references if r.trace_id == span.trace_id), None)
    if parent is not None:
        message.parent_span_id = _identifier(parent.span_id, 8)
    elif span.parent_span_id:
        message.parent_span_id = _identifier(span.parent_span_id, 8)
    for reference in references:
        if reference is not parent:
            message.links.add(trace_id=_identifier(reference.trace_id, 16), span_id=_identifier(reference.span_id, 8))
    for log in span.logs or []:
        fields = {tag.key: tag for tag in log.fields}
        named = fields.get("event") or fields.get("message")
        message.events.add(
            time_unix_nano=log.timestamp * _MICROSECOND_NS,
            name=str(named.value) if named else "",
            attributes=_attributes([tag for tag in log.fields if tag is not named]),
        )
    return message


def _kind(tags: dict[str, _Tag]) -> SpanMessage.SpanKind.ValueType:
    kind = str(tags["span.kind"].value).lower() if "span.kind" in tags else ""
    return _KINDS.get(kind, SpanMessage.SPAN_KIND_UNSPECIFIED)


def _status(tags: dict[str, _Tag]) -> Status:
    description = tags.get("otel.status_description")
    message = str(description.value) if description else ""
    code = str(tags["otel.status_code"].value).upper() if "otel.status_code" in tags else ""
    if code == "ERROR" or ("error" in tags and str(tags["error"].value).lower() not in ("false", "0", "")):
        return Status(code=Status.STATUS_CODE_ERROR, message=message)
    return Status(code=Status.STATUS_CODE_OK if code == "OK" else Status.STATUS_CODE_UNSET, message=message)


def _identifier(text: str, length: int) -> bytes:
    """Ids lose leading zeros in Jaeger's JSON."""
    return int(text, 16).to_bytes(length, "big") if text else b""


def _attributes(tags: list[_Tag]) -> list[KeyValue]:
    return [_attribute(tag.key, tag.value, tag.type) for tag in tags]


def _attribute(key: str, value: Any, kind: str = "string") -> KeyValue:
    match kind:
        case "bool":
            typed = AnyValue(bool_value=value in (True, "true"))
        case "int64":
            typed = AnyValue(int_value=int(value))
        case "float64":
            typed = AnyValue(double_value=float(value))
        case _:
            typed = AnyValue(string_value=value if isinstance(value, str) else str(value))
    return KeyValue(key=key, value=typed)
