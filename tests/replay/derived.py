"""What the stream derives from spans, as the database holds it: which tables, and checksums of them."""

import psycopg
from psycopg import sql

from tests.sink.harness import CONTENT_TABLES

#: Columns that tell by which road and when a row came, not what it says; and, where all traces of a window are equally
#: slow, which of them was first.
ROAD = {
    "traces": ("stored_at", "digest", "replay_id", "revision"),
    **dict.fromkeys(
        [f"{kind}_{length}" for kind in ("operation", "hop") for length in ("windows", "minutes", "hours")],
        ("slowest_trace_id",),
    ),
}
#: Alerts and health are not among it: those of a replay carry its id.
DERIVED_TABLES = tuple(table for table in CONTENT_TABLES if table not in ("alerts", "service_health"))

Checksum = tuple[int, int]


def checksums(database: str) -> dict[str, Checksum]:
    """By table, its rows and the sum of their hashes: equal for equal rows in any order."""
    found: dict[str, Checksum] = {}
    with psycopg.connect(database) as connection:
        for table in (*DERIVED_TABLES, "trace_spans"):
            columns = [
                column.name
                for column in connection.execute(
                    sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table))
                ).description
                or ()
                if column.name not in ROAD.get(table, ())
            ]
            statement = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)), 0) FROM {}").format(
                sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table)
            )
            row = connection.execute(statement).fetchone()
            assert row is not None
            found[table] = (int(row[0]), int(row[1]))
    return found
