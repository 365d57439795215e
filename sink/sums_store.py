"""Sums over traces in PostgreSQL: the graph of services, and the groups of errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from sink.contributions import EdgeSums, ErrorSums, Sums, changed
from sink.postgres import adding_upsert, array_places, arrays_of, identifiers

_EDGE_KEYS = {"start_time": "timestamptz", "caller": "text", "callee": "text", "callee_type": "text"}
_ERROR_KEYS = {"group_id": "text", "start_time": "timestamptz"}
_EDGE_KINDS = [*_EDGE_KEYS.values(), *("int8" for _ in EdgeSums._fields)]
_ERROR_KINDS = [*_ERROR_KEYS.values(), *("int8" for _ in ErrorSums._fields)]
_GROUP_KINDS = ("text", "text", "text", "text", "timestamptz", "timestamptz", "text", "bytea")
_ADD_EDGES = adding_upsert("service_dependencies", _EDGE_KEYS, EdgeSums._fields)
_ADD_ERRORS = adding_upsert("error_group_minutes", _ERROR_KEYS, ErrorSums._fields)


def store_sums(connection: psycopg.Connection, sums: Sums) -> None:
    """Add sums, within the caller's transaction; call it last, since other sinks wait for these rows until its end."""
    edges = [(*key, *values) for key, values in changed(sums.edges)]
    errors = [(*key, *values) for key, values in changed(sums.errors)]
    groups = sorted(sums.groups.values())
    if edges:
        connection.execute(_ADD_EDGES, arrays_of(_EDGE_KINDS, edges))
        _delete_zeros(connection, "service_dependencies", _EDGE_KEYS, "calls", edges)
    if groups:
        connection.execute(
            "INSERT INTO error_groups AS g (group_id, service, operation, error_type, first_seen, last_seen,"
            " message, last_trace_id) SELECT * FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[],"
            " %b::timestamptz[], %b::timestamptz[], %b::text[], %b::bytea[]) ON CONFLICT (group_id) DO UPDATE SET"
            " first_seen = least(g.first_seen, EXCLUDED.first_seen),"
            " last_seen = greatest(g.last_seen, EXCLUDED.last_seen),"
            " (message, last_trace_id) ="
            " (SELECT newest.message, newest.last_trace_id FROM (VALUES"
            " (EXCLUDED.last_seen, EXCLUDED.last_trace_id, EXCLUDED.message), (g.last_seen, g.last_trace_id, g.message)"
            " ) AS newest (last_seen, last_trace_id, message) ORDER BY last_seen DESC, last_trace_id DESC LIMIT 1)",
            arrays_of(_GROUP_KINDS, groups),
        )
    if errors:
        connection.execute(_ADD_ERRORS, arrays_of(_ERROR_KINDS, errors))
        _delete_zeros(connection, "error_group_minutes", _ERROR_KEYS, "errors", errors)


def _delete_zeros(
    connection: psycopg.Connection, table: str, keys: Mapping[str, str], count: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Delete rows that something was taken from, and that count nothing any more."""
    lessened = [row[: len(keys)] for row in rows if row[len(keys)] < 0]
    if not lessened:
        return
    statement = sql.SQL("DELETE FROM {} WHERE ({}) IN (SELECT * FROM unnest({})) AND {} = 0").format(
        sql.Identifier(table), identifiers(keys), array_places(keys.values()), sql.Identifier(count)
    )
    connection.execute(statement, arrays_of(keys.values(), lessened))
