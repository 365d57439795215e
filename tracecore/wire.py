"""Values on our own topics: MessagePack of the core's types; JSON for alerts and findings, which people read.

Decoding checks types: what does not fit is ``MalformedPayload``, with the path to the field.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import TypeVar

import msgspec

from tracecore.alert import Alert
from tracecore.closed_trace import TAIL_FIELDS, ClosedTrace, TracedSpan
from tracecore.errors import MalformedPayload
from tracecore.finding import Finding
from tracecore.health import Health
from tracecore.packed import made
from tracecore.silence import Silence
from tracecore.span import Resource, Scope
from tracecore.topics import MAX_RECORD_BYTES
from tracecore.window import HopWindow, OperationWindow, Window

_msgpack = msgspec.msgpack.Encoder(enc_hook=made)
_json = msgspec.json.Encoder()
_trace_decoder = msgspec.msgpack.Decoder(ClosedTrace)
_operation_decoder = msgspec.msgpack.Decoder(OperationWindow)
_hop_decoder = msgspec.msgpack.Decoder(HopWindow)
_finding_decoder = msgspec.json.Decoder(Finding)
_alert_decoder = msgspec.json.Decoder(Alert)
_health_decoder = msgspec.json.Decoder(Health)
_silence_decoder = msgspec.json.Decoder(Silence)

#: First byte of a window record: which of the two shapes follows.
_OPERATION, _HOP = b"o", b"h"

_resource_index = attrgetter("resource")
_scope_index = attrgetter("scope")

#: MessagePack's cost of a traced span beyond its raw bytes and strings, at most.
_SPAN_OVERHEAD_BYTES = 160

T = TypeVar("T")


def encode_trace(trace: ClosedTrace, max_record_bytes: int = MAX_RECORD_BYTES) -> list[bytes]:
    """The records of one revision: one, or parts of it that each stay under ``max_record_bytes`` where spans allow.

    Every part carries the summary, its own slice of the spans and the resources and scopes of those, so each can be
    stored as it comes; part 0 alone carries the critical path, and none does if that is half a record by itself: the
    spans' shares of it tell the same.
    """
    head = getattr(trace, "head", None)
    if head is not None:
        tail = tail_of(trace.sampled_by, trace.replay_id, trace.part, trace.parts)
        if len(head) + len(tail) <= max_record_bytes:
            return [b"".join((head, tail))]
    record = _msgpack.encode(trace)
    if len(record) <= max_record_bytes:
        return [record]
    if len(_msgpack.encode(trace.critical_path)) > max_record_bytes // 2:
        warning = f"the critical path has {len(trace.critical_path)} parts: only the spans' shares of it are kept"
        trace = replace(trace, critical_path=(), warnings=tuple(sorted((*trace.warnings, warning))))
    summary_bytes = len(_msgpack.encode(replace(trace, spans=(), resources=(), scopes=())))
    slices = list(_slices(trace, max(max_record_bytes - summary_bytes, max_record_bytes // 10)))
    rest = replace(trace, critical_path=())
    return [
        _msgpack.encode(replace(_part(rest if part else trace, spans), part=part, parts=len(slices)))
        for part, spans in enumerate(slices)
    ]


@lru_cache(maxsize=1024)
def tail_of(sampled_by: str, replay_id: str, part: int = 0, parts: int = 1) -> bytes:
    """What follows a trace's head: ``TAIL_FIELDS`` of these values."""
    pairs = zip(TAIL_FIELDS, (sampled_by, replay_id, part, parts), strict=True)
    return b"".join(_msgpack.encode(each) for pair in pairs for each in pair)


def decode_trace(record: bytes) -> ClosedTrace:
    """A part of a revision, or the whole of it. Raises ``MalformedPayload``."""
    trace = _decoded(_trace_decoder, record)
    # A span that points outside the tables would stop whoever stores it, again after each restart.
    if trace.spans:
        for index_of, table in ((_resource_index, trace.resources), (_scope_index, trace.scopes)):
            indexes = set(map(index_of, trace.spans))
            if min(indexes) < 0 or max(indexes) >= len(table):
                raise MalformedPayload(f"a span has entry {max(indexes)} of a table of {len(table)}")
    return trace


