"""PostgreSQL's binary COPY format: what a row is made of.

A row is a count of fields, then each field as its length and its bytes; a length of -1 is null. The functions here
return a field with its length, ready to be joined. Written by hand, since a driver's row writer looks up a type for
each value of each row: a third of what the sink costs, otherwise.

Source: PostgreSQL's documentation, COPY, "Binary Format"; the send functions of the types.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

from sink.errors import PoisonRow

#: Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
POSTGRES_EPOCH_US = 946_684_800_000_000

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"

INT8_MAX = 2**63 - 1
INT4_MAX = 2**31 - 1

_TEXT_OID, _INT4_OID, _INT8_OID, _BYTEA_OID, _TIMESTAMPTZ_OID = 25, 23, 20, 17, 1184

_length = Struct("!i").pack
_int2 = Struct("!ih").pack
_int4 = Struct("!ii").pack
_int8 = Struct("!iq").pack
_array_header = Struct("!iiiii").pack


def int2(value: int) -> bytes:
    """A smallint; raises ``struct.error`` out of range."""
    return _int2(2, value)


def int4(value: int) -> bytes:
    """An integer; raises ``struct.error`` out of range."""
    return _int4(4, value)


def int8(value: int) -> bytes:
    """A bigint; raises ``struct.error`` out of range."""
    return _int8(8, value)


def binary(value: bytes) -> bytes:
    """A bytea."""
    return _length(len(value)) + value


@lru_cache(maxsize=16384)
def text(value: str) -> bytes:
    """A text; raises ``PoisonRow`` for a NUL character. Cached: services and operations repeat in every row."""
    encoded = value.encode("utf-8", "replace")
    if 0 in encoded:
        raise PoisonRow(f"{value[:100]!r} has a NUL character")
    return _length(len(encoded)) + encoded


def jsonb(value: bytes) -> bytes:
    """A jsonb from encoded JSON."""
    return _length(len(value) + 1) + b"\1" + value


def text_array(values: Iterable[str]) -> bytes:
    """A text[] without nulls."""
    items = [text(value) for value in values]
    return _array(_TEXT_OID, len(items), b"".join(items))


def bytea_array(values: Sequence[bytes]) -> bytes:
    """A bytea[] without nulls."""
    lengths = set(map(len, values))
    if len(lengths) != 1:
        return _array(_BYTEA_OID, len(values), b"".join(map(binary, values)))
    # Ids, hundreds a batch: one length stands before each.
    length = _length(lengths.pop())
    return _array(_BYTEA_OID, len(values), length + length.join(values))


def int4_array(values: Sequence[int]) -> bytes:
    """An integer[]; raises ``struct.error`` out of range."""
    return _array(_INT4_OID, len(values), _numbers("i", 4, values))


def int8_array(values: Sequence[int]) -> bytes:
    """A bigint[]; raises ``struct.error`` out of range."""
    return _array(_INT8_OID, len(values), _numbers("q", 8, values))


def timestamptz_array(times_ns: Iterable[int]) -> bytes:
    """A timestamptz[] of Unix nanoseconds; raises ``struct.error`` out of range."""
    times_us = [time_ns // 1000 - POSTGRES_EPOCH_US for time_ns in times_ns]
    return _array(_TIMESTAMPTZ_OID, len(times_us), _numbers("q", 8, times_us))


def _numbers(code: str, length: int, values: Sequence[int]) -> bytes:
    fields = [length] * (2 * len(values))
    fields[1::2] = values
    return _packed(code, len(values)).pack(*fields)


@lru_cache(maxsize=2048)
def _packed(code: str, count: int) -> Struct:
    return Struct("!" + ("i" + code) * count)


def _array(oid: int, count: int, fields: bytes) -> bytes:
    if not count:
        return _length(12) + _length(0) + _length(0) + _length(oid)
    return _length(20 + len(fields)) + _array_header(1, 0, oid, count, 1) + fields
