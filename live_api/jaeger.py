"""Traces as Jaeger's query API v1 gives them: what Jaeger UI and Grafana's Jaeger data source read.

Source: Jaeger, ``internal/uimodel`` and its translation from OTLP; Jaeger UI, ``types/trace.ts``.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from live_api.errors import InvalidParameter
from live_api.parameters import (
    Parameters,
    checked_text,
    limited_tags,
    span_kind_of,
    tags_of,
)
from live_api.stored import StoredResource, StoredSpan, StoredTrace
from live_api.trace_query import SpanQuery, check_ranges
from tracecore.otlp import AttributeValue
from tracecore.span import SpanKind, StatusCode

MAX_LIMIT = 1500
_DEFAULT_LIMIT = 100
_DEFAULT_LOOKBACK_NS = 48 * 3600 * 1_000_000_000
_MICROSECOND_NS = 1_000
_MILLISECOND_NS = 1_000_000
WEEK_NS = 7 * 86_400 * 1_000_000_000
#: Beyond it a number loses digits in JavaScript.
_SAFE_INTEGER = 2**53 - 1


def search_query(parameters: Parameters, now_ns: int) -> SpanQuery:
    """The query of ``/api/traces``. Raises ``InvalidParameter``."""
    tags: dict[str, str] = {}
    for pair in parameters.texts("tag"):
        key, colon, value = pair.partition(":")
        if not colon or not key:
            raise InvalidParameter("tag", "must be key:value")
        tags[key] = value
    for several in parameters.texts("tags"):
        tags |= tags_of("tags", several)
    query = SpanQuery(
        service=parameters.required("service"),
        operation=parameters.text("operation"),
        tags=limited_tags("tags", tags),
        start_ns=parameters.unix_time("start", _MICROSECOND_NS, now_ns - _DEFAULT_LOOKBACK_NS),
        # A microsecond is as long as it is: its last nanosecond belongs to it.
        end_ns=parameters.unix_time("end", _MICROSECOND_NS, now_ns) + _MICROSECOND_NS - 1,
        min_duration_ns=parameters.go_duration("minDuration"),
        max_duration_ns=parameters.go_duration("maxDuration") or None,
        limit=parameters.integer("limit", _DEFAULT_LIMIT, 1, MAX_LIMIT),
    )
    check_ranges(query, "start", "minDuration")
    return query


def dependencies_range(parameters: Parameters, now_ns: int) -> tuple[int, int]:
    """Start and end of ``/api/dependencies`` and of Zipkin's ``/dependencies``, milliseconds there."""
    end_ns = parameters.unix_time("endTs", _MILLISECOND_NS, now_ns)
    return max(0, end_ns - parameters.duration("lookback", _MILLISECOND_NS, WEEK_NS)), end_ns


def operations_kind(parameters: Parameters) -> int | None:
    """The span kind of ``/api/operations``, or None for all."""
    kind = parameters.text("spanKind", "span_kind")
    return span_kind_of("spanKind", kind) if kind else None


