"""What a span's bytes hold beyond its decoded fields, parsed no deeper than a row needs.

Attributes stay encoded, one ``bytes`` a key-value, so that ``attributes.FragmentCache`` can look them up. The few
spans with an error, events or links are decoded in full (``tracecore.otlp.span_detail``).
"""

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from sink.errors import PoisonRow
from tracecore.errors import MalformedPayload
from tracecore.otlp import AttributeValue, SpanDetail, span_detail

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


class RareDetail(NamedTuple):
    """What few spans have."""

    detail: SpanDetail
    #: Empty for a span without an error.
    error_type: str


def parts_of(raw: bytes) -> Any:
    """A message with ``attributes``, ``events``, ``links`` (encoded, repeated) and ``status`` (encoded)."""
    try:
        return _Parts.FromString(raw)
    except DecodeError as error:
        raise PoisonRow(f"the span does not parse: {error}") from None


def rare_detail(raw: bytes, is_error: bool) -> RareDetail:
    """Decode all of a span. Raises ``PoisonRow``."""
    try:
        detail = span_detail(raw)
    except MalformedPayload as error:
        raise PoisonRow(str(error)) from None
    return RareDetail(detail, error_type(detail) if is_error else "")


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


def _schema() -> Any:
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="tracewatch/parts.proto", package="tracewatch", syntax="proto3")
    message = file.message_type.add(name="Parts")
    for name, number, label in (
        ("attributes", 9, proto.LABEL_REPEATED),
        ("events", 11, proto.LABEL_REPEATED),
        ("links", 13, proto.LABEL_REPEATED),
        ("status", 15, proto.LABEL_OPTIONAL),
    ):
        message.field.add(name=name, number=number, type=proto.TYPE_BYTES, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tracewatch.Parts"))


_Parts = _schema()
