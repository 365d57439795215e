"""Traces as Zipkin's API v2 gives them.

Source: openzipkin/zipkin-api, ``zipkin2-api.yaml``. Names keep their letters as they were sent.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from live_api.errors import InvalidParameter
from live_api.jaeger import text_of
from live_api.parameters import Parameters, limited_tags, trace_id_of
from live_api.stored import StoredSpan, StoredTrace
from live_api.trace_query import SpanQuery, check_ranges
from tracecore.peers import peer_of
from tracecore.span import SpanKind
from tracecore.tree import shared_span_id

MAX_LIMIT = 1500
_DEFAULT_LIMIT = 10
_MICROSECOND_NS = 1_000
_MILLISECOND_NS = 1_000_000
_DAY_NS = 86_400 * 1_000_000_000
_KINDS = {
    SpanKind.CLIENT: "CLIENT",
    SpanKind.SERVER: "SERVER",
    SpanKind.PRODUCER: "PRODUCER",
    SpanKind.CONSUMER: "CONSUMER",
}


def search_query(parameters: Parameters, now_ns: int) -> SpanQuery:
    """The query of ``/traces``. Raises ``InvalidParameter``."""
    tags: dict[str, str] = {}
    words: list[str] = []
    for term in parameters.text("annotationQuery").split(" and "):
        key, equals, value = term.strip().partition("=")
        if equals and key:
            tags[key] = value
        elif key:
            words.append(key)
        elif equals:
            raise InvalidParameter("annotationQuery", "must be terms like key=value or word, joined by ' and '")
    end_ns = parameters.unix_time("endTs", _MILLISECOND_NS, now_ns)
    lookback_ns = parameters.duration("lookback", _MILLISECOND_NS, _DAY_NS)
    has_min, has_max = bool(parameters.text("minDuration")), bool(parameters.text("maxDuration"))
    query = SpanQuery(
        service=parameters.text("serviceName"),
        operation=parameters.text("spanName"),
        tags=limited_tags("annotationQuery", tags),
        words=tuple(limited_tags("annotationQuery", dict.fromkeys(words, ""))),
        start_ns=max(0, end_ns - lookback_ns),
        end_ns=end_ns + _MILLISECOND_NS - 1,
        min_duration_ns=parameters.duration("minDuration", _MICROSECOND_NS, 0) if has_min else None,
        max_duration_ns=parameters.duration("maxDuration", _MICROSECOND_NS, 0) if has_max else None,
        limit=parameters.integer("limit", _DEFAULT_LIMIT, 1, MAX_LIMIT),
    )
    check_ranges(query, "lookback", "minDuration")
    return query


def several_trace_ids(parameters: Parameters) -> list[bytes]:
    """The ids of ``/traceMany``: two or more, none twice."""
    ids = [trace_id_of("traceIds", each.strip()) for each in parameters.required("traceIds").split(",")]
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise InvalidParameter("traceIds", "must be two or more trace ids, joined by commas, none twice")
    return ids


def trace_json(trace: StoredTrace) -> list[dict[str, Any]]:
    """A trace as a list of spans. O(n) in spans."""
    # Where client and server shared an id, as Zipkin's own instrumentation has it, the core told them apart.
    shared = {span.span_id: span.tree_parent_id for span in trace.spans if span.tree_parent_id and _is_shared(span)}
    return [_span(span, shared) for span in trace.spans]


def dependency_links(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows ``caller, callee, calls, errors`` as links; a link without errors names none."""
    links = []
    for row in rows:
        link = {"parent": row["caller"], "child": row["callee"], "callCount": int(row["calls"])}
        if row["errors"]:
            link["errorCount"] = int(row["errors"])
        links.append(link)
    return links


def _is_shared(span: StoredSpan) -> bool:
    parent = span.tree_parent_id
    return span.kind == SpanKind.SERVER and parent is not None and shared_span_id(parent) == span.span_id


def _span(span: StoredSpan, shared: Mapping[bytes, bytes]) -> dict[str, Any]:
    """``shared``: the id that a server's span was sent with, by the one that the core gave it."""
    detail = span.detail
    span_id = shared.get(span.span_id, span.span_id)
    # The sender's parent of a shared span is its client's parent.
    parent = span.parent_span_id if span.span_id in shared else span.tree_parent_id
    parent = shared.get(parent, parent) if parent else None
    found: dict[str, Any] = {"traceId": span.trace_id.hex(), "id": span_id.hex(), "name": span.operation}
    if parent:
        found["parentId"] = parent.hex()
    kind = _KINDS.get(SpanKind(span.kind)) if 0 <= span.kind <= 5 else None
    if kind:
        found["kind"] = kind
    found["timestamp"] = span.starts_at_ns(as_sent=False) // 1000
    # Zipkin reads a missing duration as unfinished: what is shorter than a microsecond lasted one.
    found["duration"] = max(1, span.duration_ns // 1000)
    found["localEndpoint"] = {"serviceName": span.service}
    peer = peer_of(span.raw)
    if peer is not None and kind:
        found["remoteEndpoint"] = {"serviceName": peer.name}
    if detail.events:
        found["annotations"] = [
            {"timestamp": (event.time_ns + span.skew_ns) // 1000, "value": event.name} for event in detail.events
        ]
    tags = {key: text_of(value) for key, value in detail.attributes.items()}
    if span.is_error:
        tags.setdefault("error", detail.status_message or span.error_type or "true")
    if tags:
        found["tags"] = tags
    if span.span_id in shared:
        found["shared"] = True
    return found
