"""Zipkin's JSON (v2) to OTLP, so that a Zipkin trace is read like any other.

Source: Zipkin's API, zipkin2-api.yaml, and OpenTelemetry's mapping of it: ``kind`` keeps its name, ``tags`` become
attributes and ``annotations`` events, ``localEndpoint`` the resource, ``remoteEndpoint`` the peer. The tag ``error``
sets the status. Ids of 64 bits are padded on the left.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.errors import MalformedPayload

MICROSECOND_NS = 1000

_LONGEST_ID_DIGITS = 32
_HexId = Annotated[str, msgspec.Meta(pattern=rf"^[0-9a-fA-F]{{1,{_LONGEST_ID_DIGITS}}}$")]
_Microseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 // MICROSECOND_NS)]


class _Endpoint(msgspec.Struct, rename="camel"):
    service_name: str | None = None
    ipv4: str | None = None
    ipv6: str | None = None
    port: int | None = None


class _Annotation(msgspec.Struct):
    timestamp: _Microseconds = 0
    value: str = ""


class _Span(msgspec.Struct, rename="camel"):
    trace_id: _HexId
    id: _HexId
    parent_id: _HexId | None = None
    name: str | None = None
    kind: str | None = None
    timestamp: _Microseconds | None = None
    duration: _Microseconds | None = None
    local_endpoint: _Endpoint | None = None
    remote_endpoint: _Endpoint | None = None
    annotations: list[_Annotation] | None = None
    tags: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(list[_Span])

_KINDS = {
    "CLIENT": SpanMessage.SPAN_KIND_CLIENT,
    "SERVER": SpanMessage.SPAN_KIND_SERVER,
    "PRODUCER": SpanMessage.SPAN_KIND_PRODUCER,
    "CONSUMER": SpanMessage.SPAN_KIND_CONSUMER,
}


def otlp_of_zipkin_json(body: bytes) -> bytes:
    """An ExportTraceServiceRequest of a JSON list of Zipkin spans, spans of one service together.

    Raises ``MalformedPayload`` with the path to what does not fit.
    """
    try:
        spans = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(f"not a list of Zipkin spans: {error}") from None
    request = ExportTraceServiceRequest()
    by_resource: dict[tuple[tuple[str, str], ...], ScopeSpans] = {}
    for span in spans:
        resource = _resource(span.local_endpoint)
        key = tuple(resource.items())
        scope_spans = by_resource.get(key)
        if scope_spans is None:
            resource_spans = request.resource_spans.add()
            resource_spans.resource.attributes.extend(_key_values(resource))
            scope_spans = by_resource[key] = resource_spans.scope_spans.add()
        scope_spans.spans.append(_otlp_span(span))
    return request.SerializeToString()


def _resource(endpoint: _Endpoint | None) -> dict[str, str]:
    if endpoint is None:
        return {}
    address = endpoint.ipv4 or endpoint.ipv6
    said = {"service.name": endpoint.service_name, "host.name": address}
    return {key: value for key, value in said.items() if value}


def _otlp_span(span: _Span) -> SpanMessage:
    start_ns = (span.timestamp or 0) * MICROSECOND_NS
    message = SpanMessage(
        trace_id=_id_bytes(span.trace_id, 16),
        span_id=_id_bytes(span.id, 8),
        parent_span_id=_id_bytes(span.parent_id, 8) if span.parent_id else b"",
        name=span.name or "",
        kind=_KINDS.get(span.kind or "", SpanMessage.SPAN_KIND_UNSPECIFIED),
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + (span.duration or 0) * MICROSECOND_NS,
        attributes=_key_values({**_remote(span.remote_endpoint), **(span.tags or {})}),
        events=[
            SpanMessage.Event(time_unix_nano=annotation.timestamp * MICROSECOND_NS, name=annotation.value)
            for annotation in span.annotations or ()
        ],
    )
    error = (span.tags or {}).get("error")
    if error is not None:
        message.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=error))
    return message


def _remote(endpoint: _Endpoint | None) -> dict[str, str]:
    if endpoint is None:
        return {}
    said = {
        "peer.service": endpoint.service_name,
        "network.peer.address": endpoint.ipv4 or endpoint.ipv6,
        "network.peer.port": str(endpoint.port) if endpoint.port else None,
    }
    return {key: value for key, value in said.items() if value}


def _id_bytes(hex_id: str, size: int) -> bytes:
    """An id padded on the left; of one that is too long, the right end, as Zipkin does."""
    return bytes.fromhex(hex_id.zfill(_LONGEST_ID_DIGITS))[-size:]


def _key_values(texts: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=text)) for key, text in texts.items()]
