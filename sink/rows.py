"""A closed trace as rows: bytes of binary COPY, made without a client library.

The order of the columns is part of the contract with ``store``: fixed-width ones first, which one ``Struct`` packs.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from sink import binary
from sink.attributes import FragmentCache, json_of
from sink.detail import parts_of, rare_detail
from sink.errors import PoisonRow
from tracecore.closed_trace import NO_GAP, ClosedTrace, TracedSpan
from tracecore.otlp import attributes_of, resource_attributes
from tracecore.span import Resource, Scope, StatusCode

SPAN_COLUMNS = (
    "start_time, start_ns, duration_ns, self_time_ns, critical_path_ns, skew_ns, resource_id, scope_id, depth, kind,"
    " status, trace_id, span_id, gap_ns, parent_span_id, tree_parent_id, service, operation, status_message,"
    " error_type, warnings, attributes, events, links, raw"
)
TRACE_COLUMNS = (
    "trace_id, start_time, start_ns, duration_ns, spans_from, spans_until, first_arrival_ns, last_arrival_ns,"
    " count_milli, revision, span_count, error_count, duplicate_count, missing_parents, missing_root, is_complete,"
    " reason, root_service, root_operation, root_span_id, error_origin, error_service, services, warnings,"
    " critical_path, links, sampled_by, replay_id, digest"
)

DAY_NS = 24 * 3600 * 1_000_000_000
#: A span cannot have begun before distributed tracing, nor well after it arrived: such a time is a broken clock's, and
#: would make a partition for a day that does not exist.
EARLIEST_NS = 946_684_800 * 1_000_000_000  # 2000-01-01
LATEST_AFTER_ARRIVAL_NS = DAY_NS

#: Longest service and operation that an index row of PostgreSQL holds with certainty (2704 bytes with the time).
LONGEST_INDEXED = 600

_fixed = Struct("!h" + "iq" * 8 + "ii" + "ih" * 2 + "i16s" + "i8s").pack
_json = msgspec.json.Encoder()
_NO_ERROR_NO_WARNING = binary.NULL * 3
_NO_EVENTS_NO_LINKS = binary.NULL * 2


class ErrorSpan(NamedTuple):
    """What a group of errors needs to know of an error span."""

    span_id: bytes
    service: str
    operation: str
    error_type: str
    message: str
    start_ns: int
    is_origin: bool


class PoisonSpan(NamedTuple):
    """A span that cannot be stored, and why."""

    span: TracedSpan
    reason: str


@dataclass(slots=True)
class TraceRows:
    """The rows of one trace; ``span_rows`` and ``spans`` stand in the same order and hold no poison."""

    trace: ClosedTrace
    trace_row: bytes
    spans: list[TracedSpan]
    span_rows: list[bytes]
    errors: list[ErrorSpan]
    poison: list[PoisonSpan]
    #: Days since 1970 (UTC) whose partitions the rows need.
    days: set[int]
    #: When the trace began, as stored.
    start_ns: int = 0
    resource_ids: list[int] = field(default_factory=list)
    scope_ids: list[int] = field(default_factory=list)


class RowEncoder:
    """Makes rows; keeps what repeats (key-values, ids of resources and scopes)."""

    def __init__(self) -> None:
        self._fragments = FragmentCache()
        self._ids: dict[Resource | Scope, int] = {}

    def rows_of(self, trace: ClosedTrace, digest: bytes) -> TraceRows:
        """Rows of a trace and its spans; spans that cannot be stored apart, in ``poison``."""
        rows = TraceRows(trace, b"", [], [], [], [], set())
        rows.resource_ids = [self.id_of(resource) for resource in trace.resources]
        rows.scope_ids = [self.id_of(scope) for scope in trace.scopes]
        latest_ns = trace.last_arrival_ns + LATEST_AFTER_ARRIVAL_NS
        spans_from, spans_until = latest_ns, EARLIEST_NS
        # Hot: 3 us a span. Local names and one bytes.join a row, no call that is not needed.
        trace_id, resource_ids, scope_ids = trace.trace_id, rows.resource_ids, rows.scope_ids
        keep_span, keep_row, text = rows.spans.append, rows.span_rows.append, binary.text
        object_of = self._fragments.object_of
        seen: set[bytes] | None = set() if len({span[0] for span in trace.spans}) < len(trace.spans) else None
        for span in trace.spans:
            start_ns = span.start_ns
            try:
                if seen is not None:
                    if span.span_id in seen:
                        raise PoisonRow("the trace has this span id twice")
                    seen.add(span.span_id)
                if not EARLIEST_NS <= start_ns <= latest_ns:
                    raise PoisonRow(
                        f"start time {start_ns} ns is not credible for an arrival at {trace.last_arrival_ns}"
                    )
                parts = parts_of(span.raw)
                tail = _NO_ERROR_NO_WARNING
                rare = _NO_EVENTS_NO_LINKS
                if span.status == 2 or span.warnings or parts.events or parts.links or parts.status:
                    tail, rare = self._rare(span, trace, rows)
                attributes = object_of(parts.attributes)
                service, name, raw = span.service, span.name, span.raw
                if len(service) > LONGEST_INDEXED or "\0" in service or "\0" in name:
                    raise PoisonRow("service or operation has a NUL character, or a service name is too long")
                gap_ns, parent, tree_parent = span.gap_ns, span.parent_span_id, span.tree_parent_id
                row = b"".join(
                    (
                        _fixed(
                            25,
                            8,
                            start_ns // 1000 - binary.POSTGRES_EPOCH_US,
                            8,
                            start_ns,
                            8,
                            span.end_ns - start_ns,
                            8,
                            span.self_time_ns,
                            8,
                            span.critical_path_ns,
                            8,
                            span.skew_ns,
                            8,
                            resource_ids[span.resource],
                            8,
                            scope_ids[span.scope],
                            4,
                            span.depth,
                            2,
                            span.kind,
                            2,
                            span.status,
                            16,
                            trace_id,
                            8,
                            span.span_id,
                        ),
                        binary.NULL if gap_ns == NO_GAP else binary.int8(gap_ns),
                        b"\0\0\0\x08" + parent if len(parent) == 8 else binary.NULL,
                        b"\0\0\0\x08" + tree_parent if len(tree_parent) == 8 else binary.NULL,
                        text(service),
                        text(name),
                        tail,
                        (len(attributes) + 1).to_bytes(4, "big"),
                        b"\1",
                        attributes,
                        rare,
                        len(raw).to_bytes(4, "big"),
                        raw,
                    )
                )
            except PoisonRow as error:
                rows.poison.append(PoisonSpan(span, str(error)))
                continue
            except struct.error as error:
                rows.poison.append(PoisonSpan(span, f"a number is out of range: {error}"))
                continue
            keep_span(span)
            keep_row(row)
            if start_ns < spans_from:
                spans_from = start_ns
            if start_ns > spans_until:
                spans_until = start_ns
        if rows.spans:
            rows.days = set(range(spans_from // DAY_NS, spans_until // DAY_NS + 1))
            if spans_until - spans_from > DAY_NS:
                rows.days = {span.start_ns // DAY_NS for span in rows.spans}
            rows.trace_row = trace_row(trace, digest, spans_from, spans_until)
            rows.start_ns = credible_start_ns(trace)
            rows.days.add(rows.start_ns // DAY_NS)
        return rows

    def id_of(self, shared: Resource | Scope) -> int:
        """Id of a resource or scope: a hash of its bytes, as a signed bigint."""
        known = self._ids.get(shared)
        if known is None:
            if len(self._ids) > 100_000:
                self._ids.clear()
            schema = shared.schema_url.encode("utf-8", "replace")
            digest = sha256(len(shared.raw).to_bytes(4, "big") + shared.raw + schema).digest()
            known = self._ids[shared] = int.from_bytes(digest[:8], "big", signed=True)
        return known

    def _rare(self, span: TracedSpan, trace: ClosedTrace, rows: TraceRows) -> tuple[bytes, bytes]:
        is_error = span.status == StatusCode.ERROR
        detail, kind = rare_detail(span.raw, is_error)
        message = storable(detail.status_message)
        if "\0" in detail.status_message:
            raise PoisonRow("the status message has a NUL character")
        events = [{"name": e.name, "time_ns": e.time_ns, "attributes": e.attributes} for e in detail.events]
        links = [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": link.attributes}
            for link in detail.links
        ]
        tail = b"".join(
            (
                binary.text(message) if message else binary.NULL,
                binary.text(kind) if kind else binary.NULL,
                binary.text_array(storable(w) for w in span.warnings) if span.warnings else binary.NULL,
            )
        )
        rare = b"".join(binary.jsonb(json_of(items)) if items else binary.NULL for items in (events, links))
        if is_error:
            rows.errors.append(
                ErrorSpan(
                    span.span_id,
                    span.service,
                    span.name,
                    kind,
                    message,
                    span.start_ns,
                    span.span_id == trace.error_origin,
                )
            )
        return tail, rare


def trace_row(trace: ClosedTrace, digest: bytes, spans_from_ns: int, spans_until_ns: int) -> bytes:
    """The row of a trace. It never fails: what cannot be stored is replaced, as each of its spans is checked apart."""
    start_ns = credible_start_ns(trace)
    origin = trace.error_origin
    error_service = next((span.service for span in trace.spans if span.span_id == origin), "") if origin else ""
    path = [(segment.span_id.hex(), segment.start_ns, segment.end_ns) for segment in trace.critical_path]
    links = [(storable(link.caller), storable(link.callee), *link[2:]) for link in trace.links]
    return binary.row(
        (
            binary.binary(trace.trace_id),
            binary.timestamp(start_ns),
            binary.int8(start_ns),
            binary.int8(_clamped(trace.end_ns - trace.start_ns, binary.INT8_MAX)),
            binary.timestamp(spans_from_ns),
            binary.timestamp(spans_until_ns),
            binary.int8(_clamped(trace.first_arrival_ns, binary.INT8_MAX)),
            binary.int8(_clamped(trace.last_arrival_ns, binary.INT8_MAX)),
            binary.int8(_clamped(trace.count_milli, binary.INT8_MAX)),
            binary.int4(_clamped(trace.revision, binary.INT4_MAX)),
            binary.int4(_clamped(trace.span_count, binary.INT4_MAX)),
            binary.int4(_clamped(trace.error_count, binary.INT4_MAX)),
            binary.int4(_clamped(trace.duplicate_count, binary.INT4_MAX)),
            binary.int4(_clamped(trace.missing_parents, binary.INT4_MAX)),
            binary.boolean(trace.missing_root),
            binary.boolean(trace.is_complete),
            binary.text(trace.reason),
            binary.text(storable(trace.root_service)[:LONGEST_INDEXED]),
            binary.text(storable(trace.root_name)),
            binary.binary(trace.root_span_id),
            binary.binary(origin) if origin else binary.NULL,
            binary.text(storable(error_service)) if error_service else binary.NULL,
            binary.text_array(storable(service) for service in trace.services),
            binary.text_array(storable(warning) for warning in trace.warnings),
            binary.jsonb(_json.encode(path)),
            binary.jsonb(_json.encode(links)),
            binary.text(storable(trace.sampled_by)),
            binary.text(storable(trace.replay_id)),
            binary.binary(digest),
        )
    )


def credible_start_ns(trace: ClosedTrace) -> int:
    """When a trace began; when its first span arrived, if what the spans say is not credible."""
    if EARLIEST_NS <= trace.start_ns <= trace.last_arrival_ns + LATEST_AFTER_ARRIVAL_NS:
        return trace.start_ns
    return max(trace.first_arrival_ns, EARLIEST_NS)


class ResourceRow(NamedTuple):
    """A row of ``resources``."""

    resource_id: int
    service: str
    attributes: str
    schema_url: str
    raw: bytes


class ScopeRow(NamedTuple):
    """A row of ``scopes``."""

    scope_id: int
    name: str
    version: str
    attributes: str
    schema_url: str
    raw: bytes


def resource_row(resource_id: int, resource: Resource) -> ResourceRow:
    """The row of a resource; attributes that cannot be stored are left out, ``raw`` has them."""
    attributes = _json_or_empty(resource_attributes(resource))
    return ResourceRow(resource_id, storable(resource.service), attributes, storable(resource.schema_url), resource.raw)


def scope_row(scope_id: int, scope: Scope) -> ScopeRow:
    """The row of a scope."""
    try:
        message = InstrumentationScope.FromString(scope.raw)
        name, version, attributes = message.name, message.version, _json_or_empty(attributes_of(message.attributes))
    except DecodeError:
        name, version, attributes = "", "", "{}"
    return ScopeRow(scope_id, storable(name), storable(version), attributes, storable(scope.schema_url), scope.raw)


def digest_of(records: Sequence[bytes]) -> bytes:
    """Hash of a revision's records, 16 bytes."""
    hashed = sha256()
    for record in records:
        hashed.update(record)
    return hashed.digest()[:16]


def storable(value: str) -> str:
    """A text without the one character that PostgreSQL's text cannot hold."""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _json_or_empty(attributes: object) -> str:
    try:
        return json_of(attributes).decode()
    except PoisonRow:
        return "{}"


def _clamped(value: int, highest: int) -> int:
    return max(-highest, min(value, highest))
