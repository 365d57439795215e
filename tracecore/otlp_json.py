"""OTLP's JSON encoding to its protobuf encoding, so that all that follows reads one format.

Read leniently where senders differ: ids in hex, as OTLP says, or in base64, as protobuf's own JSON says; 64-bit
numbers as strings or numbers; enums by number or name; camelCase or snake_case; the names of before OTLP 0.16
(``instrumentationLibrarySpans``); a bare ResourceSpans, a list of those or of requests, and several of any, one a line.

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
_OF_RESOURCE_SPANS = (*_SCOPE_SPANS, *_OLD_SCOPE_SPANS, "resource", "schemaUrl", "schema_url")
_OLD_SCOPE = ("instrumentationLibrary", "instrumentation_library")
_TRACE_ID = ("traceId", "trace_id")
_SPAN_ID = ("spanId", "span_id")
_PARENT_SPAN_ID = ("parentSpanId", "parent_span_id")
_NOT_OTLP = "not an ExportTraceServiceRequest in JSON"
_TRACE_ID_BYTES, _SPAN_ID_BYTES = 16, 8


def otlp_of_json(body: bytes) -> bytes:
    """An ExportTraceServiceRequest in protobuf. Unknown fields are dropped, as OTLP asks for.

    Raises ``MalformedPayload`` with the place that does not fit. An id that is neither hex nor base64 of its length
    comes out as one that is not valid, so that ``decode_spans`` rejects that span alone.
    """
    request = {"resourceSpans": [item for document in _documents(body) for item in _resource_spans(document)]}
    try:
        _normalise(request)
        return ParseDict(request, ExportTraceServiceRequest(), ignore_unknown_fields=True).SerializeToString()
    except (ParseError, RecursionError, SystemError) as error:
        # SystemError is protobuf's answer to a name with half a surrogate pair, which has no UTF-8.
        raise MalformedPayload(f"{_NOT_OTLP}: {error}") from None


def _documents(body: bytes) -> list[Any]:
    """The one JSON value in ``body``, or those of its lines."""
    try:
        text = body.decode("utf-8-sig")
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        whole = error
    lines = [line for line in body.splitlines() if line.strip()]
    if isinstance(whole, json.JSONDecodeError) and len(lines) > 1:
        try:
            return [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            pass
    raise MalformedPayload(f"not JSON: {whole}")


def _resource_spans(document: Any, in_list: bool = False) -> list[Any]:
    if isinstance(document, list) and not in_list:
        return [item for part in document for item in _resource_spans(part, in_list=True)]
    if not isinstance(document, dict):
        raise MalformedPayload(f"{_NOT_OTLP}: {type(document).__name__} where an object is expected")
    for name in _RESOURCE_SPANS:
        if name in document:
            return _list(document[name], name)
    if document and not any(name in document for name in _OF_RESOURCE_SPANS):
        # An empty object is an empty request; an object of other things is not one, and must not vanish as such.
        raise MalformedPayload(f"{_NOT_OTLP}: no resourceSpans among {', '.join(sorted(document)[:5])}")
    return [document] if document else []


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
        raise MalformedPayload(f"{_NOT_OTLP}: {name} is a {type(value).__name__}, not a list")
    return value


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedPayload(f"{_NOT_OTLP}: {name} has a {type(value).__name__} in it")
    return value
