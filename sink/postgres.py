"""What every part of the store needs of psycopg: a connection, COPY of ready rows, times, arrays as columns."""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import psycopg
from psycopg import sql
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

from sink import binary
from sink.errors import PoisonRow
from sink.rows import storable

#: COPY is fed in pieces of this size, so that the server works while the next is sent.
COPY_PIECE_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY = sql.Placeholder()


class Encoded(bytes):
    """A parameter in PostgreSQL's binary format: the driver's own lists take a step in Python for each element."""


class Int4Array(Encoded):
    """An integer[]."""


class Int8Array(Encoded):
    """A bigint[]."""


class TextArray(Encoded):
    """A text[]."""


class ByteaArray(Encoded):
    """A bytea[]."""


class TimestamptzArray(Encoded):
    """A timestamptz[], made of Unix nanoseconds."""


_ARRAYS: dict[str, tuple[type[Encoded], Callable[[Sequence[Any]], bytes]]] = {
    "int4": (Int4Array, binary.int4_array),
    "int8": (Int8Array, binary.int8_array),
    "text": (TextArray, binary.text_array),
    "bytea": (ByteaArray, binary.bytea_array),
    "timestamptz": (TimestamptzArray, binary.timestamptz_array),
}


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Encoded) -> Encoded:
        return obj


def connect(url: str) -> psycopg.Connection:
    """A connection in autocommit mode, on which times are UTC."""
    connection = psycopg.connect(
        url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, application_name="tracewatch-sink"
    )
    for element, (array, _) in _ARRAYS.items():
        oid = psycopg.adapters.types[element].array_oid
        connection.adapters.register_dumper(array, type(f"_{array.__name__}Dumper", (_AsItIs,), {"oid": oid}))
    # The offsets are in the transaction: what a crash of the server takes back is read from Kafka once more.
    connection.execute("SET synchronous_commit = off")
    connection.execute("SET timezone = 'UTC'")
    return connection


def copy_rows(connection: psycopg.Connection, table: str, columns: str, rows: Sequence[bytes | memoryview]) -> None:
    """Binary COPY of rows (``sink.binary``), or of pieces of many of them, into a table."""
    if not rows:
        return
    with connection.cursor() as cursor, cursor.copy(_copy_statement(table, columns)) as copy:
        piece: list[bytes | memoryview] = [binary.HEADER]
        size = 0
        for row in rows:
            if len(row) >= COPY_PIECE_BYTES:
                copy.write(b"".join(piece))
                for start in range(0, len(row), COPY_PIECE_BYTES):
                    copy.write(row[start : start + COPY_PIECE_BYTES])
                piece, size = [], 0
                continue
            piece.append(row)
            size += len(row)
            if size >= COPY_PIECE_BYTES:
                copy.write(b"".join(piece))
                piece, size = [], 0
        piece.append(binary.TRAILER)
        copy.write(b"".join(piece))


def adding_upsert(table: str, keys: Mapping[str, str], sums: Iterable[str]) -> bytes:
    """INSERT of arrays, one a column (``arrays_of``), that adds to the sums of the rows that are there.

    ``keys`` maps the key's columns to their types; ``sums`` are bigint columns. Costly to compose: make it once.
    """
    columns = {**keys, **dict.fromkeys(sums, "int8")}
    statement = sql.SQL(
        "INSERT INTO {table} AS t ({names}) SELECT * FROM unnest({arrays}) ON CONFLICT ({keys}) DO UPDATE SET {sums}"
    ).format(
        table=sql.Identifier(table),
        names=identifiers(columns),
        arrays=array_places(columns.values(), sql.Placeholder(format=PyFormat.BINARY)),
        keys=identifiers(keys),
        sums=sql.SQL(", ").join(
            sql.SQL("{0} = t.{0} + EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns if name not in keys
        ),
    )
    return statement.as_bytes()


def identifiers(names: Iterable[str]) -> sql.Composed:
    """Names with commas between."""
    return sql.SQL(", ").join(map(sql.Identifier, names))


def array_places(types: Iterable[str], placeholder: sql.Placeholder = _ANY) -> sql.Composed:
    """A placeholder for an array of each type, by PostgreSQL's own names: int4, int8, text, ...

    A binary placeholder spares the quotes of each element; psycopg needs one element at least for it.
    """
    return sql.SQL(", ").join(sql.SQL("{}::{}[]").format(placeholder, sql.Identifier(kind)) for kind in types)


def array_of(element: str, values: Sequence[Any]) -> object:
    """An array as a parameter, by PostgreSQL's name of its elements; times are Unix nanoseconds.

    Raises ``psycopg.DataError``, as psycopg does.
    """
    if element not in _ARRAYS:
        return list(values)
    array, encoded = _ARRAYS[element]
    try:
        # Without its length, which is the driver's to tell.
        return array(encoded(values)[4:])
    except (PoisonRow, struct.error) as error:
        raise psycopg.DataError(str(error)) from None


def arrays_of(elements: Iterable[str], rows: Sequence[Sequence[Any]]) -> list[object]:
    """Rows as ``array_of`` each column."""
    return [array_of(element, column) for element, column in zip(elements, zip(*rows, strict=True), strict=True)]


def time_of(time_ns: int) -> datetime:
    """Unix nanoseconds as PostgreSQL keeps them; ``psycopg.DataError`` if it cannot."""
    try:
        return _EPOCH + timedelta(microseconds=time_ns // 1000)
    except OverflowError:
        raise psycopg.DataError(f"time {time_ns} ns is out of range") from None


def ns_of(time: datetime) -> int:
    """A time as Unix nanoseconds."""
    since = time - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def first_line(error: psycopg.Error) -> str:
    """What PostgreSQL says, without the context."""
    return storable(str(error).strip().partition("\n")[0]) or type(error).__name__


@cache
def _copy_statement(table: str, columns: str) -> bytes:
    # Once: psycopg takes longer to compose it than to run it.
    names = identifiers(columns.split(", "))
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table), names).as_bytes()
