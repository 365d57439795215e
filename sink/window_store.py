"""Windows in PostgreSQL: the ten-second parts as they came, and the minutes and hours that they add up to.

Histograms travel in PostgreSQL's binary format both ways, and parts that are new are copied: there is a window for
every ten spans or so, and through the driver's lists each cost ten times what a span does.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from sink import binary
from sink.errors import PoisonRow
from sink.postgres import array_of, array_places, arrays_of, copy_rows, identifiers, ns_of, time_of
from sink.rollups import SeriesKey, WindowSums, differences, newest_parts, other_buckets, supersedes
from tracecore.window import HopWindow, OperationWindow, Window

PartKey = tuple[int, SeriesKey, int]


@dataclass(frozen=True, slots=True)
class _Shape:
    """The tables of one kind of window: their prefix, the columns of a series' key, the second histogram."""

    prefix: str
    keys: tuple[tuple[str, str], ...]
    other: str
    window: type[OperationWindow] | type[HopWindow]

    def sums(self) -> list[str]:
        """Columns that a row of every table of this shape has, after its key."""
        histograms = [f"{name}_{part}" for name in ("duration", self.other) for part in ("buckets", "counts")]
        return ["spans", "count_milli", "error_milli", *histograms, "slowest_trace_id", "failed_trace_id"]


_OPERATIONS = _Shape(
    "operation", (("service", "text"), ("operation", "text"), ("kind", "int2")), "self_time", OperationWindow
)
_HOPS = _Shape("hop", (("caller", "text"), ("callee", "text"), ("operation", "text")), "gap", HopWindow)
#: What buckets and their counts are arrays of.
_HISTOGRAM = ("int4", "int8")
_KEY_FIELDS: dict[str, Callable[[Any], bytes]] = {"text": binary.text, "int2": binary.int2}


def store_windows(connection: psycopg.Connection, windows: Sequence[Window]) -> int:
    """Store windows in the order they came, within the caller's transaction; how many parts were new or changed."""
    changed = 0
    for shape in (_OPERATIONS, _HOPS):
        new = newest_parts(window for window in windows if isinstance(window, shape.window))
        if not new:
            continue
        old = _stored_parts(connection, shape, list(new))
        new = {k: w for k, w in new.items() if k not in old or (w != old[k] and supersedes(w, old[k]))}
        if not new:
            continue
        _copy_parts(connection, shape, {k: w for k, w in new.items() if k not in old})
        _replace_parts(connection, shape, {k: w for k, w in new.items() if k in old})
        for table, changes in differences(new, old).items():
            _add_to_rollup(connection, shape, f"{shape.prefix}_{table}", changes)
        changed += len(new)
    return changed


def _stored_parts(connection: psycopg.Connection, shape: _Shape, keys: Sequence[PartKey]) -> dict[PartKey, Window]:
    names = ["start_time", *(name for name, _ in shape.keys), "source_partition"]
    query = sql.SQL(
        "SELECT {columns} FROM {table} WHERE ({names}) IN (SELECT * FROM unnest({arrays}))"
        " AND start_time BETWEEN %s AND %s FOR UPDATE"
    ).format(
        columns=identifiers([*names, *shape.sums()]),
        table=sql.Identifier(f"{shape.prefix}_windows"),
        names=identifiers(names),
        arrays=array_places(["timestamptz", *(kind for _, kind in shape.keys), "int4"]),
    )
    times = [time_of(start_ns) for start_ns, _, _ in keys]
    columns = [*_series_columns(shape, [series for _, series, _ in keys]), [partition for _, _, partition in keys]]
    rows = connection.execute(query, (times, *columns, min(times), max(times)), binary=True)
    stored: dict[PartKey, Window] = {}
    for row in rows:
        start_ns, series, partition = ns_of(row[0]), tuple(row[1:4]), row[4]
        sums = _sums(row[5:])
        stored[start_ns, series, partition] = shape.window(
            start_ns,
            *series,  # type: ignore[call-arg]
            partition,
            sums.spans,
            sums.count_milli,
            sums.error_milli,
            sums.duration,
            sums.other,
            sums.slowest,
            sums.failed,
        )
    return stored


def _copy_parts(connection: psycopg.Connection, shape: _Shape, parts: Mapping[PartKey, Window]) -> None:
    """Insert parts that are not there; ``UniqueViolation`` if another sink was faster, and all is tried again."""
    rows = [_part_row(shape, key, window) for key, window in sorted(parts.items())]
    names = ["start_time", *(name for name, _ in shape.keys), "source_partition", *shape.sums()]
    copy_rows(connection, f"{shape.prefix}_windows", ", ".join(names), rows)


