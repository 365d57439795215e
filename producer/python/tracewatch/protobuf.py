"""Protobuf's wire format, as far as OTLP's attributes and envelopes need it, written directly.

The field numbers are those of opentelemetry/proto/common/v1/common.proto.
"""

import struct
from collections.abc import Mapping, Sequence

_double = struct.Struct("<d").pack
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1


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


# Most messages of a span are shorter than this: their lengths are looked up.
_LENGTHS = tuple(varint(size) for size in range(2048))


def delimited(body: bytes) -> bytes:
    """Protobuf's length-delimited form: varint length, then the bytes."""
    size = len(body)
    return (_LENGTHS[size] if size < 2048 else varint(size)) + body


def text(value: str) -> bytes:
    """A string field's content, length first."""
    return delimited(utf8(value))


def utf8(value: str) -> bytes:
    """A string as protobuf has to have it."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        # Lone surrogates (undecodable file names, broken JSON) have no UTF-8; their escapes keep the evidence.
        return value.encode(errors="backslashreplace")


def key_value(key: str, value: object) -> bytes:
    """The content of a ``KeyValue``."""
    return b"\x0a" + text(key) + b"\x12" + delimited(any_value(value))


def any_value(value: object) -> bytes:
    """The content of an ``AnyValue``; what OTLP has no type for becomes text."""
    if isinstance(value, str):
        return b"\x0a" + text(value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return b"\x18" + varint(value & 0xFFFFFFFFFFFFFFFF)
        # OTLP has no wider integer: its digits say more than a dropped attribute.
        return b"\x0a" + text(hex(value) if value.bit_length() > 4096 else str(value))
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, bytes):
        return b"\x3a" + delimited(value)
    if isinstance(value, Mapping):
        return b"\x32" + delimited(b"".join(b"\x0a" + delimited(key_value(str(k), v)) for k, v in value.items()))
    if isinstance(value, Sequence):
        return b"\x2a" + delimited(b"".join(b"\x0a" + delimited(any_value(v)) for v in value))
    if value is None:
        return b""
    return b"\x0a" + text(str(value))


def cut(value: object, max_text_length: int) -> object:
    """The value with every string, bytes and sequence in it cut to a length."""
    if isinstance(value, str | bytes):
        return value[:max_text_length]
    if isinstance(value, Mapping):
        return {str(key)[:max_text_length]: cut(item, max_text_length) for key, item in value.items()}
    if isinstance(value, Sequence):
        # A sequence of short values can be as large as a long string.
        return [cut(item, max_text_length) for item in value[:max_text_length]]
    return value
