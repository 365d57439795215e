"""A stored trace as files that other tools read: OTLP JSON and Jaeger's JSON.

Source: OpenTelemetry, OTLP specification, "JSON Protobuf Encoding" (ids are hex, not base64); Jaeger UI's trace JSON.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, TracesData

from dashboard.queries.query import Row
from tracecore.errors import MalformedPayload

_KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


def otlp_json(rows: Sequence[Row]) -> str:
    """Spans as they were sent, ``rows`` as ``queries.traces.whole_spans`` gives. Raises ``MalformedPayload``."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        resource = (bytes(row["resource_raw"] or b""), row["resource_schema"] or "")
        scope = (bytes(row["scope_raw"] or b""), row["scope_schema"] or "")
        groups.setdefault((resource, scope), []).append(row)
    data = TracesData()
    try:
        for (resource, scope), members in groups.items():
            holder = data.resource_spans.add(resource=Resource.FromString(resource[0]), schema_url=resource[1])
            scoped = holder.scope_spans.add(scope=InstrumentationScope.FromString(scope[0]), schema_url=scope[1])
            scoped.spans.extend(Span.FromString(bytes(member["raw"])) for member in members)
    except DecodeError as error:
        raise MalformedPayload(f"a stored span does not parse: {error}") from None
    document = MessageToDict(data, use_integers_for_enums=True)
    by_place = iter(span for holder in data.resource_spans for scoped in holder.scope_spans for span in scoped.spans)
    for holder in document.get("resourceSpans", ()):
        for scoped in holder.get("scopeSpans", ()):
            for written, span in zip(scoped.get("spans", ()), by_place, strict=False):
                _with_hex_ids(written, span)
    return json.dumps(document, ensure_ascii=False)


def jaeger_json(trace_id: str, rows: Iterable[Row]) -> str:
    """The trace as Jaeger's UI uploads and downloads it."""
    processes: dict[int, str] = {}
    described: dict[str, dict[str, Any]] = {}
    spans = []
    for row in rows:
        process = processes.setdefault(row["resource_id"], f"p{len(processes) + 1}")
        if process not in described:
            tags = _tags({name: value for name, value in (row["resource"] or {}).items() if name != "service.name"})
            described[process] = {"serviceName": row["service"], "tags": tags}
        parent = bytes(row["parent_span_id"]).hex() if row["parent_span_id"] else ""
        extra: dict[str, Any] = {"span.kind": _KINDS[row["kind"]] if 0 <= row["kind"] < len(_KINDS) else "unspecified"}
        if row["status"] == 2:
            extra["error"] = True
        if row["status_message"]:
            extra["otel.status_description"] = row["status_message"]
        spans.append(
            {
                "traceID": trace_id,
                "spanID": bytes(row["span_id"]).hex(),
                "operationName": row["operation"],
                "references": [{"refType": "CHILD_OF", "traceID": trace_id, "spanID": parent}] if parent else [],
                "startTime": row["start_ns"] // 1000,
                "duration": max(row["duration_ns"], 0) // 1000,
                "tags": _tags({**(row["attributes"] or {}), **extra}),
                "logs": [
                    {
                        "timestamp": event["time_ns"] // 1000,
                        "fields": _tags({"event": event["name"], **(event.get("attributes") or {})}),
                    }
                    for event in row["events"] or ()
                ],
                "processID": process,
                "warnings": list(row["warnings"] or ()) or None,
            }
        )
    return json.dumps({"data": [{"traceID": trace_id, "spans": spans, "processes": described}]}, ensure_ascii=False)


def _with_hex_ids(written: dict[str, Any], span: Span) -> None:
    written["traceId"], written["spanId"] = span.trace_id.hex(), span.span_id.hex()
    if span.parent_span_id:
        written["parentSpanId"] = span.parent_span_id.hex()
    for link, source in zip(written.get("links", ()), span.links, strict=False):
        link["traceId"], link["spanId"] = source.trace_id.hex(), source.span_id.hex()


def _tags(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_tag(name, value) for name, value in values.items()]


def _tag(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": name, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"key": name, "type": "int64", "value": value}
    if isinstance(value, float):
        return {"key": name, "type": "float64", "value": value}
    return {"key": name, "type": "string", "value": value if isinstance(value, str) else json.dumps(value)}