def _part_row(shape: _Shape, key: PartKey, window: Window) -> bytes:
    """A row of COPY. Raises ``psycopg.DataError`` for what PostgreSQL would not take, as it does itself."""
    start_ns, series, partition = key
    time_of(start_ns)  # the range of times
    try:
        fields = (
            binary.int8(start_ns // 1000 - binary.POSTGRES_EPOCH_US),
            *(_KEY_FIELDS[kind](part) for part, (_, kind) in zip(series, shape.keys, strict=True)),
            binary.int4(partition),
            binary.int8(window.spans),
            binary.int8(window.count_milli),
            binary.int8(window.error_milli),
            *_histogram(window.duration),
            *_histogram(other_buckets(window)),
            *(binary.NULL if trace_id is None else binary.binary(trace_id) for trace_id in _samples(window)),
        )
    except (PoisonRow, struct.error) as error:
        raise psycopg.DataError(str(error)) from None
    return len(fields).to_bytes(2) + b"".join(fields)


def _replace_parts(connection: psycopg.Connection, shape: _Shape, parts: Mapping[PartKey, Window]) -> None:
    keys = ["start_time", *(name for name, _ in shape.keys), "source_partition"]
    rows = []
    for (start_ns, series, partition), window in sorted(parts.items()):
        sums = WindowSums()
        sums.add(window)
        rows.append((*_values(sums), time_of(start_ns), *series, partition))
    _update(connection, f"{shape.prefix}_windows", shape.sums(), keys, rows)


def _add_to_rollup(
    connection: psycopg.Connection, shape: _Shape, table: str, changes: dict[tuple[int, SeriesKey], WindowSums]
) -> None:
    names = ["start_time", *(name for name, _ in shape.keys)]
    keys = sorted(changes)
    times = [time_of(start_ns) for start_ns, _ in keys]
    key_columns = [times, *_series_columns(shape, [series for _, series in keys])]
    kinds = ["timestamptz", *(kind for _, kind in shape.keys)]
    # The rows are made first, empty, and then locked: two sinks that add to one row wait for each other, and neither
    # overwrites what the other added.
    empty = sql.SQL("0, 0, 0, '{}', '{}', '{}', '{}', NULL::bytea, NULL::bytea")
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) SELECT *, {} FROM unnest({}) ON CONFLICT DO NOTHING").format(
            sql.Identifier(table), identifiers([*names, *shape.sums()]), empty, array_places(kinds)
        ),
        key_columns,
    )
    rows = connection.execute(
        sql.SQL(
            "SELECT {} FROM {} WHERE ({}) IN (SELECT * FROM unnest({})) AND start_time BETWEEN %s AND %s"
            " ORDER BY {} FOR UPDATE"
        ).format(
            identifiers([*names, *shape.sums()]),
            sql.Identifier(table),
            identifiers(names),
            array_places(kinds),
            identifiers(names),
        ),
        (*key_columns, min(times), max(times)),
        binary=True,
    ).fetchall()
    updates = []
    for row in rows:
        key = (ns_of(row[0]), tuple(row[1:4]))
        sums = _sums(row[4:])
        sums.merge(changes[key])
        updates.append((*_values(sums), row[0], *key[1]))
    _update(connection, table, shape.sums(), names, updates)


def _update(
    connection: psycopg.Connection,
    table: str,
    values: Sequence[str],
    keys: Sequence[str],
    rows: Sequence[Sequence[object]],
) -> None:
    """UPDATE of rows: first their values, then their keys."""
    statement = sql.SQL("UPDATE {} SET {} WHERE ({}) = ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in values),
        identifiers(keys),
        sql.SQL(", ").join(sql.Placeholder() * len(keys)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def _series_columns(shape: _Shape, series: Sequence[SeriesKey]) -> list[object]:
    """Keys as arrays, one a column."""
    return arrays_of([kind for _, kind in shape.keys], series)


def _sums(row: Sequence[object]) -> WindowSums:
    spans, count_milli, error_milli, buckets, counts, other_keys, other_counts, slowest, failed = row
    return WindowSums(
        spans,  # type: ignore[arg-type]
        count_milli,  # type: ignore[arg-type]
        error_milli,  # type: ignore[arg-type]
        dict(zip(buckets, counts, strict=True)),  # type: ignore[call-overload]
        dict(zip(other_keys, other_counts, strict=True)),  # type: ignore[call-overload]
        bytes(slowest).hex() if slowest else "",  # type: ignore[call-overload]
        bytes(failed).hex() if failed else "",  # type: ignore[call-overload]
    )


def _values(sums: WindowSums) -> tuple[object, ...]:
    return (
        sums.spans,
        sums.count_milli,
        sums.error_milli,
        *map(array_of, _HISTOGRAM, _ordered(sums.duration)),
        *map(array_of, _HISTOGRAM, _ordered(sums.other)),
        *_samples(sums),
    )


def _histogram(buckets: Mapping[int, int]) -> tuple[bytes, bytes]:
    """As fields of COPY."""
    ordered, counts = _ordered(buckets)
    return binary.int4_array(ordered), binary.int8_array(counts)


def _ordered(buckets: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Buckets in ascending order, and their counts."""
    ordered = sorted(buckets)
    return ordered, [buckets[bucket] for bucket in ordered]


def _samples(of: Window | WindowSums) -> tuple[bytes | None, bytes | None]:
    return _trace_id(of.slowest), _trace_id(of.failed)


def _trace_id(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) or None
    except ValueError:
        return None
