"""OpenTelemetry spans to OTLP protobuf bytes, written directly.

Building protobuf messages object by object costs ~45 us a span; most of a
span's bytes repeat from span to span (keys, methods, routes, status codes), so
they are encoded once and kept as fragments. The field numbers are those of
opentelemetry/proto/trace/v1/trace.proto; tests compare every field with the
stock encoder's.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, StatusCode

# Longer fragments are seldom seen twice: caching them would only hold memory.
_CACHED_FRAGMENT_BYTES: Final = 160
# A key with more values than this (a path with ids) is not worth a cache: its later values pass by it.
_CACHED_VALUES_OF_A_KEY: Final = 256
# Names are few unless somebody builds them at run time: all is forgotten then.
_CACHED_KEYS: Final = 1024

_fixed64 = struct.Struct("<Q").pack
_double = struct.Struct("<d").pack
# start_time_unix_nano (7) and end_time_unix_nano (8), both fixed64, are neighbours: one call.
_start_and_end = struct.Struct("<BQBQ").pack
_flags = struct.Struct("<I").pack

_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1

# Tags: field number << 3 | wire type. 2 = length-delimited, 1 = fixed64, 5 = fixed32, 0 = varint.
_SPAN_ATTRIBUTES: Final = b"\x4a"
_EVENT_ATTRIBUTES: Final = b"\x1a"
_LINK_ATTRIBUTES: Final = b"\x22"
_RESOURCE_ATTRIBUTES: Final = b"\x0a"
_SCOPE_ATTRIBUTES: Final = b"\x1a"
_ATTRIBUTE_TAGS: Final = (_SPAN_ATTRIBUTES, _EVENT_ATTRIBUTES, _LINK_ATTRIBUTES, _RESOURCE_ATTRIBUTES)
# OTLP counts kinds from 1 (0 is unspecified), the API from 0.
_KINDS: Final = {kind: bytes((0x30, kind.value + 1)) for kind in SpanKind}

_Cache = dict[Any, bytes]


class SpanEncoder:
    """Encodes spans; holds the fragments it has encoded before. Not for use by two threads at once."""

    def __init__(self) -> None:
        # Encoded attributes by tag, key and value. Texts and integers apart: 1 and True are one dictionary key.
        self._texts: dict[bytes, dict[str, _Cache]] = {tag: {} for tag in _ATTRIBUTE_TAGS}
        self._integers: dict[bytes, dict[str, _Cache]] = {tag: {} for tag in _ATTRIBUTE_TAGS}
        self._names: dict[str, bytes] = {}
        # The object is kept beside its encoding: its id() cannot be taken by another while it is.
        self._resources: dict[int, tuple[Resource, bytes]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope | None, bytes]] = {}

    def resource(self, resource: Resource) -> bytes:
        """Fields of a ``ResourceSpans`` except its scope_spans."""
        known = self._resources.get(id(resource))
        if known is None:
            body = self._attributes(_RESOURCE_ATTRIBUTES, resource.attributes, None)
            encoded = b"\x0a" + delimited(body) + (b"\x1a" + _text(resource.schema_url) if resource.schema_url else b"")
            if len(self._resources) >= 64:
                self._resources.clear()
            known = self._resources[id(resource)] = (resource, encoded)
        return known[1]

    def scope(self, scope: InstrumentationScope | None) -> bytes:
        """Fields of a ``ScopeSpans`` except its spans."""
        known = self._scopes.get(id(scope))
        if known is None:
            encoded = b""
            if scope is not None:
                body = b"\x0a" + _text(scope.name)
                if scope.version:
                    body += b"\x12" + _text(scope.version)
                body += self._attributes(_SCOPE_ATTRIBUTES, scope.attributes, None)
                encoded = b"\x0a" + delimited(body)
                if scope.schema_url:
                    encoded += b"\x1a" + _text(scope.schema_url)
            if len(self._scopes) >= 1024:
                self._scopes.clear()
            known = self._scopes[id(scope)] = (scope, encoded)
        return known[1]

    def span(self, span: ReadableSpan, max_text_length: int | None = None) -> bytes:
        """One ``Span`` message, without its tag and length.

        ``max_text_length`` cuts every string and bytes value, in characters or
        bytes: the way a span too large for a record is made to fit.
        """
        context = span.context
        assert context is not None
        parent = span.parent
        flags = context.trace_flags | _HAS_IS_REMOTE
        if parent is not None and parent.is_remote:
            flags |= _IS_REMOTE
        parts = [b"\x0a\x10", context.trace_id.to_bytes(16, "big"), b"\x12\x08", context.span_id.to_bytes(8, "big")]
        if context.trace_state:
            parts.append(b"\x1a" + _text(context.trace_state.to_header()))
        if parent is not None:
            parts.append(b"\x22\x08" + parent.span_id.to_bytes(8, "big"))
        parts.append(self._name(span.name if max_text_length is None else span.name[:max_text_length]))
        parts.append(_KINDS[span.kind])
        parts.append(_start_and_end(0x39, span.start_time or 0, 0x41, span.end_time or 0))
        # ReadableSpan.attributes wraps the same mapping anew each time it is read: the wrapped one is as good.
        attributes = span._attributes
        if attributes:
            parts.append(self._attributes(_SPAN_ATTRIBUTES, attributes, max_text_length))
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
        status = span.status
        if status.status_code is not StatusCode.UNSET:
            message = status.description
            body = b"\x12" + _text(message[:max_text_length] if max_text_length else message) if message else b""
            parts.append(b"\x7a" + delimited(body + bytes((0x18, status.status_code.value))))
        parts.append(b"\x85\x01" + _flags(flags))
        return b"".join(parts)

    def _event(self, event: Event, max_text_length: int | None) -> bytes:
        body = b"\x09" + _fixed64(event.timestamp) + b"\x12" + _text(event.name)
        body += self._attributes(_EVENT_ATTRIBUTES, event.attributes, max_text_length)
        return body + (b"\x20" + varint(event.dropped_attributes) if event.dropped_attributes else b"")

    def _link(self, link: Link, max_text_length: int | None) -> bytes:
        context: SpanContext = link.context
        body = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
        if context.trace_state:
            body += b"\x1a" + _text(context.trace_state.to_header())
        body += self._attributes(_LINK_ATTRIBUTES, link.attributes, max_text_length)
        if link.dropped_attributes:
            body += b"\x28" + varint(link.dropped_attributes)
        return body + b"\x35" + _flags(context.trace_flags | _HAS_IS_REMOTE | (_IS_REMOTE if context.is_remote else 0))

    def _attributes(self, tag: bytes, attributes: Mapping[str, object] | None, max_text_length: int | None) -> bytes:
        if not attributes:
            return b""
        if max_text_length is not None:
            return b"".join(tag + delimited(_key_value(k, _cut(v, max_text_length))) for k, v in attributes.items())
        texts, integers = self._texts[tag], self._integers[tag]
        parts = []
        # BoundedAttributes locks and looks up for each item; an ended span's plain dict changes no more.
        items: Mapping[str, Any] = getattr(attributes, "_dict", attributes)
        for key, value in items.items():
            kind = type(value)
            if kind is str:
                known = texts.get(key)
            elif kind is int:
                known = integers.get(key)
            else:
                parts.append(tag + delimited(_key_value(key, value)))
                continue
            fragment = known.get(value) if known is not None else None
            if fragment is None:
                fragment = tag + delimited(_key_value(key, value))
                if known is None:
                    known = _new_cache(texts if kind is str else integers, key)
                if len(known) < _CACHED_VALUES_OF_A_KEY and len(fragment) <= _CACHED_FRAGMENT_BYTES:
                    known[value] = fragment
            parts.append(fragment)
        return b"".join(parts)

    def _name(self, name: str) -> bytes:
        encoded = self._names.get(name)
        if encoded is None:
            if len(self._names) >= _CACHED_KEYS:
                self._names.clear()
            encoded = b"\x2a" + _text(name)
            if len(encoded) <= _CACHED_FRAGMENT_BYTES:
                self._names[name] = encoded
        return encoded


def _new_cache(caches: dict[str, _Cache], key: str) -> _Cache:
    if len(caches) >= _CACHED_KEYS:
        caches.clear()
    return caches.setdefault(key, {})


def delimited(body: bytes) -> bytes:
    """Protobuf's length-delimited form: varint length, then the bytes."""
    size = len(body)
    if size < 0x80:
        return bytes((size,)) + body
    return varint(size) + body


