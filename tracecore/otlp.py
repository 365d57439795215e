"""OTLP bytes to spans and back, keeping the bytes of every span as they came.

Decoding goes through protobuf's C core with a narrowed schema: a span stays bytes inside its scope, so that it can be
passed on unchanged, and only its fixed fields are parsed. Attributes, events and links are decoded on demand.

Source: opentelemetry-proto, ``collector/trace/v1`` and ``trace/v1``.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource as ResourceMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tracecore.errors import MalformedPayload
from tracecore.span import MAX_COUNT_MILLI, ONE_SPAN_MILLI, Resource, Scope, Span

UNKNOWN_SERVICE = "unknown_service"
#: Whose clock made the spans of a resource: the first of these that is set.
HOST_ATTRIBUTES = ("host.id", "host.name", "k8s.node.name", "container.id", "k8s.pod.name", "service.instance.id")

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)
# What ``Span._make`` does, without a step in Python for each span.
new_span = partial(tuple.__new__, Span)

AttributeValue = None | bool | int | float | str | bytes | list["AttributeValue"] | dict[str, "AttributeValue"]


class RejectedSpan(NamedTuple):
    """A span that cannot be assembled, and why; ``request`` is an ExportTraceServiceRequest with just this span."""

    request: bytes
    reason: str


class Event(NamedTuple):
    """A span event; ``time_ns`` Unix time."""

    name: str
    time_ns: int
    attributes: dict[str, AttributeValue]


class Link(NamedTuple):
    """A span link."""

    trace_id: bytes
    span_id: bytes
    attributes: dict[str, AttributeValue]


class SpanDetail(NamedTuple):
    """What ``Span.raw`` holds beyond the decoded fields."""

    attributes: dict[str, AttributeValue]
    events: list[Event]
    links: list[Link]
    status_message: str
    trace_state: str


def decode_spans(request: bytes) -> tuple[list[Span], list[RejectedSpan]]:
    """Decode an ExportTraceServiceRequest; spans in their order, and those that cannot be assembled apart.

    A span is rejected if it does not parse, or its trace id or span id is not of its length, or is zero.
    Raises ``MalformedPayload`` if the request itself does not parse. O(n) in bytes.
    """
    try:
        message = _Request.FromString(request)
    except DecodeError as error:
        raise MalformedPayload(f"not an ExportTraceServiceRequest: {error}") from None
    spans: list[Span] = []
    rejected: list[RejectedSpan] = []
    parse, name_of, status_of, new = _Fields.FromString, interned_name, status_code, new_span
    for resource_spans in message.resource_spans:
        resource = resource_of(resource_spans.resource, resource_spans.schema_url)
        for scope_spans in resource_spans.scope_spans:
            scope = scope_of(scope_spans.scope, scope_spans.schema_url)
            for raw in scope_spans.spans:
                try:
                    fields = parse(raw)
                    status = fields.status
                    code = status_of(status) if status else 0
                except DecodeError as error:
                    rejected.append(RejectedSpan(_lone_request(raw, resource, scope), f"span does not parse: {error}"))
                    continue
                trace_id, span_id, parent = fields.trace_id, fields.span_id, fields.parent_span_id
                if len(trace_id) != 16 or len(span_id) != 8 or trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
                    reason = f"trace id {trace_id.hex() or 'missing'}, span id {span_id.hex() or 'missing'}"
                    rejected.append(RejectedSpan(_lone_request(raw, resource, scope), f"no valid id: {reason}"))
                    continue
                if parent and (len(parent) != 8 or parent == _NO_SPAN_ID):
                    parent = b""
                state = fields.trace_state
                spans.append(
                    new(
                        (
                            trace_id,
                            span_id,
                            parent,
                            name_of(fields.name),
                            fields.kind,
                            fields.start_time_unix_nano,
                            fields.end_time_unix_nano,
                            code,
                            count_milli(state) if state else ONE_SPAN_MILLI,
                            resource,
                            scope,
                            raw,
                        )
                    )
                )
    return spans, rejected


def encode_spans(spans: Iterable[Span]) -> bytes:
    """An ExportTraceServiceRequest with the bytes of ``spans`` as they came, grouped by resource and scope."""
    fields_of: dict[tuple[Resource, Scope], list[bytes]] = {}
    for span in spans:
        fields_of.setdefault((span.resource, span.scope), []).append(span_field(span.raw))
    return encode_fields(fields_of)


def span_field(raw: bytes) -> bytes:
    """A span as it stands below its scope; such fields may stand one after the other."""
    return _field(2, raw)


def encode_fields(fields_of: Mapping[tuple[Resource, Scope], Iterable[bytes | memoryview]]) -> bytes:
    """An ExportTraceServiceRequest of what ``span_field`` gives, by resource and scope."""
    # Put together once, at the end: a field within a field within a field would be copied five times.
    by_resource: dict[Resource, list[bytes | memoryview]] = {}
    for (resource, scope), fields in fields_of.items():
        body = [_field(1, scope.raw) if scope.raw else b"", *fields, _text_field(3, scope.schema_url)]
        by_resource.setdefault(resource, []).extend((_field_head(2, sum(map(len, body))), *body))
    request: list[bytes | memoryview] = []
    for resource, scopes in by_resource.items():
        body = [_field(1, resource.raw), *scopes, _text_field(3, resource.schema_url)]
        request += (_field_head(1, sum(map(len, body))), *body)
    return b"".join(request)


@lru_cache(maxsize=4096)
def resource_of(raw: bytes, schema_url: str = "") -> Resource:
    """Read a Resource message; equal bytes give the same object, so a batch costs one look-up a resource."""
    try:
        attributes = attributes_of(ResourceMessage.FromString(raw).attributes)
    except DecodeError:
        attributes = {}
    service = attributes.get("service.name")
    service = service if isinstance(service, str) and service else UNKNOWN_SERVICE
    host = next((str(attributes[name]) for name in HOST_ATTRIBUTES if attributes.get(name)), service)
    return Resource(raw, schema_url, service, host)


@lru_cache(maxsize=4096)
def scope_of(raw: bytes, schema_url: str = "") -> Scope:
    """A scope; equal bytes give the same object."""
    return Scope(raw, schema_url)


def resource_attributes(resource: Resource) -> dict[str, AttributeValue]:
    """All attributes of a resource; empty if its bytes do not parse."""
    try:
        return attributes_of(ResourceMessage.FromString(resource.raw).attributes)
    except DecodeError:
        return {}


def span_detail(raw: bytes) -> SpanDetail:
    """Decode what a span's bytes hold beyond its fixed fields. Raises ``MalformedPayload``, e.g. for invalid UTF-8."""
    try:
        message = SpanMessage.FromString(raw)
    except DecodeError as error:
        raise MalformedPayload(f"span does not parse: {error}") from None
    return SpanDetail(
        attributes_of(message.attributes),
        [Event(event.name, event.time_unix_nano, attributes_of(event.attributes)) for event in message.events],
        [Link(link.trace_id, link.span_id, attributes_of(link.attributes)) for link in message.links],
        message.status.message,
        message.trace_state,
    )