def joined(parts: Sequence[ClosedTrace]) -> ClosedTrace:
    """The revision that decoded ``parts`` are of, in their order; some may be missing, and so are their spans then."""
    if len(parts) == 1 and parts[0].parts == 1:
        return parts[0]
    resources: dict[Resource, int] = {}
    scopes: dict[Scope, int] = {}
    spans: list[TracedSpan] = []
    for part in sorted(parts, key=lambda one: one.part):
        resource_of = [resources.setdefault(resource, len(resources)) for resource in part.resources]
        scope_of = [scopes.setdefault(scope, len(scopes)) for scope in part.scopes]
        spans += [span._replace(resource=resource_of[span.resource], scope=scope_of[span.scope]) for span in part.spans]
    first = min(parts, key=lambda one: one.part)
    return replace(first, resources=tuple(resources), scopes=tuple(scopes), spans=tuple(spans), part=0, parts=1)


def encode_window(window: Window) -> bytes:
    """A partial window as a record."""
    return (_OPERATION if isinstance(window, OperationWindow) else _HOP) + _msgpack.encode(window)


def decode_window(record: bytes) -> Window:
    """Raises ``MalformedPayload``."""
    shape, body = record[:1], record[1:]
    if shape == _OPERATION:
        return _decoded(_operation_decoder, body)
    if shape == _HOP:
        return _decoded(_hop_decoder, body)
    raise MalformedPayload(f"not a window: first byte {shape!r}")


def encode_finding(finding: Finding) -> bytes:
    """A finding as JSON."""
    return _json.encode(finding)


def decode_finding(record: bytes) -> Finding:
    """Raises ``MalformedPayload``."""
    return _decoded(_finding_decoder, record)


def encode_alert(alert: Alert) -> bytes:
    """An alert as JSON."""
    return _json.encode(alert)


def decode_alert(record: bytes) -> Alert:
    """Raises ``MalformedPayload``."""
    return _decoded(_alert_decoder, record)


def encode_silence(silence: Silence) -> bytes:
    """A silence as JSON."""
    return _json.encode(silence)


def decode_silence(record: bytes) -> Silence:
    """Raises ``MalformedPayload``, also for a matcher that cannot be used."""
    silence = _decoded(_silence_decoder, record)
    for matcher in silence.matchers:
        if not matcher.is_valid:
            raise MalformedPayload(f"matcher {matcher.name!r} {matcher.op} {matcher.value!r} cannot be used")
    return silence


def encode_health(health: Health) -> bytes:
    """Health as JSON."""
    return _json.encode(health)


def decode_health(record: bytes) -> Health:
    """Raises ``MalformedPayload``."""
    return _decoded(_health_decoder, record)


def _decoded(decoder: msgspec.msgpack.Decoder[T] | msgspec.json.Decoder[T], record: bytes) -> T:
    try:
        return decoder.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedPayload(str(error)) from None


def _part(trace: ClosedTrace, spans: list[TracedSpan]) -> ClosedTrace:
    """``trace`` with ``spans`` alone, and with no more of its tables than they need."""
    resources = {index: i for i, index in enumerate(sorted({span.resource for span in spans}))}
    scopes = {index: i for i, index in enumerate(sorted({span.scope for span in spans}))}
    return replace(
        trace,
        resources=tuple(trace.resources[index] for index in resources),
        scopes=tuple(trace.scopes[index] for index in scopes),
        spans=tuple(span._replace(resource=resources[span.resource], scope=scopes[span.scope]) for span in spans),
    )


def _slices(trace: ClosedTrace, max_bytes: int) -> Iterator[list[TracedSpan]]:
    chosen: list[TracedSpan] = []
    size = 0
    told: set[tuple[str, int]] = set()
    resource_bytes = [len(_msgpack.encode(resource)) for resource in trace.resources]
    scope_bytes = [len(_msgpack.encode(scope)) for scope in trace.scopes]
    for span in trace.spans:
        cost = len(span.raw) + len(span.name) * 4 + len(span.service) * 4 + _SPAN_OVERHEAD_BYTES
        cost += sum(len(warning) * 4 for warning in span.warnings)
        tables = (("resource", span.resource), resource_bytes), (("scope", span.scope), scope_bytes)
        with_tables = cost + sum(bytes_of[key[1]] for key, bytes_of in tables if key not in told)
        if chosen and size + with_tables > max_bytes:
            yield chosen
            chosen, size = [], 0
            told.clear()
            with_tables = cost + sum(bytes_of[key[1]] for key, bytes_of in tables)
        chosen.append(span)
        size += with_tables
        told.update(key for key, _ in tables)
    yield chosen
