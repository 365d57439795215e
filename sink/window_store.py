"""Windows in PostgreSQL: the ten-second parts as they came, and the minutes and hours that they add up to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from sink.postgres import array_places, identifiers, ns_of, time_of
from sink.rollups import ROLLUPS, SeriesKey, WindowSums, differences, newest_parts, supersedes
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
        _write_parts(connection, shape, new)
        for table, length_ns in ROLLUPS.items():
            _add_to_rollup(connection, shape, f"{shape.prefix}_{table}", differences(new, old, length_ns))
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
    columns = [times, *zip(*(series for _, series, _ in keys), strict=True), [partition for _, _, partition in keys]]
    rows = connection.execute(query, (*map(list, columns), min(times), max(times)))
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


def _write_parts(connection: psycopg.Connection, shape: _Shape, parts: Mapping[PartKey, Window]) -> None:
    keys = [("start_time", "timestamptz"), *shape.keys, ("source_partition", "int4")]
    rows = []
    for (start_ns, series, partition), window in sorted(parts.items()):
        sums = WindowSums()
        sums.add(window)
        rows.append((time_of(start_ns), *series, partition, *_values(sums)))
    statement = sql.SQL(
        "INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT ({keys}) DO UPDATE SET {replaced}"
    ).format(
        table=sql.Identifier(f"{shape.prefix}_windows"),
        names=identifiers([*(name for name, _ in keys), *shape.sums()]),
        places=_places(len(keys), shape),
        keys=identifiers([name for name, _ in keys]),
        replaced=sql.SQL(", ").join(sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(n)) for n in shape.sums()),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def _add_to_rollup(
    connection: psycopg.Connection, shape: _Shape, table: str, changes: dict[tuple[int, SeriesKey], WindowSums]
) -> None:
    names = ["start_time", *(name for name, _ in shape.keys)]
    keys = sorted(changes)
    times = [time_of(start_ns) for start_ns, _ in keys]
    key_columns = [times, *map(list, zip(*(series for _, series in keys), strict=True))]
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
    ).fetchall()
    updates = []
    for row in rows:
        key = (ns_of(row[0]), tuple(row[1:4]))
        sums = _sums(row[4:])
        sums.merge(changes[key])
        updates.append((*_values(sums), row[0], *key[1]))
    values = [sql.SQL("{} = {}").format(sql.Identifier(n), place) for n, place in _value_places(shape)]
    with connection.cursor() as cursor:
        cursor.executemany(
            sql.SQL("UPDATE {} SET {} WHERE ({}) = ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(values),
                identifiers(names),
                sql.SQL(", ").join(sql.Placeholder() * len(names)),
            ),
            updates,
        )


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
        *_histogram(sums.duration),
        *_histogram(sums.other),
        _trace_id(sums.slowest),
        _trace_id(sums.failed),
    )


def _histogram(buckets: Mapping[int, int]) -> tuple[list[int], list[int]]:
    ordered = sorted(buckets.items())
    return [bucket for bucket, _ in ordered], [count for _, count in ordered]


def _trace_id(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text) or None
    except ValueError:
        return None


def _value_places(shape: _Shape) -> Iterable[tuple[str, sql.Composable]]:
    for name in shape.sums():
        kind = "int4" if name.endswith("_buckets") else "int8" if name.endswith("_counts") else ""
        yield name, array_places([kind]) if kind else sql.Placeholder()


def _places(keys: int, shape: _Shape) -> sql.Composed:
    return sql.SQL(", ").join(
        [*(sql.Placeholder() for _ in range(keys)), *(place for _, place in _value_places(shape))]
    )
