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
from xxhash import xxh3_128_digest

from sink import binary
from sink.attributes import json_of
from sink.detail import DetailReader
from sink.errors import PoisonRow
from sink.redaction import SecretInside, masked_trace
from tracecore.closed_trace import NO_GAP, ClosedTrace, TracedSpan
from tracecore.otlp import attributes_of, resource_attributes
from tracecore.redaction import BUILT_IN, Redaction
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

#: Names of operations that were found to have no secret in them.
_REMEMBERED_NAMES = 50_000

_SPAN_FIELDS = SPAN_COLUMNS.count(",") + 1
_TRACE_FIELDS = TRACE_COLUMNS.count(",") + 1
_fixed = Struct("!h" + "iq" * 8 + "ii" + "ih" * 2 + "i16s" + "i8s").pack
_trace_fixed = Struct("!h" + "i16s" + "iq" * 8 + "ii" * 5 + "i?" * 2).pack
_json = msgspec.json.Encoder()
_ID = (8).to_bytes(4, "big")
#: Of most spans: no status message, error type, warnings; no events, links.
_NOTHING_SAID = binary.NULL * 3
_NOTHING_MORE = binary.NULL * 2


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
    """Makes rows, secrets masked; keeps what repeats (key-values, ids of resources and scopes)."""

    def __init__(self, redaction: Redaction = BUILT_IN) -> None:
        self._redaction = redaction
        self._details = DetailReader(redaction)
        self._ids: dict[Resource | Scope, int] = {}
        self._plain_names: set[str] = set()

    def rows_of(self, trace: ClosedTrace, digest: bytes) -> TraceRows:
        """Rows of a trace and its spans; spans that cannot be stored apart, in ``poison``."""
        try:
            return self._rows_of(trace, digest)
        except SecretInside:
            return self._rows_of(masked_trace(self._redaction, trace), digest, is_masked=True)

    def _rows_of(self, trace: ClosedTrace, digest: bytes, is_masked: bool = False) -> TraceRows:
        self._check_names({span[5] for span in trace.spans} - self._plain_names)
        rows = TraceRows(trace, b"", [], [], [], [], set())
        resource_ids = rows.resource_ids = [self.id_of(resource) for resource in trace.resources]
        scope_ids = rows.scope_ids = [self.id_of(scope) for scope in trace.scopes]
        seen: set[bytes] | None = None if len({span[0] for span in trace.spans}) == len(trace.spans) else set()
        latest_ns = trace.last_arrival_ns + LATEST_AFTER_ARRIVAL_NS
        # Hot, once a span: local names, one unpacking, one struct and one join a row.
        trace_id, epoch_us = trace.trace_id, binary.POSTGRES_EPOCH_US
        plain, text, null, id_of_8 = self._details.plain, binary.text, binary.NULL, _ID
        keep_span, keep_row = rows.spans.append, rows.span_rows.append
        starts: list[int] = []
        for span in trace.spans:
            (
                span_id,
                parent,
                tree_parent,
                depth,
                service,
                name,
                kind,
                status,
                start_ns,
                end_ns,
                skew_ns,
                self_time_ns,
                critical_path_ns,
                gap_ns,
                warnings,
                resource,
                scope,
                raw,
            ) = span
            try:
                if not EARLIEST_NS <= start_ns <= latest_ns:
                    raise PoisonRow(
                        f"its start, {start_ns} ns, is not credible for an arrival at {trace.last_arrival_ns}"
                    )
                if seen is not None:
                    _check_new(span_id, seen)
                attributes = plain(raw, end_ns) if status == 0 and not warnings else None
                rest = _NOTHING_MORE
                said = _NOTHING_SAID
                if attributes is None:
                    attributes, said, rest = self._more(span, trace, rows)
                keep_row(
                    b"".join(
                        (
                            _fixed(
                                _SPAN_FIELDS,
                                8,
                                start_ns // 1000 - epoch_us,
                                8,
                                start_ns,
                                8,
                                end_ns - start_ns,
                                8,
                                self_time_ns,
                                8,
                                critical_path_ns,
                                8,
                                skew_ns,
                                8,
                                resource_ids[resource],
                                8,
                                scope_ids[scope],
                                4,
                                depth,
                                2,
                                kind,
                                2,
                                status,
                                16,
                                trace_id,
                                8,
                                span_id,
                            ),
                            null if gap_ns == NO_GAP else binary.int8(gap_ns),
                            id_of_8 + parent if parent else null,
                            id_of_8 + tree_parent if tree_parent else null,
                            text(_short_enough(service) if len(service) > LONGEST_INDEXED else service),
                            text(name),
                            said,
                            (len(attributes) + 1).to_bytes(4, "big"),
                            b"\1",
                            attributes,
                            rest,
                            len(raw).to_bytes(4, "big"),
                            raw,
                        )
                    )
                )
            except PoisonRow as error:
                rows.poison.append(PoisonSpan(span, str(error)))
            except SecretInside:
                if not is_masked:
                    raise
                rows.poison.append(PoisonSpan(span, "it has something to mask, and does not parse"))
            except (struct.error, OverflowError) as error:
                rows.poison.append(PoisonSpan(span, f"a number is out of range: {error}"))
            else:
                keep_span(span)
                starts.append(start_ns)
        if starts:
            rows.days = {start_ns // DAY_NS for start_ns in starts}
            rows.start_ns = credible_start_ns(trace)
            rows.days.add(rows.start_ns // DAY_NS)
            rows.trace_row = trace_row(trace, digest, min(starts), max(starts))
        return rows

    def id_of(self, shared: Resource | Scope) -> int:
        """Id of a resource or scope: a hash of its bytes, as a signed bigint. Raises ``SecretInside``."""
        known = self._ids.get(shared)
        if known is None:
            masked = self._redaction.masked_resource if isinstance(shared, Resource) else self._redaction.masked_scope
            if masked(shared.raw) != shared.raw:
                raise SecretInside
            if len(self._ids) > 100_000:
                self._ids.clear()
            schema = shared.schema_url.encode("utf-8", "replace")
            digest = sha256(len(shared.raw).to_bytes(4, "big") + shared.raw + schema).digest()
            known = self._ids[shared] = int.from_bytes(digest[:8], "big", signed=True)
        return known

    def _check_names(self, unknown: set[str]) -> None:
        if any(self._redaction.text(name) != name for name in unknown):
            raise SecretInside
        if len(self._plain_names) > _REMEMBERED_NAMES:
            self._plain_names.clear()
        self._plain_names |= unknown

    def _more(self, span: TracedSpan, trace: ClosedTrace, rows: TraceRows) -> tuple[bytes, bytes, bytes]:
        """Attributes; status message, error type and warnings; events and links of a span that is not plain."""
        detail = self._details.full(span.raw, span.status)
        if span.status == StatusCode.ERROR:
            is_origin = span.span_id == trace.error_origin
            rows.errors.append(
                ErrorSpan(
                    span.span_id, span.service, span.name, detail.error_type, detail.message, span.start_ns, is_origin
                )
            )
        said = (
            binary.text(detail.message) if detail.message else binary.NULL,
            binary.text(detail.error_type) if detail.error_type else binary.NULL,
            binary.text_array(storable(warning) for warning in span.warnings) if span.warnings else binary.NULL,
        )
        rest = (binary.jsonb(items) if items else binary.NULL for items in (detail.events, detail.links))
        return detail.attributes, b"".join(said), b"".join(rest)


def trace_row(trace: ClosedTrace, digest: bytes, spans_from_ns: int, spans_until_ns: int) -> bytes:
    """The row of a trace. It never fails: what cannot be stored is replaced, as each of its spans is checked apart."""
    start_ns = credible_start_ns(trace)
    origin = trace.error_origin
    error_service = next((span.service for span in trace.spans if span.span_id == origin), "") if origin else ""
    path = [(segment[0].hex(), segment[1], segment[2]) for segment in trace.critical_path]
    links = [(storable(link[0]), storable(link[1]), *link[2:]) for link in trace.links]
    epoch_us, text = binary.POSTGRES_EPOCH_US, binary.text
    return b"".join(
        (
            _trace_fixed(
                _TRACE_FIELDS,
                16,
                trace.trace_id,
                8,
                start_ns // 1000 - epoch_us,
                8,
                start_ns,
                8,
                _bigint(trace.duration_ns),
                8,
                spans_from_ns // 1000 - epoch_us,
                8,
                spans_until_ns // 1000 - epoch_us,
                8,
                _bigint(trace.first_arrival_ns),
                8,
                _bigint(trace.last_arrival_ns),
                8,
                _bigint(trace.count_milli),
                4,
                _integer(trace.revision),
                4,
                _integer(trace.span_count),
                4,
                _integer(trace.error_count),
                4,
                _integer(trace.duplicate_count),
                4,
                _integer(trace.missing_parents),
                1,
                trace.missing_root,
                1,
                trace.is_complete,
            ),
            text(trace.reason),
            text(storable(trace.root_service)[:LONGEST_INDEXED]),
            text(storable(trace.root_name)),
            binary.binary(trace.root_span_id),
            binary.binary(origin) if origin else binary.NULL,
            text(storable(error_service)) if error_service else binary.NULL,
            binary.text_array(map(storable, trace.services)),
            binary.text_array(map(storable, trace.warnings)),
            binary.jsonb(_json.encode(path)),
            binary.jsonb(_json.encode(links)),
            text(storable(trace.sampled_by)),
            text(storable(trace.replay_id)),
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
    """Hash of a revision's records, 16 bytes.

    XXH3: it tells whether a trace is said again word for word, and guards nothing; SHA-256 takes eight times as long.
    """
    return xxh3_128_digest(records[0] if len(records) == 1 else b"".join(records))


def storable(value: str) -> str:
    """A text without the one character that PostgreSQL's text cannot hold."""
    return value.replace("\0", "\ufffd") if "\0" in value else value


def _json_or_empty(attributes: object) -> str:
    try:
        return json_of(attributes).decode()
    except PoisonRow:
        return "{}"


def _check_new(span_id: bytes, seen: set[bytes]) -> None:
    if span_id in seen:
        raise PoisonRow("the trace has this span id twice")
    seen.add(span_id)


def _short_enough(service: str) -> str:
    raise PoisonRow(f"the name of its service is {len(service)} characters long; an index holds {LONGEST_INDEXED}")


def _bigint(value: int) -> int:
    return value if -binary.INT8_MAX <= value <= binary.INT8_MAX else binary.INT8_MAX


def _integer(value: int) -> int:
    return value if 0 <= value <= binary.INT4_MAX else binary.INT4_MAX
