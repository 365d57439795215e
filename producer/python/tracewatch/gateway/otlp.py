"""OTLP request bodies to spans, and answers back, in protobuf and JSON.

Source: opentelemetry-proto, docs/specification.md (OTLP/HTTP, JSON mapping).
"""

import base64
import binascii
import json
from typing import Any, NamedTuple

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tracewatch.gateway.errors import UnreadableBody
from tracewatch.protobuf import delimited, varint
from tracewatch.records import EncodedSpan, envelope_bytes, framed
from tracewatch.settings import MAX_RECORD_BYTES

PROTOBUF = "application/x-protobuf"
JSON = "application/json"


class Received(NamedTuple):
    """What a body held: spans to publish, how many were no valid spans, and the first reason why."""

    spans: list[EncodedSpan]
    rejected_spans: int
    reason: str


def decode_protobuf(body: bytes) -> Received:
    """An ``ExportTraceServiceRequest`` in protobuf; an empty body is an empty request. Raises UnreadableBody."""
    try:
        return _received(ExportTraceServiceRequest.FromString(body))
    except DecodeError as error:
        raise UnreadableBody(f"the body is no ExportTraceServiceRequest in protobuf: {error}") from error


def decode_json(body: bytes) -> Received:
    """An ``ExportTraceServiceRequest`` in OTLP's JSON: hex ids, unknown fields ignored. Raises UnreadableBody."""
    document = parse_json(body)
    if not isinstance(document, dict):
        raise UnreadableBody("the body is no JSON object")
    try:
        malformed = _ids_to_base64(document)
        request = json_format.ParseDict(document, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    except (json_format.ParseError, AttributeError, TypeError, RecursionError, SystemError, ValueError) as error:
        # SystemError is protobuf's answer to a name with half a surrogate pair, which has no UTF-8.
        raise UnreadableBody(f"the body is no ExportTraceServiceRequest in JSON: {error}") from error
    received = _received(request)
    return received if not malformed else received._replace(reason=malformed)


def parse_json(body: bytes) -> Any:
    """Any JSON document. Raises UnreadableBody."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadableBody(f"the body is no JSON: {error}") from error


def success(received: Received, media_type: str) -> bytes:
    """An ``ExportTraceServiceResponse``: empty if there is nothing to say against any span."""
    if media_type == JSON:
        if not received.reason:
            return b"{}"
        # int64 is a string in protobuf's JSON.
        partial = {"rejectedSpans": str(received.rejected_spans), "errorMessage": received.reason}
        return json.dumps({"partialSuccess": partial}).encode()
    if not received.reason:
        return b""
    partial_success = b"\x08" + varint(received.rejected_spans) + b"\x12" + delimited(received.reason.encode())
    return b"\x0a" + delimited(partial_success)


def failure(grpc_code: int, message: str, media_type: str) -> bytes:
    """A ``google.rpc.Status``."""
    if media_type == JSON:
        return json.dumps({"code": grpc_code, "message": message}).encode()
    return b"\x08" + varint(grpc_code) + b"\x12" + delimited(message.encode(errors="replace"))


def _received(request: ExportTraceServiceRequest) -> Received:
    spans: list[EncodedSpan] = []
    rejected = 0
    reason = ""
    for resource_spans in request.resource_spans:
        resource = ResourceSpans(schema_url=resource_spans.schema_url)
        if resource_spans.HasField("resource"):
            resource.resource.CopyFrom(resource_spans.resource)
        resource_bytes = resource.SerializeToString()
        for scope_spans in resource_spans.scope_spans:
            scope = ScopeSpans(schema_url=scope_spans.schema_url)
            if scope_spans.HasField("scope"):
                scope.scope.CopyFrom(scope_spans.scope)
            envelope = resource_bytes, scope.SerializeToString()
            for span in scope_spans.spans:
                encoded = span.SerializeToString()
                if invalid := _reason_against(span, len(encoded) + envelope_bytes(envelope)):
                    rejected += 1
                    reason = reason or invalid
                    continue
                spans.append((span.trace_id, envelope, framed(encoded)))
    return Received(spans, rejected, reason)


def _reason_against(span: Span, size_bytes: int) -> str:
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return f"trace_id must be 16 bytes, not all zero; got '{span.trace_id.hex()}'"
    if len(span.span_id) != 8 or not any(span.span_id):
        return f"span_id must be 8 bytes, not all zero; got '{span.span_id.hex()}'"
    if len(span.parent_span_id) not in (0, 8):
        return f"parent_span_id must be 8 bytes or absent; got '{span.parent_span_id.hex()}'"
    if size_bytes > MAX_RECORD_BYTES - 64:
        return (
            f"a span of {size_bytes} bytes exceeds the limit of a record, {MAX_RECORD_BYTES} bytes: shorten attributes"
        )
    return ""


def _ids_to_base64(document: dict[str, Any]) -> str:
    """Rewrite hex ids in place as protobuf's JSON wants bytes; answers what is wrong with the first that is no hex."""
    malformed = []
    for resource_spans in document.get("resourceSpans") or ():
        for scope_spans in resource_spans.get("scopeSpans") or ():
            for span in scope_spans.get("spans") or ():
                malformed += _rewrite(span, "traceId", "spanId", "parentSpanId")
                for link in span.get("links") or ():
                    malformed += _rewrite(link, "traceId", "spanId")
    return malformed[0] if malformed else ""


def _rewrite(holder: dict[str, Any], *names: str) -> list[str]:
    malformed = []
    for name in names:
        value = holder.get(name)
        if value is None:
            continue
        try:
            holder[name] = base64.b64encode(binascii.unhexlify(value)).decode()
        except (binascii.Error, TypeError, ValueError):
            # An id that cannot be: its span is rejected alone, not the whole request.
            holder[name] = ""
            malformed.append(f"{name} must be hex; got {str(value)[:64]!r}")
    return malformed
