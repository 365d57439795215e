"""OTLP's JSON encoding to its protobuf encoding, so that all that follows reads one format.

Read leniently where senders differ: ids in hex, as OTLP says, or in base64, as protobuf's own JSON says; 64-bit
numbers as strings or numbers; enums by number or name; camelCase or snake_case; the names of before OTLP 0.16
(``instrumentationLibrarySpans``); a bare list of ResourceSpans, or a single one.

Source: opentelemetry-proto, docs/specification.md, "JSON Protobuf Encoding".
"""

import binascii
import json
from base64 import b64decode, b64encode
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracecore.errors import MalformedPayload

_RESOURCE_SPANS = ("resourceSpans", "resource_spans")
_SCOPE_SPANS = ("scopeSpans", "scope_spans")
_OLD_SCOPE_SPANS = ("instrumentationLibrarySpans", "instrumentation_library_spans")
_OLD_SCOPE = ("instrumentationLibrary", "instrumentation_library")
_TRACE_ID = ("traceId", "trace_id")
_SPAN_ID = ("spanId", "span_id")
_PARENT_SPAN_ID = ("parentSpanId", "parent_span_id")
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


def otlp_of_json(body: bytes) -> bytes:
    """An ExportTraceServiceRequest in protobuf. Unknown fields are dropped, as OTLP asks for.

    Raises ``MalformedPayload`` with the place that does not fit. An id that is neither hex nor base64 of its length
    comes out as one that is not valid, so that ``decode_spans`` rejects that span alone.
    """
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedPayload(f"not JSON: {error}") from None
    request = {"resourceSpans": _resource_spans(payload)}
    try:
        _normalise(request)
        return ParseDict(request, ExportTraceServiceRequest(), ignore_unknown_fields=True).SerializeToString()
    except (ParseError, RecursionError) as error:
        raise MalformedPayload(f"not an ExportTraceServiceRequest in JSON: {error}") from None


def looks_like_json(body: bytes) -> bool:
    """True if ``body`` begins as a JSON object or list: an ExportTraceServiceRequest in protobuf begins with 0x0A."""
    # A line feed is 0x0A too. In protobuf a length follows it, which could be "{" only for 123 bytes exactly: the
    # byte after that is then a field's tag, never what follows "{" in JSON.
    first = body.lstrip(b" \t\r\n\xef\xbb\xbf")[:1]
    if not body.startswith(b"\n"):
        return first in (b"{", b"[")
    if first not in (b"{", b"["):
        return False
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _resource_spans(payload: Any) -> list[Any]:
    if isinstance(payload, list):
        return payload
    if not isinstance(payload, dict):
        raise MalformedPayload(f"not an ExportTraceServiceRequest in JSON: a {type(payload).__name__}")
    for name in _RESOURCE_SPANS:
        if name in payload:
            return _list(payload[name], name)
    if any(name in payload for name in _SCOPE_SPANS + _OLD_SCOPE_SPANS):
        return [payload]
    if payload:
        # An empty object is an empty request; an object of other things is not one, and must not vanish as such.
        raise MalformedPayload(
            f"not an ExportTraceServiceRequest in JSON: no resourceSpans among {sorted(payload)[:5]}"
        )
    return []


def _normalise(request: dict[str, Any]) -> None:
    """Bring old names and ids to what protobuf's JSON reader takes, in place."""
    for resource_spans in request["resourceSpans"]:
        _rename(_object(resource_spans, "resourceSpans"), _OLD_SCOPE_SPANS, "scopeSpans")
        for scope_spans in _first_list(resource_spans, _SCOPE_SPANS):
            _rename(_object(scope_spans, "scopeSpans"), _OLD_SCOPE, "scope")
            for span in _first_list(scope_spans, ("spans",)):
                _ids(_object(span, "spans"))
                for link in _first_list(span, ("links",)):
                    _ids(_object(link, "links"))


def _ids(holder: dict[str, Any]) -> None:
    for names, size in ((_TRACE_ID, _TRACE_ID_BYTES), (_SPAN_ID, _SPAN_ID_BYTES), (_PARENT_SPAN_ID, _SPAN_ID_BYTES)):
        for name in names:
            text = holder.get(name)
            if isinstance(text, str) and text:
                holder[name] = b64encode(_id_bytes(text, size)).decode()


def _id_bytes(text: str, size: int) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        pass
    try:
        decoded = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    # Longer than any id: never taken for one, and still legible in the dead letter.
    return decoded if len(decoded) == size else ("?" + text).encode("utf-8", "replace").ljust(_TRACE_ID_BYTES + 1, b"?")


def _rename(holder: dict[str, Any], old_names: tuple[str, ...], name: str) -> None:
    for old in old_names:
        if old in holder and name not in holder:
            holder[name] = holder.pop(old)


def _first_list(holder: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    for name in names:
        if name in holder:
            return _list(holder[name], name)
    return []


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedPayload(
            f"not an ExportTraceServiceRequest in JSON: {name} is a {type(value).__name__}, not a list"
        )
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedPayload(f"not an ExportTraceServiceRequest in JSON: {name} has a {type(value).__name__} in it")
    return value