def varint(number: int) -> bytes:
    """Protobuf's variable-length form of a number from 0."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(text: str) -> bytes:
    try:
        return delimited(text.encode())
    except UnicodeEncodeError:
        # Lone surrogates (undecodable file names, broken JSON) have no UTF-8; their escapes keep the evidence.
        return delimited(text.encode(errors="backslashreplace"))


def _key_value(key: str, value: object) -> bytes:
    return b"\x0a" + _text(key) + b"\x12" + delimited(_any_value(value))


def _any_value(value: object) -> bytes:
    if isinstance(value, str):
        return b"\x0a" + _text(value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
        # OTLP has no wider integer: its digits say more than a dropped attribute.
        return b"\x0a" + _text(hex(value) if value.bit_length() > 4096 else str(value))
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, bytes):
        return b"\x3a" + delimited(value)
    if isinstance(value, Mapping):
        return b"\x32" + delimited(b"".join(b"\x0a" + delimited(_key_value(str(k), v)) for k, v in value.items()))
    if isinstance(value, Sequence):
        return b"\x2a" + delimited(b"".join(b"\x0a" + delimited(_any_value(v)) for v in value))
    if value is None:
        return b""
    return b"\x0a" + _text(str(value))


def _cut(value: object, max_text_length: int) -> object:
    if isinstance(value, str | bytes):
        return value[:max_text_length]
    if isinstance(value, Mapping):
        return {str(key)[:max_text_length]: _cut(item, max_text_length) for key, item in value.items()}
    if isinstance(value, Sequence):
        # A sequence of short values can be as large as a long string.
        return [_cut(item, max_text_length) for item in value[:max_text_length]]
    return value
