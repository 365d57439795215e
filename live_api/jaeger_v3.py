"""Traces as Jaeger's query API v3 gives them: OTLP in JSON, and summaries.

Ids are hex and enums numbers, as OTLP/JSON asks. Source: jaeger-idl, ``api_v3/query_service.proto``; OTLP 1.x, JSON.
"""

from base64 import b64decode
from collections.abc import Iterable
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from live_api.errors import InvalidParameter
from live_api.parameters import Parameters, tags_of
from live_api.stored import StoredSpan, StoredTrace
from live_api.trace_query import SpanQuery, check_ranges
from tracecore.span import SpanKind

MAX_DEPTH = 1500
_DEFAULT_DEPTH = 100


def search_query(parameters: Parameters) -> SpanQuery:
    """The query of ``/api/v3/traces`` and ``/api/v3/trace-summaries``, in snake or camel case.

    Raises ``InvalidParameter``; a structured ``filter`` is refused, since leaving it out would answer too much.
    """
    if parameters.text("query.filter"):
        raise InvalidParameter("query.filter", "is not supported; use serviceName, operationName and attributes")
    start_ns = parameters.rfc3339("query.startTimeMin", "query.start_time_min")
    end_ns = parameters.rfc3339("query.startTimeMax", "query.start_time_max")
    if start_ns is None or end_ns is None:
        missing = "query.startTimeMin" if start_ns is None else "query.startTimeMax"
        raise InvalidParameter(missing, "is required, a time like 2026-01-02T03:04:05Z")
    depth = next(
        (n for n in ("query.searchDepth", "query.search_depth", "query.num_traces") if parameters.text(n)),
        "query.searchDepth",
    )
    attributes = parameters.text("query.attributes")
    query = SpanQuery(
        service=parameters.text("query.serviceName", "query.service_name"),
        operation=parameters.text("query.operationName", "query.operation_name"),
        tags=tags_of("query.attributes", attributes) if attributes else {},
        start_ns=start_ns,
        end_ns=max(start_ns, end_ns - 1),  # the end is not part of the range
        min_duration_ns=parameters.go_duration("query.durationMin", "query.duration_min"),
        max_duration_ns=parameters.go_duration("query.durationMax", "query.duration_max") or None,
        limit=parameters.integer(depth, _DEFAULT_DEPTH, 1, MAX_DEPTH),
    )
    check_ranges(query, "query.startTimeMin", "query.durationMin")
    if start_ns > end_ns:
        raise InvalidParameter("query.startTimeMin", "must not lie after the end of the range")
    return query


def traces_json(traces: Iterable[StoredTrace], raw: bool = False) -> dict[str, Any]:
    """OTLP's TracesData in the envelope of a grpc-gateway stream."""
    resource_spans = [each for trace in traces for each in _resource_spans(trace, raw)]
    return {"result": {"resourceSpans": resource_spans}}


def error_json(status: int, message: str) -> dict[str, Any]:
    """An error, as the grpc-gateway gives it."""
    codes = {400: 3, 404: 5, 503: 14}
    return {"error": {"grpcCode": codes.get(status, 2), "httpCode": status, "message": message, "httpStatus": ""}}


def kind_name(kind: int) -> str:
    """A span kind as the v3 API names it; what is unspecified is internal."""
    return SpanKind(kind).name.lower() if 2 <= kind <= 5 else "internal"


def summary_json(trace: StoredTrace) -> dict[str, Any]:
    """A trace in a line, with its spans and errors by service."""
    by_service: dict[str, list[int]] = {}
    for span in trace.spans:
        counts = by_service.setdefault(span.service, [0, 0])
        counts[0] += 1
        counts[1] += span.is_error
    head = trace.head
    return {
        "traceId": trace.trace_id.hex(),
        "rootServiceName": head["root_service"],
        "rootOperationName": head["root_operation"],
        "minStartTimeUnixNano": str(head["start_ns"]),
        "maxEndTimeUnixNano": str(head["start_ns"] + max(head["duration_ns"], 0)),
        "spanCount": head["span_count"],
        "errorSpanCount": head["error_count"],
        "orphanSpanCount": head["missing_parents"],
        "services": [
            {"name": name, "spanCount": spans, "errorSpanCount": errors}
            for name, (spans, errors) in sorted(by_service.items())
        ],
    }


def _resource_spans(trace: StoredTrace, raw: bool) -> list[dict[str, Any]]:
    grouped: dict[int, dict[int, list[StoredSpan]]] = {}
    for span in trace.spans:
        grouped.setdefault(span.resource_id, {}).setdefault(span.scope_id, []).append(span)
    found = []
    for resource_id, by_scope in grouped.items():
        resource = trace.resources.get(resource_id)
        scope_spans = []
        for scope_id, spans in by_scope.items():
            scope = trace.scopes.get(scope_id)
            scope_spans.append(
                {
                    "scope": _dict(InstrumentationScope, scope.raw) if scope else {},
                    "spans": [_span(span, raw) for span in spans],
                    "schemaUrl": scope.schema_url if scope else "",
                }
            )
        found.append(
            {
                "resource": _dict(Resource, resource.raw) if resource else {},
                "scopeSpans": scope_spans,
                "schemaUrl": resource.schema_url if resource else "",
            }
        )
    return found


def _span(span: StoredSpan, raw: bool) -> dict[str, Any]:
    fields = _dict(Span, span.raw)
    fields["traceId"] = span.trace_id.hex()
    fields["spanId"] = span.span_id.hex()
    fields["parentSpanId"] = span.parent(as_sent=raw).hex()
    fields["name"] = span.operation
    fields.setdefault("kind", span.kind)
    start_ns = span.starts_at_ns(as_sent=raw)
    fields["startTimeUnixNano"] = str(start_ns)
    fields["endTimeUnixNano"] = str(start_ns + span.duration_ns)
    for link in fields.get("links", ()):
        for name in ("traceId", "spanId"):
            link[name] = b64decode(link.get(name, "")).hex()
    if not raw and span.skew_ns:
        for event in fields.get("events", ()):
            event["timeUnixNano"] = str(int(event.get("timeUnixNano", 0)) + span.skew_ns)
    return fields


def _dict(message_type: type[Message], raw: bytes) -> dict[str, Any]:
    """A message as OTLP/JSON, ids still in base64; empty if the bytes do not parse."""
    try:
        message = message_type.FromString(raw)
    except DecodeError:
        return {}
    fields: dict[str, Any] = MessageToDict(message, use_integers_for_enums=True)
    return fields