def attribute_bytes(raw: bytes) -> Sequence[bytes]:
    """A span's attributes as OTLP's KeyValue messages, not decoded: for who looks for a few of them.

    Empty if the span does not parse, which ``decode_spans`` rules out.
    """
    try:
        attributes: Sequence[bytes] = _Attributes.FromString(raw).attributes
    except DecodeError:
        return ()
    return attributes


def attributes_of(key_values: Iterable[Any]) -> dict[str, AttributeValue]:
    """OTLP KeyValues as a dictionary; a later key wins."""
    return {pair.key: value_of(pair.value) for pair in key_values}


def value_of(value: AnyValue) -> AttributeValue:
    """An OTLP AnyValue as Python's own type; lists and maps become lists and dictionaries."""
    which = value.WhichOneof("value")
    if which is None:
        return None
    if which == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if which == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    plain: AttributeValue = getattr(value, which)
    return plain


@lru_cache(maxsize=4096)
def count_milli(trace_state: str) -> int:
    """How many spans one sampled span stands for, in thousandths, by ``ot=th:`` in its tracestate; 1000 without.

    Never more than ``MAX_COUNT_MILLI``, though a threshold can say one in 2**56: sums must fit 64 bits, and a span that
    anybody may send must not drown all others in the statistics.

    Source: OpenTelemetry, TraceState probability sampling: th is the rejection threshold, hex, padded to 56 bits.
    """
    for member in trace_state.split(","):
        key, _, value = member.strip().partition("=")
        if key != "ot":
            continue
        for pair in value.split(";"):
            name, _, threshold = pair.partition(":")
            if name == "th" and 1 <= len(threshold) <= 14:
                # Digits only: int() would take a sign, too, and a count below one.
                if not _HEX_DIGITS.issuperset(threshold):
                    return ONE_SPAN_MILLI
                rejected = int(threshold.ljust(14, "0"), 16)
                return min(round(ONE_SPAN_MILLI * (1 << 56) / ((1 << 56) - rejected)), MAX_COUNT_MILLI)
    return ONE_SPAN_MILLI


