"""Zipkin v2 JSON to OTLP spans.

Sources: Zipkin API v2 (zipkin2-api.yaml); OpenTelemetry specification, Zipkin
exporter, read backwards.
"""

import contextlib
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tracewatch.gateway.errors import UnreadableBody
from tracewatch.gateway.otlp import Received, parse_json
from tracewatch.records import EncodedSpan, envelope_bytes, framed
from tracewatch.settings import MAX_RECORD_BYTES

_KINDS = {
    "CLIENT": Span.SPAN_KIND_CLIENT,
    "SERVER": Span.SPAN_KIND_SERVER,
    "PRODUCER": Span.SPAN_KIND_PRODUCER,
    "CONSUMER": Span.SPAN_KIND_CONSUMER,
}
_STATUS_CODES = {"OK": Status.STATUS_CODE_OK, "ERROR": Status.STATUS_CODE_ERROR}
# Tags by which exporters carry what Zipkin has no field for.
_SCOPE_TAGS = {"otel.scope.name": "name", "otel.scope.version": "version",
               "otel.library.name": "name", "otel.library.version": "version"}  # fmt: skip
_MAX_UNIX_NS = 2**64 - 1


def decode_zipkin(body: bytes) -> Received:
    """A JSON list of Zipkin v2 spans. Raises UnreadableBody; a span without valid ids is rejected alone."""
    document = parse_json(body)
    if not isinstance(document, list):
        raise UnreadableBody("the body is no JSON list of Zipkin v2 spans")
    spans: list[EncodedSpan] = []
    rejected = 0
    reason = ""
    for index, zipkin_span in enumerate(document):
        try:
            spans.append(_encoded(zipkin_span))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            rejected += 1
            reason = reason or f"span {index} of the list: {type(error).__name__}: {error}"
    return Received(spans, rejected, reason)


def _encoded(zipkin_span: dict[str, Any]) -> EncodedSpan:
    trace_id = _id(zipkin_span, "traceId", 16)
    tags = {str(key): str(value) for key, value in (zipkin_span.get("tags") or {}).items()}
    scope = InstrumentationScope()
    for tag, field in _SCOPE_TAGS.items():
        if tag in tags:
            setattr(scope, field, tags.pop(tag))
    local = zipkin_span.get("localEndpoint") or {}
    resource = Resource(attributes=[_text("service.name", local.get("serviceName") or "unknown_service")])
    resource.attributes.extend(
        _text(f"host.{name}", local[key]) for key, name in (("ipv4", "ip"), ("ipv6", "ip")) if local.get(key)
    )
    scope_bytes = ScopeSpans(scope=scope).SerializeToString() if scope.ByteSize() else b""
    envelope = ResourceSpans(resource=resource).SerializeToString(), scope_bytes
    span = _span(zipkin_span, trace_id, tags).SerializeToString()
    size = len(span) + envelope_bytes(envelope)
    if size > MAX_RECORD_BYTES - 64:
        raise ValueError(f"{size} bytes exceed the limit of a record, {MAX_RECORD_BYTES} bytes")
    return trace_id, envelope, framed(span)


def _span(zipkin_span: dict[str, Any], trace_id: bytes, tags: dict[str, str]) -> Span:
    start_us = int(zipkin_span.get("timestamp") or 0)
    duration_us = int(zipkin_span.get("duration") or 0)
    if start_us < 0 or duration_us < 0 or (start_us + duration_us) * 1000 > _MAX_UNIX_NS:
        raise ValueError(f"timestamp {start_us} and duration {duration_us} are no microseconds since 1970")
    span = Span(
        trace_id=trace_id,
        span_id=_id(zipkin_span, "id", 8),
        name=str(zipkin_span.get("name") or "unknown"),
        kind=_KINDS.get(str(zipkin_span.get("kind") or "").upper(), Span.SPAN_KIND_INTERNAL),
        start_time_unix_nano=start_us * 1000,
        end_time_unix_nano=(start_us + duration_us) * 1000,
    )
    if zipkin_span.get("parentId"):
        span.parent_span_id = _id(zipkin_span, "parentId", 8)
    if zipkin_span.get("shared"):
        # B3's older style: caller and callee share one id. Here the callee gets its own, and its caller as parent.
        span.parent_span_id = span.span_id
        span.span_id = bytes(byte ^ 0xA5 for byte in span.span_id)
        span.attributes.append(_text("zipkin.shared", "true"))
    _set_status(span, tags)
    span.attributes.extend(_text(key, value) for key, value in tags.items())
    remote = zipkin_span.get("remoteEndpoint") or {}
    if remote.get("serviceName"):
        span.attributes.append(_text("peer.service", remote["serviceName"]))
    if address := remote.get("ipv4") or remote.get("ipv6"):
        span.attributes.append(_text("network.peer.address", address))
    if remote.get("port"):
        port = KeyValue(key="network.peer.port")
        port.value.int_value = int(remote["port"])
        span.attributes.append(port)
    for annotation in zipkin_span.get("annotations") or ():
        span.events.add(time_unix_nano=int(annotation.get("timestamp") or 0) * 1000, name=str(annotation.get("value")))
    return span


def _set_status(span: Span, tags: dict[str, str]) -> None:
    code = tags.pop("otel.status_code", None)
    message = tags.pop("otel.status_description", "")
    if code is not None and code.upper() in _STATUS_CODES:
        span.status.code = _STATUS_CODES[code.upper()]
        span.status.message = tags.pop("error", message) if code.upper() == "ERROR" else message
    elif "error" in tags and tags["error"].lower() != "false":
        span.status.code = Status.STATUS_CODE_ERROR
        # Zipkin: a present error tag is an error, its value the message if it says more than "true".
        with contextlib.suppress(KeyError):
            error = tags.pop("error")
            span.status.message = "" if error.lower() == "true" else error


def _id(zipkin_span: dict[str, Any], name: str, size: int) -> bytes:
    text = str(zipkin_span[name])
    # A trace id of 64 bits fills the right half of ours.
    value = bytes.fromhex(text.zfill(size * 2) if len(text) <= size * 2 else text)
    if len(value) != size or not any(value):
        raise ValueError(f"{name} must be hex of up to {size * 2} digits, not all zero; got {text[:64]!r}")
    return value


def _text(key: str, value: object) -> KeyValue:
    pair = KeyValue(key=key.encode(errors="backslashreplace").decode())
    pair.value.string_value = str(value).encode(errors="backslashreplace").decode()
    return pair
