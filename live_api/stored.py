"""A trace as the history holds it: the row of the trace, the rows of its spans, and what their bytes say beyond."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from tracecore.errors import MalformedPayload
from tracecore.otlp import AttributeValue, SpanDetail, attributes_of, resource_attributes, resource_of, span_detail
from tracecore.span import StatusCode

#: The columns of ``StoredSpan``, in ``service_traces``.
SPAN_COLUMNS = (
    "trace_id, span_id, parent_span_id, tree_parent_id, service, operation, kind, status, status_message, error_type,"
    " start_ns, duration_ns, self_time_ns, critical_path_ns, skew_ns, gap_ns, depth, warnings, resource_id, scope_id,"
    " raw"
)
#: The columns of ``StoredTrace.head``, in ``traces``.
TRACE_COLUMNS = (
    "trace_id, start_ns, duration_ns, spans_from, spans_until, revision, span_count, error_count, duplicate_count,"
    " missing_parents, missing_root, is_complete, reason, root_service, root_operation, root_span_id, error_origin,"
    " error_service, services, warnings, critical_path, links, sampled_by, replay_id"
)


@dataclass(frozen=True)
class StoredSpan:
    """A row of ``service_traces``. ``start_ns`` as sent; add ``skew_ns`` for the root's clock."""

    trace_id: bytes
    span_id: bytes
    parent_span_id: bytes | None
    tree_parent_id: bytes | None
    service: str
    operation: str
    kind: int
    status: int
    status_message: str | None
    error_type: str | None
    start_ns: int
    duration_ns: int
    self_time_ns: int
    critical_path_ns: int
    skew_ns: int
    gap_ns: int | None
    depth: int
    warnings: list[str] | None
    resource_id: int
    scope_id: int
    raw: bytes

    @property
    def is_error(self) -> bool:
        """True if the status code is Error."""
        return self.status == StatusCode.ERROR

    @cached_property
    def detail(self) -> SpanDetail:
        """Attributes, events and links; empty ones if the bytes do not parse."""
        try:
            return span_detail(self.raw)
        except MalformedPayload:
            return SpanDetail({}, [], [], self.status_message or "", "")

    def parent(self, as_sent: bool) -> bytes:
        """Where it hangs in the tree, or the parent that it named; empty for a root."""
        return (self.parent_span_id if as_sent else self.tree_parent_id) or b""

    def starts_at_ns(self, as_sent: bool) -> int:
        """Start on the root's clock, or as sent."""
        return self.start_ns if as_sent else self.start_ns + self.skew_ns


@dataclass(frozen=True)
class StoredResource:
    """A row of ``resources``."""

    resource_id: int
    raw: bytes
    schema_url: str

    @cached_property
    def attributes(self) -> dict[str, AttributeValue]:
        """All attributes."""
        return resource_attributes(resource_of(self.raw, self.schema_url))


@dataclass(frozen=True)
class StoredScope:
    """A row of ``scopes``."""

    scope_id: int
    name: str
    version: str
    raw: bytes
    schema_url: str

    @cached_property
    def attributes(self) -> dict[str, AttributeValue]:
        """All attributes."""
        return attributes_of(InstrumentationScope.FromString(self.raw).attributes)


@dataclass(frozen=True)
class StoredTrace:
    """A trace with its spans in the tree's order; ``head`` has ``TRACE_COLUMNS``."""

    head: Mapping[str, Any]
    spans: list[StoredSpan]
    resources: Mapping[int, StoredResource]
    scopes: Mapping[int, StoredScope]

    @property
    def trace_id(self) -> bytes:
        """16 bytes."""
        trace_id: bytes = self.head["trace_id"]
        return trace_id


def in_tree_order(spans: list[StoredSpan]) -> list[StoredSpan]:
    """A parent before its children, siblings by start; what hangs under nothing that is there is a root. O(n log n)."""
    ids = {span.span_id for span in spans}
    children: dict[bytes, list[StoredSpan]] = {}
    for span in sorted(spans, key=lambda span: (span.starts_at_ns(False), span.span_id), reverse=True):
        parent = span.tree_parent_id or b""
        children.setdefault(parent if parent in ids and parent != span.span_id else b"", []).append(span)
    ordered: list[StoredSpan] = []
    waiting = children.pop(b"", [])
    while waiting:
        span = waiting.pop()
        ordered.append(span)
        waiting += children.pop(span.span_id, [])
    # Rows of two revisions, read in between, could close a ring; nothing is left out for that.
    ordered += [span for ring in children.values() for span in ring]
    return ordered
