"""OpenTelemetry spans to OTLP protobuf bytes, written directly.

Building protobuf messages object by object costs ~45 us a span; most of a
span's bytes repeat from span to span (keys, methods, routes, status codes), so
they are encoded once and kept as fragments. The field numbers are those of
opentelemetry/proto/trace/v1/trace.proto; tests compare every field with the
stock encoder's.
"""

import struct
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from tracewatch.counters import Counters
from tracewatch.ended_spans import EndedSpan
from tracewatch.fragments import AttributeFragments
from tracewatch.protobuf import delimited, text, varint
from tracewatch.records import EncodedSpan, Envelope, envelope_bytes, framed
from tracewatch.redaction import Redaction
from tracewatch.settings import MAX_RECORD_BYTES

# Names are few unless somebody builds them at run time: all is forgotten then.
_CACHED_NAMES: Final = 1024
_CACHED_NAME_BYTES: Final = 160
_CACHED_ENVELOPES: Final = 1024
# An envelope may take half a record, or no span would fit beside it; below the other half every span fits.
_LARGEST_ENVELOPE_BYTES: Final = MAX_RECORD_BYTES // 2
_FITS_BYTES: Final = MAX_RECORD_BYTES // 2 - 64
# What is too large is encoded again with its texts cut to these lengths, in turn.
_CUTS: Final = (16_384, 1024, 64)

_fixed64 = struct.Struct("<Q").pack
# start_time_unix_nano (7) and end_time_unix_nano (8), both fixed64, are neighbours: one call.
_start_and_end = struct.Struct("<BQBQ").pack

_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
# flags (16, fixed32) by the context's eight bits, for a parent in this process or none, and for a remote one.
_pack_flags = struct.Struct("<2sI").pack
_FLAGS: Final = tuple(_pack_flags(b"\x85\x01", bits | _HAS_IS_REMOTE) for bits in range(256))
_REMOTE_FLAGS: Final = tuple(_pack_flags(b"\x85\x01", bits | _HAS_IS_REMOTE | _IS_REMOTE) for bits in range(256))
_link_flags = struct.Struct("<BI").pack

# OTLP counts kinds from 1 (0 is unspecified), the API from 0.
_KINDS: Final = tuple(bytes((0x30, kind.value + 1)) for kind in sorted(SpanKind, key=lambda kind: kind.value))
_UNSET: Final = StatusCode.UNSET