@lru_cache(maxsize=4096)
def status_code(status: bytes) -> int:
    """The code in OTLP's Status message. Raises protobuf's ``DecodeError``."""
    code: int = _Status.FromString(status).code
    return code


@lru_cache(maxsize=65536)
def interned_name(name: bytes) -> str:
    """A span's name; equal bytes give the same object."""
    return name.decode("utf-8", "replace")


def _lone_request(raw: bytes, resource: Resource, scope: Scope) -> bytes:
    return encode_fields({(resource, scope): (span_field(raw),)})


def _text_field(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field; ``number`` below 16."""
    return _field_head(number, len(payload)) + payload


def _field_head(number: int, size: int) -> bytes:
    """What stands before a length-delimited field."""
    return bytes((number << 3 | 2,)) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _narrowed_schema() -> tuple[Any, Any, Any, Any]:
    """Message classes, wire-compatible with OTLP's, that parse only what ``decode_spans`` reads.

    ``name`` and ``trace_state`` are declared as they are safe: a name as bytes, since protobuf refuses a whole
    message for one invalid character, and a span with an odd name is still a span. A status is bytes, too: nearly all
    are empty or alike, and a message within a message costs as much as all other fields.
    """
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tracewatch/narrowed.proto", package="tracewatch", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, Any, bool, str]) -> None:
        declared = file.message_type.add(name=name)
        for field, number, kind, repeated, type_name in fields:
            label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
            added = declared.field.add(name=field, number=number, type=kind, label=label)
            if type_name:
                added.type_name = f".tracewatch.{type_name}"

    message("Request", ("resource_spans", 1, proto.TYPE_MESSAGE, True, "ResourceSpans"))
    message(
        "ResourceSpans",
        ("resource", 1, proto.TYPE_BYTES, False, ""),
        ("scope_spans", 2, proto.TYPE_MESSAGE, True, "ScopeSpans"),
        ("schema_url", 3, proto.TYPE_STRING, False, ""),
    )
    message(
        "ScopeSpans",
        ("scope", 1, proto.TYPE_BYTES, False, ""),
        ("spans", 2, proto.TYPE_BYTES, True, ""),
        ("schema_url", 3, proto.TYPE_STRING, False, ""),
    )
    message(
        "Fields",
        ("trace_id", 1, proto.TYPE_BYTES, False, ""),
        ("span_id", 2, proto.TYPE_BYTES, False, ""),
        ("trace_state", 3, proto.TYPE_STRING, False, ""),
        ("parent_span_id", 4, proto.TYPE_BYTES, False, ""),
        ("name", 5, proto.TYPE_BYTES, False, ""),
        ("kind", 6, proto.TYPE_INT32, False, ""),
        ("start_time_unix_nano", 7, proto.TYPE_FIXED64, False, ""),
        ("end_time_unix_nano", 8, proto.TYPE_FIXED64, False, ""),
        ("status", 15, proto.TYPE_BYTES, False, ""),
    )
    message("Status", ("code", 3, proto.TYPE_INT32, False, ""))
    message("Attributes", ("attributes", 9, proto.TYPE_BYTES, True, ""))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request, fields, status, attributes = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tracewatch.{name}"))
        for name in ("Request", "Fields", "Status", "Attributes")
    )
    return request, fields, status, attributes


_Request, _Fields, _Status, _Attributes = _narrowed_schema()
