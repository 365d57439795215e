"""OpenTelemetry spans to OTLP protobuf bytes, written directly.

Building protobuf messages object by object costs ~45 us a span; most of a
span's bytes repeat from span to span (keys, methods, routes, status codes), so
they are encoded once and kept as fragments. The field numbers are those of
opentelemetry/proto/trace/v1/trace.proto; tests compare every field with the
stock encoder's.
"""

import struct
from typing import Final

from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

from tracewatch.fragments import AttributeFragments
from tracewatch.protobuf import delimited, text, varint
from tracewatch.records import EncodedSpan, Envelope, framed
from tracewatch.settings import MAX_RECORD_BYTES

# Names are few unless somebody builds them at run time: all is forgotten then.
_CACHED_NAMES: Final = 1024
_CACHED_NAME_BYTES: Final = 160
_CACHED_ENVELOPES: Final = 1024
# An envelope may take half a record, or no span would fit beside it; beyond that its texts are cut, in turn, to these.
_LARGEST_ENVELOPE_BYTES: Final = MAX_RECORD_BYTES // 2
_ENVELOPE_CUTS: Final = (16_384, 1024, 64)

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

    def __init__(self) -> None:
        # Tags: field number << 3 | 2, length-delimited.
        self._of_spans = AttributeFragments(b"\x4a")
        self._of_events = AttributeFragments(b"\x1a")
        self._of_links = AttributeFragments(b"\x22")
        self._names: dict[str, bytes] = {}
        # The objects are kept beside their encoding: an id() cannot be taken by another while they are.
        self._envelopes: dict[tuple[int, int], tuple[Resource, InstrumentationScope | None, Envelope]] = {}
        # Those of the last span, most often the next one's too.
        self._resource: Resource | None = None
        self._scope: InstrumentationScope | None = None
        self._envelope = Envelope(b"", b"")

    def encoded(self, span: ReadableSpan, max_text_length: int | None = None) -> EncodedSpan:
        """A span as records take it; for ``max_text_length`` see ``span``."""
        resource, scope = span._resource, span._instrumentation_scope
        if resource is not self._resource or scope is not self._scope:
            self._envelope = self._envelope_of(resource, scope)
            self._resource, self._scope = resource, scope
        assert span._context is not None
        return span._context.trace_id, self._envelope, framed(self.span(span, max_text_length))

    def span(self, span: ReadableSpan, max_text_length: int | None = None) -> bytes:
        """One ``Span`` message, without its tag and length.

        ``max_text_length`` cuts every string and bytes value, in characters or
        bytes: the way a span too large for a record is made to fit.
        """
        # The SDK's own fields, and SpanContext as the tuple that it is: through the properties each costs a Python
        # call, together a third of a span's encoding.
        context, parent, status = span._context, span._parent, span._status
        assert context is not None
        trace_id, span_id, _, flags, trace_state, _ = context
        parts = [b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big")]
        if trace_state:
            parts.append(b"\x1a" + text(trace_state.to_header()))
        all_flags = _FLAGS
        if parent is not None:
            parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
            if parent.is_remote:
                all_flags = _REMOTE_FLAGS
        name = span._name if max_text_length is None else span._name[:max_text_length]
        parts.append(self._names.get(name) or self._named(name))
        parts.append(_KINDS[span._kind._value_])
        parts.append(_start_and_end(0x39, span._start_time or 0, 0x41, span._end_time or 0))
        attributes = span._attributes
        if attributes:
            parts.append(self._of_spans.encoded(attributes, max_text_length))
        if span.dropped_attributes:
            parts.append(b"\x50" + varint(span.dropped_attributes))
        if span._events:
            for event in span.events:
                parts.append(b"\x5a" + delimited(self._event(event, max_text_length)))
            if span.dropped_events:
                parts.append(b"\x60" + varint(span.dropped_events))
        if span._links:
            for link in span.links:
                parts.append(b"\x6a" + delimited(self._link(link, max_text_length)))
            if span.dropped_links:
                parts.append(b"\x70" + varint(span.dropped_links))
        if status._status_code is not _UNSET:
            message = status.description
            body = b"\x12" + text(message[:max_text_length] if max_text_length else message) if message else b""
            parts.append(b"\x7a" + delimited(body + bytes((0x18, status.status_code.value))))
        parts.append(all_flags[flags & 0xFF])
        return b"".join(parts)

    def _envelope_of(self, resource: Resource, scope: InstrumentationScope | None) -> Envelope:
        known = self._envelopes.get((id(resource), id(scope)))
        if known is None:
            if len(self._envelopes) >= _CACHED_ENVELOPES:
                self._envelopes.clear()
            known = self._envelopes[id(resource), id(scope)] = (resource, scope, _envelope(resource, scope))
        return known[2]

    def _event(self, event: Event, max_text_length: int | None) -> bytes:
        body = b"\x09" + _fixed64(event.timestamp) + b"\x12" + text(event.name)
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
        encoded = b"\x2a" + text(name)
        if len(encoded) <= _CACHED_NAME_BYTES:
            if len(self._names) >= _CACHED_NAMES:
                self._names.clear()
            self._names[name] = encoded
        return encoded


def _envelope(resource: Resource, scope: InstrumentationScope | None) -> Envelope:
    for max_text_length in (None, *_ENVELOPE_CUTS):
        envelope = Envelope(_resource(resource, max_text_length), _scope(scope, max_text_length))
        if envelope.size_bytes <= _LARGEST_ENVELOPE_BYTES:
            return envelope
    # Thousands of attributes: what names the service is worth more than all the rest.
    named = Resource({SERVICE_NAME: resource.attributes.get(SERVICE_NAME, "")})
    return Envelope(_resource(named, _ENVELOPE_CUTS[-1]), b"")


def _resource(resource: Resource, max_text_length: int | None) -> bytes:
    body = AttributeFragments(b"\x0a").encoded(resource.attributes, max_text_length)
    return b"\x0a" + delimited(body) + (b"\x1a" + text(resource.schema_url) if resource.schema_url else b"")


def _scope(scope: InstrumentationScope | None, max_text_length: int | None) -> bytes:
    if scope is None:
        return b""
    body = b"\x0a" + text(scope.name[:max_text_length])
    if scope.version:
        body += b"\x12" + text(scope.version[:max_text_length])
    body += AttributeFragments(b"\x1a").encoded(scope.attributes, max_text_length)
    return b"\x0a" + delimited(body) + (b"\x1a" + text(scope.schema_url) if scope.schema_url else b"")
