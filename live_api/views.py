"""Rows of the history as answers of our own REST API."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from live_api import models
from live_api.errors import InvalidParameter
from live_api.stored import StoredSpan, StoredTrace
from tracecore.otlp import AttributeValue
from tracecore.span import SpanKind

_STATUSES = ("unset", "ok", "error")


def kind_name(kind: int) -> str:
    """server, client, ...; a number that OTLP does not know stands for itself."""
    return SpanKind(kind).name.lower() if 0 <= kind <= 5 else str(kind)


def trace_line(head: Mapping[str, Any]) -> models.TraceLine:
    """A row of ``traces``."""
    return models.TraceLine(**{**head, "trace_id": head["trace_id"].hex()})


def trace_tree(trace: StoredTrace) -> models.TraceTree:
    """A trace with its spans. O(n) in spans."""
    head = trace.head
    return models.TraceTree(
        **{
            **head,
            "trace_id": trace.trace_id.hex(),
            "error_origin": head["error_origin"].hex() if head["error_origin"] else None,
            "critical_path": [
                {"span_id": span_id, "start_ns": start_ns, "end_ns": end_ns}
                for span_id, start_ns, end_ns in head["critical_path"]
            ],
            "links": [dict(zip(models.ServiceLink.model_fields, link, strict=False)) for link in head["links"]],
            "spans": [_tree_span(span, trace) for span in trace.spans],
        }
    )


def statistics(rows: Iterable[Mapping[str, Any]], duration_s: float) -> list[models.OperationStatistics]:
    """Rows of ``statements.OPERATION_STATISTICS``."""
    return [
        models.OperationStatistics(
            **{
                **row,
                "kind": kind_name(row["kind"]),
                "rate_per_s": row["count_milli"] / 1000 / duration_s,
                "error_ratio": row["error_milli"] / row["count_milli"] if row["count_milli"] else 0.0,
                "slow_trace_id": _hex(row["slow_trace_id"]),
                "failed_trace_id": _hex(row["failed_trace_id"]),
            }
        )
        for row in rows
    ]


def dependency(row: Mapping[str, Any]) -> models.Dependency:
    """A row of ``statements.DEPENDENCIES``."""
    return models.Dependency(
        **row,
        mean_duration_ns=row["duration_ns"] / row["calls"] if row["calls"] else None,
        mean_gap_ns=row["gap_ns"] / row["gap_calls"] if row["gap_calls"] else None,
    )


def error_group(row: Mapping[str, Any]) -> models.ErrorGroup:
    """A row of ``statements.ERROR_GROUPS``."""
    return models.ErrorGroup(**{**row, "last_trace_id": row["last_trace_id"].hex()})


def page_cursor(time_ns: int, last_id: str) -> str:
    """Where a page ends, for the next one to begin."""
    return base64.urlsafe_b64encode(json.dumps([time_ns, last_id]).encode()).decode().rstrip("=")


def read_page_cursor(text: str) -> tuple[int, str]:
    """Read ``page_cursor``. Raises ``InvalidParameter``."""
    try:
        time_ns, last_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if type(time_ns) is not int or not 0 <= time_ns < 2**62 or not isinstance(last_id, str) or "\0" in last_id:
            raise ValueError
        last_id.encode()
    except (ValueError, TypeError, RecursionError):
        raise InvalidParameter("cursor", "is not a next_cursor of an earlier page") from None
    return time_ns, last_id


def as_plain(value: AttributeValue) -> Any:
    """An attribute as JSON can hold it: bytes in base64, numbers that are none as text."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not abs(value) < float("inf"):
        return str(value)
    if isinstance(value, list):
        return [as_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    return value


def _tree_span(span: StoredSpan, trace: StoredTrace) -> dict[str, Any]:
    detail = span.detail
    resource, scope = trace.resources.get(span.resource_id), trace.scopes.get(span.scope_id)
    return {
        "span_id": span.span_id.hex(),
        "parent_span_id": _hex(span.parent_span_id),
        "tree_parent_id": _hex(span.tree_parent_id),
        "depth": span.depth,
        "service": span.service,
        "operation": span.operation,
        "kind": kind_name(span.kind),
        "status": _STATUSES[span.status] if 0 <= span.status <= 2 else "unset",
        "status_message": span.status_message,
        "error_type": span.error_type,
        "start_ns": span.start_ns,
        "duration_ns": span.duration_ns,
        "self_time_ns": span.self_time_ns,
        "critical_path_ns": span.critical_path_ns,
        "skew_ns": span.skew_ns,
        "gap_ns": span.gap_ns,
        "warnings": span.warnings or [],
        "attributes": as_plain(detail.attributes),
        "resource": as_plain(resource.attributes) if resource else {},
        "scope": f"{scope.name} {scope.version}".strip() if scope else "",
        "events": [
            {"name": event.name, "time_ns": event.time_ns, "attributes": as_plain(event.attributes)}
            for event in detail.events
        ],
        "links": [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": as_plain(link.attributes)}
            for link in detail.links
        ],
    }


def _hex(value: bytes | None) -> str | None:
    return value.hex() if value else None