class SpanEncoder:
    """Encodes spans; holds the fragments it has encoded before. Not for use by two threads at once."""

    def __init__(self, redaction: Redaction | None = None, counters: Counters | None = None) -> None:
        """``redaction``: what is masked; the built-in keys and card numbers if not given. ``counters``: cut spans."""
        self._redaction = redaction or Redaction()
        self._counters = counters or Counters()
        # Tags: field number << 3 | 2, length-delimited.
        self._of_spans = AttributeFragments(b"\x4a", self._redaction)
        self._of_events = AttributeFragments(b"\x1a", self._redaction)
        self._of_links = AttributeFragments(b"\x22", self._redaction)
        self._names: dict[str, bytes] = {}
        self._envelopes: dict[tuple[int, int], _Known] = {}
        # That of the last span, most often the next one's too.
        self._envelope = _Known(None, None, (b"", b""))

    def encoded(self, span: EndedSpan) -> EncodedSpan:
        """A span as records take it, its texts cut where it would not fit into one.

        Raises ValueError if it still does not, and whatever a hostile value raises: a str whose ``encode`` fails.
        """
        resource, scope, envelope = self._envelope
        if span[-2] is not resource or span[-1] is not scope:
            _, _, envelope = self._envelope = self._envelope_of(span[-2], span[-1])
        body = self.span(span)
        if len(body) > _FITS_BYTES:
            body = self._fitting(span, body, envelope)
        # The trace id is a span's first field.
        return body[2:18], envelope, framed(body)

    def span(self, span: EndedSpan, max_text_length: int | None = None) -> bytes:
        """One ``Span`` message, without its tag and length.

        ``max_text_length`` cuts every string and bytes value, in characters or
        bytes: the way a span too large for a record is made to fit.
        """
        (
            trace_id, span_id, flags, trace_state, parent,
            name, kind, start, end,
            attributes, dropped_attributes,
            events, links,
            status, _, _,
        ) = span  # fmt: skip
        if max_text_length is not None:
            name = self._redaction.text(name)[:max_text_length]
        parts = [
            b"\x0a\x10",
            trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            span_id.to_bytes(8, "big"),
            b"\x1a" + text(trace_state.to_header()) if trace_state else b"",
            b"" if parent is None else b"\x22\x08" + parent[1].to_bytes(8, "big"),
            self._names.get(name) or self._named(name),
            _KINDS[kind._value_],
            _start_and_end(0x39, start, 0x41, end),
            self._of_spans.encoded(attributes, max_text_length),
        ]
        if dropped_attributes:
            parts.append(b"\x50" + varint(dropped_attributes))
        if events is not None:
            for event in events:
                parts.append(b"\x5a" + delimited(self._event(event, max_text_length)))
            if dropped := _dropped(events):
                parts.append(b"\x60" + varint(dropped))
        if links is not None:
            for link in links:
                parts.append(b"\x6a" + delimited(self._link(link, max_text_length)))
            if dropped := _dropped(links):
                parts.append(b"\x70" + varint(dropped))
        if status._status_code is not _UNSET:
            message = self._redaction.text(status.description or "")
            body = b"\x12" + text(message[:max_text_length] if max_text_length else message) if message else b""
            parts.append(b"\x7a" + delimited(body + bytes((0x18, status.status_code.value))))
        # The parent's third field: whether it is remote.
        parts.append((_FLAGS if parent is None or not parent[2] else _REMOTE_FLAGS)[flags & 0xFF])
        return b"".join(parts)

    def _fitting(self, span: EndedSpan, body: bytes, envelope: Envelope) -> bytes:
        limit = MAX_RECORD_BYTES - envelope_bytes(envelope) - 64
        if len(body) <= limit:
            return body
        for max_text_length in _CUTS:
            shortened = self.span(span, max_text_length)
            if len(shortened) <= limit:
                self._counters.shortened_spans_total += 1
                return shortened
        raise ValueError(f"a span of {len(body)} bytes does not fit into a record, even with its texts cut")

    def _envelope_of(self, resource: Resource, scope: InstrumentationScope | None) -> "_Known":
        key = (id(resource), id(scope))
        known = self._envelopes.get(key)
        if known is None:
            if len(self._envelopes) >= _CACHED_ENVELOPES:
                self._envelopes.clear()
            known = self._envelopes[key] = _Known(resource, scope, _envelope(resource, scope, self._redaction))
        return known

    def _event(self, event: Event, max_text_length: int | None) -> bytes:
        body = b"\x09" + _fixed64(event.timestamp) + b"\x12" + text(self._redaction.text(event.name))
        body += self._of_events.encoded(event.attributes, max_text_length)
        return body + (b"\x20" + varint(event.dropped_attributes) if event.dropped_attributes else b"")

    def _link(self, link: Link, max_text_length: int | None) -> bytes:
        context: SpanContext = link.context
        body = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
        if context.trace_state:
            body += b"\x1a" + text(context.trace_state.to_header())
        body += self._of_links.encoded(link.attributes, max_text_length)
        if link.dropped_attributes:
            body += b"\x28" + varint(link.dropped_attributes)
        remote = _IS_REMOTE if context.is_remote else 0
        return body + _link_flags(0x35, context.trace_flags & 0xFF | _HAS_IS_REMOTE | remote)

    def _named(self, name: str) -> bytes:
        encoded = b"\x2a" + text(self._redaction.text(name))
        if len(encoded) <= _CACHED_NAME_BYTES:
            if len(self._names) >= _CACHED_NAMES:
                self._names.clear()
            self._names[name] = encoded
        return encoded


class _Known(NamedTuple):
    """What a span lies in, encoded; beside the objects themselves, whose id() no other can take while they are here."""

    resource: Resource | None
    scope: InstrumentationScope | None
    envelope: Envelope


def _envelope(resource: Resource, scope: InstrumentationScope | None, redaction: Redaction) -> Envelope:
    for cut in (None, *_CUTS):
        envelope = _resource(resource, redaction, cut), _scope(scope, redaction, cut)
        if envelope_bytes(envelope) <= _LARGEST_ENVELOPE_BYTES:
            return envelope
    # Thousands of attributes: what names the service is worth more than all the rest.
    named = Resource({SERVICE_NAME: resource.attributes.get(SERVICE_NAME, "")})
    return _resource(named, redaction, _CUTS[-1]), b""


def _dropped(items: object) -> int:
    """How many events or links the SDK did not keep."""
    return getattr(items, "dropped", 0)


def _resource(resource: Resource, redaction: Redaction, max_text_length: int | None) -> bytes:
    body = AttributeFragments(b"\x0a", redaction).encoded(resource.attributes, max_text_length)
    return b"\x0a" + delimited(body) + (b"\x1a" + text(resource.schema_url) if resource.schema_url else b"")


def _scope(scope: InstrumentationScope | None, redaction: Redaction, max_text_length: int | None) -> bytes:
    if scope is None:
        return b""
    body = b"\x0a" + text(scope.name[:max_text_length])
    if scope.version:
        body += b"\x12" + text(scope.version[:max_text_length])
    body += AttributeFragments(b"\x1a", redaction).encoded(scope.attributes, max_text_length)
    return b"\x0a" + delimited(body) + (b"\x1a" + text(scope.schema_url) if scope.schema_url else b"")
