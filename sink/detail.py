"""What a span's bytes hold beyond its decoded fields, as the JSON and texts of its row.

Most spans have attributes and nothing else: these are read by hand, from where the end time stands to the end of the
message. Whatever is not written in the usual order, or has events, links or a status, goes through protobuf.
"""

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from sink.attributes import FragmentCache, json_of
from sink.errors import PoisonRow
from sink.redaction import SecretInside
from tracecore.errors import MalformedPayload
from tracecore.otlp import AttributeValue, SpanDetail, span_detail
from tracecore.redaction import BUILT_IN, Redaction
from tracecore.span import StatusCode

#: Of an error span: the first of these that it has says what kind of error it is.
ERROR_TYPE_ATTRIBUTES = (
    "error.type",
    "exception.type",
    "http.response.status_code",
    "http.status_code",
    "rpc.grpc.status_code",
    "db.response.status_code",
)
UNKNOWN_ERROR = "error"
#: An error type is for grouping: what is longer is text.
ERROR_TYPE_LENGTH = 200

# Tags of a Span's ids, trace state and name; of its kind, its start and its end.
_SHORT_TEXTS = frozenset((0x0A, 0x12, 0x1A, 0x22, 0x2A))
_KIND, _START_TIME, _END_TIME = 0x30, 0x39, 0x41
_TIME_BYTES = 9
# What may follow the attributes and says nothing: an empty status, flags.
_EMPTY_STATUS = b"\x7a\x00"
_FLAGS = b"\x85\x01"
_FLAGS_BYTES = 6


class Detail(NamedTuple):
    """A span's JSON; ``events`` and ``links`` None where there are none, ``error_type`` empty without an error."""

    attributes: bytes
    events: bytes | None = None
    links: bytes | None = None
    message: str = ""
    error_type: str = ""


class DetailReader:
    """Reads what spans hold; keeps key-values that repeat."""

    def __init__(self, redaction: Redaction = BUILT_IN) -> None:
        self._redaction = redaction
        self._fragments = FragmentCache(redaction)

    def plain(self, raw: bytes, end_ns: int) -> bytes | None:
        """The attributes of a span that has nothing else, or None: then ``full`` reads it.

        Raises ``PoisonRow``; ``SecretInside`` if something is to be masked first, as ``full`` does.
        """
        at = _end_of_fixed_fields(raw)
        if not at or raw[at - 8 : at] != end_ns.to_bytes(8, "little"):
            return None
        end = len(raw)
        if end - at >= _FLAGS_BYTES and raw.startswith(_FLAGS, end - _FLAGS_BYTES):
            end -= _FLAGS_BYTES
        if raw.endswith(_EMPTY_STATUS, at, end):
            end -= len(_EMPTY_STATUS)
        try:
            return self._fragments.object_in(raw, at, end)
        except IndexError:
            return None

    def full(self, raw: bytes, status: int) -> Detail:
        """All that a span holds. Raises ``PoisonRow``."""
        try:
            parts = _Parts.FromString(raw)
            events = [self._event(_Event.FromString(event)) for event in parts.events]
        except DecodeError as error:
            raise PoisonRow(f"the span does not parse: {error}") from None
        attributes = self._fragments.object_of(parts.attributes)
        joined = b"[" + b",".join(events) + b"]" if events else None
        if status != StatusCode.ERROR and not parts.links and not parts.status:
            return Detail(attributes, joined)
        try:
            detail = span_detail(raw)
        except MalformedPayload as error:
            raise PoisonRow(str(error)) from None
        if "\0" in detail.status_message:
            raise PoisonRow("the status message has a NUL character")
        if self._redaction.text(detail.status_message) != detail.status_message or any(
            self._redaction.touches(pair) for link in parts.links for pair in _Link.FromString(link).attributes
        ):
            raise SecretInside
        links = [
            {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": link.attributes}
            for link in detail.links
        ]
        return Detail(
            attributes,
            joined,
            json_of(links) if links else None,
            detail.status_message,
            error_type(detail) if status == StatusCode.ERROR else "",
        )

    def _event(self, event: Any) -> bytes:
        attributes = self._fragments.object_of(event.attributes)
        if self._redaction.text(event.name) != event.name:
            raise SecretInside
        return b'{"name":%b,"time_ns":%d,"attributes":%b}' % (json_of(event.name), event.time_ns, attributes)


def _end_of_fixed_fields(raw: bytes) -> int:
    """Where a span's fields up to its end time end, each written once and in order; 0 if they are not.

    What stands in another order may have attributes before, and of a field that is there twice the last counts.
    """
    at, last = 0, 0
    try:
        while True:
            tag = raw[at]
            if tag <= last:
                return 0
            last = tag
            if tag in _SHORT_TEXTS:
                size = raw[at + 1]
                if size > 127:
                    return 0
                at += 2 + size
            elif tag == _KIND:
                at += 2
            elif tag == _START_TIME:
                at += _TIME_BYTES
            else:
                return at + _TIME_BYTES if tag == _END_TIME and at + _TIME_BYTES <= len(raw) else 0
    except IndexError:
        return 0


def error_type(detail: SpanDetail) -> str:
    """What kind of error a span has: by its attributes, else by its first exception event; never empty."""
    named = _named_in(detail.attributes)
    for event in detail.events:
        if named:
            break
        named = _named_in(event.attributes)
    return named.replace("\0", "\ufffd")[:ERROR_TYPE_LENGTH] or UNKNOWN_ERROR


def _named_in(attributes: dict[str, AttributeValue]) -> str:
    return next((str(attributes[name]) for name in ERROR_TYPE_ATTRIBUTES if attributes.get(name)), "")


def _schema() -> tuple[Any, Any, Any]:
    """Message classes, wire-compatible with OTLP's Span, Event and Link, that leave attributes encoded."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tracewatch/parts.proto", package="tracewatch", syntax="proto3")
    one, many = proto.LABEL_OPTIONAL, proto.LABEL_REPEATED
    shapes: dict[str, tuple[tuple[str, int, Any, Any], ...]] = {
        "Parts": (
            ("attributes", 9, proto.TYPE_BYTES, many),
            ("events", 11, proto.TYPE_BYTES, many),
            ("links", 13, proto.TYPE_BYTES, many),
            ("status", 15, proto.TYPE_BYTES, one),
        ),
        "Event": (
            ("time_ns", 1, proto.TYPE_FIXED64, one),
            ("name", 2, proto.TYPE_STRING, one),
            ("attributes", 3, proto.TYPE_BYTES, many),
        ),
        "Link": (("attributes", 4, proto.TYPE_BYTES, many),),
    }
    for name, declared in shapes.items():
        message = file.message_type.add(name=name)
        for field, number, kind, label in declared:
            message.field.add(name=field, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    parts, event, link = (
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tracewatch.{name}")) for name in shapes
    )
    return parts, event, link


_Parts, _Event, _Link = _schema()