def envelope(data: Any, total: int = 0, errors: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """What every answer of the v1 API stands in."""
    return {"data": data, "total": total, "limit": 0, "offset": 0, "errors": errors}


def error_envelope(status: int, message: str) -> dict[str, Any]:
    """An error, as Jaeger UI shows it."""
    return envelope(None, errors=[{"code": status, "msg": message}])


def trace_json(trace: StoredTrace, raw: bool = False) -> dict[str, Any]:
    """A trace; ``raw``: as sent, without the correction for skewed clocks. O(n) in spans."""
    trace_id = trace.trace_id.hex()
    processes: dict[str, dict[str, Any]] = {}
    names: dict[int, str] = {}
    spans = []
    for span in trace.spans:
        name = names.get(span.resource_id)
        if name is None:
            name = names[span.resource_id] = f"p{len(names) + 1}"
            processes[name] = _process(span.service, trace.resources.get(span.resource_id))
        spans.append(_span(span, trace_id, name, trace, raw))
    return {
        "traceID": trace_id,
        "spans": spans,
        "processes": processes,
        "warnings": list(trace.head["warnings"]) or None,
    }


def joined_links(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``statements.DEPENDENCIES``, each pair once, whatever the callee is."""
    joined: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        pair = joined.setdefault(
            (row["caller"], row["callee"]), {"caller": row["caller"], "callee": row["callee"], "calls": 0, "errors": 0}
        )
        pair["calls"] += row["calls"]
        pair["errors"] += row["errors"]
    return list(joined.values())


def dependency_links(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows ``caller, callee, calls`` as links."""
    return [{"parent": row["caller"], "child": row["callee"], "callCount": int(row["calls"])} for row in rows]


def _span(span: StoredSpan, trace_id: str, process: str, trace: StoredTrace, raw: bool) -> dict[str, Any]:
    detail = span.detail
    references = []
    parent = span.parent(as_sent=raw)
    if parent:
        references.append({"refType": "CHILD_OF", "traceID": trace_id, "spanID": parent.hex()})
    for link in detail.links:
        kind = "CHILD_OF" if link.attributes.get("opentracing.ref_type") == "child_of" else "FOLLOWS_FROM"
        references.append({"refType": kind, "traceID": link.trace_id.hex(), "spanID": link.span_id.hex()})
    scope = trace.scopes.get(span.scope_id)
    tags = [_tag(key, value) for key, value in detail.attributes.items()]
    if scope is not None and scope.name:
        tags.append(_tag("otel.scope.name", scope.name))
        if scope.version:
            tags.append(_tag("otel.scope.version", scope.version))
    if span.kind != SpanKind.UNSPECIFIED and "span.kind" not in detail.attributes:
        tags.append(_tag("span.kind", SpanKind(span.kind).name.lower() if 0 <= span.kind <= 5 else str(span.kind)))
    if span.is_error:
        tags += [_tag("otel.status_code", "ERROR"), _tag("error", True)]
    elif span.status == StatusCode.OK:
        tags.append(_tag("otel.status_code", "OK"))
    if detail.status_message:
        tags.append(_tag("otel.status_description", detail.status_message))
    if detail.trace_state:
        tags.append(_tag("w3c.tracestate", detail.trace_state))
    shift_ns = 0 if raw else span.skew_ns
    return {
        "traceID": trace_id,
        "spanID": span.span_id.hex(),
        "flags": 1,
        "operationName": span.operation,
        "references": references,
        "startTime": (span.start_ns + shift_ns) // 1000,
        "duration": max(span.duration_ns, 0) // 1000,
        "tags": tags,
        "logs": [
            {
                "timestamp": (event.time_ns + shift_ns) // 1000,
                "fields": [_tag("event", event.name), *(_tag(key, value) for key, value in event.attributes.items())],
            }
            for event in detail.events
        ],
        "processID": process,
        "warnings": span.warnings or None,
    }


def _process(service: str, resource: StoredResource | None) -> dict[str, Any]:
    attributes = resource.attributes if resource is not None else {}
    tags = [_tag(key, value) for key, value in attributes.items() if key != "service.name"]
    return {"serviceName": service, "tags": tags}


def _tag(key: str, value: AttributeValue) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"key": key, "type": "int64", "value": value if abs(value) <= _SAFE_INTEGER else str(value)}
    if isinstance(value, float):
        # JSON has no NaN and no infinity.
        return {"key": key, "type": "float64", "value": value if abs(value) < float("inf") else str(value)}
    if isinstance(value, bytes):
        return {"key": key, "type": "binary", "value": base64.b64encode(value).decode()}
    return {"key": key, "type": "string", "value": value if isinstance(value, str) else text_of(value)}


def text_of(value: AttributeValue) -> str:
    """An attribute as text: JSON for what is no text, lower case for what is true or false."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return json.dumps(value, ensure_ascii=False, default=lambda item: base64.b64encode(item).decode())


def service_name(text: str) -> str:
    """A service in a path."""
    return checked_text("service", text)
