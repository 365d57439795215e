"""OTLP's JSON to OTLP's protobuf: ids in hex, and shapes that tools write beside the specified one.

Read are a request, a bare ResourceSpans, a list of either, and several of them one a line.

Source: opentelemetry-proto, "JSON Protobuf Encoding": hex ids, lowerCamelCase names, unknown fields ignored.
"""

import json
from base64 import b64encode
from binascii import Error as InvalidHex
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracecore.errors import MalformedPayload

#: Fields that OTLP writes in hex where protobuf's JSON has base64.
_ID_FIELDS = frozenset(("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"))


def request_of_json(value: bytes) -> bytes:
    """An ExportTraceServiceRequest in protobuf. Raises ``MalformedPayload`` with what is wrong."""
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedPayload(f"JSON is not UTF-8: {error}") from None
    resource_spans: list[Any] = []
    for document in _documents(text):
        resource_spans += _resource_spans(document)
    for item in resource_spans:
        _set_ids(item)
    request = ExportTraceServiceRequest()
    try:
        ParseDict({"resourceSpans": resource_spans}, request, ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise MalformedPayload(f"not OTLP JSON: {error}") from None
    return request.SerializeToString()


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except RecursionError:
        raise MalformedPayload("not OTLP JSON: nested too deeply") from None
    except json.JSONDecodeError as whole_error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise MalformedPayload(f"not JSON: {whole_error}") from None
        try:
            return [json.loads(line) for line in lines]
        except json.JSONDecodeError:
            raise MalformedPayload(f"not JSON: {whole_error}") from None


def _resource_spans(document: Any) -> list[Any]:
    if isinstance(document, list):
        return [item for part in document for item in _resource_spans(part)]
    if not isinstance(document, dict):
        raise MalformedPayload(f"not OTLP JSON: {type(document).__name__} where an object is expected")
    for name in ("resourceSpans", "resource_spans"):
        if name in document:
            items = document[name]
            if not isinstance(items, list):
                raise MalformedPayload(f"not OTLP JSON: {name} is no list")
            return items
    if "scopeSpans" in document or "scope_spans" in document:
        return [document]
    if not document:
        return []
    raise MalformedPayload("not OTLP JSON: neither resourceSpans nor scopeSpans")


def _set_ids(item: Any) -> None:
    """Rewrite hex ids as base64, in place, wherever spans and links stand."""
    if not isinstance(item, dict):
        raise MalformedPayload(f"not OTLP JSON: {type(item).__name__} where ResourceSpans is expected")
    for scope_spans in _items(item, "scopeSpans", "scope_spans"):
        for span in _items(scope_spans, "spans"):
            _set_own_ids(span)
            for link in _items(span, "links"):
                _set_own_ids(link)


def _items(parent: dict[str, Any], *names: str) -> list[dict[str, Any]]:
    items = [item for name in names for item in parent.get(name) or []]
    if not all(isinstance(item, dict) for item in items):
        raise MalformedPayload(f"not OTLP JSON: an item of {names[0]} is no object")
    return items


def _set_own_ids(holder: dict[str, Any]) -> None:
    for name in _ID_FIELDS & holder.keys():
        text = holder[name]
        if not text:
            del holder[name]
            continue
        try:
            holder[name] = b64encode(bytes.fromhex(text)).decode()
        except (ValueError, TypeError, InvalidHex):
            raise MalformedPayload(f"not OTLP JSON: {name} is not hex: {str(text)[:40]!r}") from None
