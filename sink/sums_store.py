"""Sums over traces in PostgreSQL: the graph of services, and the groups of errors."""

import psycopg

from sink.contributions import EdgeSums, ErrorSums, Sums, changed
from sink.postgres import adding_upsert, time_of, transposed

_EDGE_KEYS = {"start_time": "timestamptz", "caller": "text", "callee": "text", "callee_type": "text"}
_ERROR_KEYS = {"group_id": "text", "start_time": "timestamptz"}


def store_sums(connection: psycopg.Connection, sums: Sums) -> None:
    """Add sums, within the caller's transaction; call it last, since other sinks wait for these rows until its end."""
    edges = [(time_of(key.start_ns), *key[1:], *values) for key, values in changed(sums.edges)]
    errors = [(key.group_id, time_of(key.start_ns), *values) for key, values in changed(sums.errors)]
    groups = [
        (*group[:4], time_of(group.first_seen_ns), time_of(group.last_seen_ns), group.message, group.last_trace_id)
        for group in sorted(sums.groups.values())
    ]
    if edges:
        statement = adding_upsert("service_dependencies", _EDGE_KEYS, EdgeSums._fields)
        connection.execute(statement, transposed(edges))
    if groups:
        connection.execute(
            "INSERT INTO error_groups AS g (group_id, service, operation, error_type, first_seen, last_seen,"
            " message, last_trace_id) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::timestamptz[], %s::timestamptz[], %s::text[], %s::bytea[]) ON CONFLICT (group_id) DO UPDATE SET"
            " first_seen = least(g.first_seen, EXCLUDED.first_seen),"
            " last_seen = greatest(g.last_seen, EXCLUDED.last_seen),"
            " (message, last_trace_id) ="
            " (SELECT newest.message, newest.last_trace_id FROM (VALUES"
            " (EXCLUDED.last_seen, EXCLUDED.last_trace_id, EXCLUDED.message), (g.last_seen, g.last_trace_id, g.message)"
            " ) AS newest (last_seen, last_trace_id, message) ORDER BY last_seen DESC, last_trace_id DESC LIMIT 1)",
            transposed(groups),
        )
    if errors:
        connection.execute(adding_upsert("error_group_minutes", _ERROR_KEYS, ErrorSums._fields), transposed(errors))
