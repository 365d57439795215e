"""Days come and go: partitions are made ahead, and dropped when their time is over.

What counts is the later of a day and of when it was loaded: an old day that was loaded yesterday is kept as long as
yesterday is. Rows without a partition of their own go with the day that they belong to.
"""

import logging
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from psycopg import sql

from sink.errors import StoreAway
from sink.postgres import connect, first_line

logger = logging.getLogger(__name__)

#: One sink at a time; another's try is left out, since the first does the same.
_LOCK_KEY = 0x7472616365770002
#: Dropping a partition stops readers of its table: it waits this long for a moment without them, then till next time.
_LOCK_TIMEOUT_S = 5
_DELETED_AT_ONCE = 10_000

#: Rows that go with a day: the table, the column that tells the day, the daily table whose partition keeps it.
_ROWS_OF_DAYS = (
    ("traces", "start_time", "service_traces"),
    ("resources", "last_used", "service_traces"),
    ("scopes", "last_used", "service_traces"),
)
_SUMMARIES_OF_DAYS = (
    ("operation_hours", "start_time", "operation_minutes"),
    ("hop_hours", "start_time", "hop_minutes"),
    ("service_health", "start_time", "operation_minutes"),
    ("alerts", "starts_at", "operation_minutes"),
    ("error_groups", "last_seen", "error_group_minutes"),
)


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How many days each kind of thing is kept, and how many days are made ahead."""

    spans_days: int
    statistics_days: int
    summary_days: int
    ahead_days: int


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """What was done, or would be."""

    made: int
    dropped: tuple[tuple[str, date], ...]
    deleted: tuple[tuple[str, int], ...]


def keep_house(database_url: str, rule: RetentionRule, today: date, dry_run: bool = False) -> Housekeeping | None:
    """Make the days ahead, drop what is too old; None if another sink is at it. Raises ``StoreAway``."""
    try:
        with connect(database_url) as connection:
            (is_ours,) = connection.execute("SELECT pg_try_advisory_lock(%s)", (_LOCK_KEY,)).fetchone() or (False,)
            if not is_ours:
                return None
            connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(f"{_LOCK_TIMEOUT_S}s")))
            made = 0 if dry_run else _make_ahead(connection, today, rule.ahead_days)
            dropped = _drop_days(connection, "spans", today - timedelta(days=rule.spans_days), dry_run)
            dropped += _drop_days(connection, "statistics", today - timedelta(days=rule.statistics_days), dry_run)
            deleted = []
            for tables, days in ((_ROWS_OF_DAYS, rule.spans_days), (_SUMMARIES_OF_DAYS, rule.summary_days)):
                for table, column, kept_by in tables:
                    count = _delete(connection, table, column, kept_by, today - timedelta(days=days), dry_run)
                    if count:
                        deleted.append((table, count))
            return Housekeeping(made, tuple(dropped), tuple(deleted))
    except psycopg.Error as error:
        raise StoreAway(first_line(error)) from error


def _make_ahead(connection: psycopg.Connection, today: date, days: int) -> int:
    wanted = [today + timedelta(days=day) for day in range(days + 1)]
    (made,) = connection.execute("SELECT ensure_day_partitions(%s)", (wanted,)).fetchone() or (0,)
    return int(made)


def _drop_days(connection: psycopg.Connection, kept_as: str, oldest: date, dry_run: bool) -> list[tuple[str, date]]:
    expired = connection.execute(
        "SELECT p.table_name, p.day FROM day_partitions p JOIN day_tables t USING (table_name)"
        " WHERE t.kept_as = %s AND greatest(p.day, (p.created_at AT TIME ZONE 'UTC')::date) < %s"
        " ORDER BY p.day, p.table_name",
        (kept_as, oldest),
    ).fetchall()
    dropped = []
    for table, day in expired:
        if not dry_run:
            try:
                connection.execute("SELECT drop_day_partition(%s, %s)", (table, day))
            except psycopg.errors.LockNotAvailable:
                logger.warning("%s of %s is being read: it is dropped next time", table, day)
                continue
        dropped.append((table, day))
    return dropped


def _delete(connection: psycopg.Connection, table: str, column: str, kept_by: str, oldest: date, dry_run: bool) -> int:
    day = sql.SQL("({}::timestamptz AT TIME ZONE 'UTC')::date").format(sql.Identifier("t", column))
    expired = sql.SQL(
        "FROM {} t WHERE {} < %s AND NOT EXISTS (SELECT FROM day_partitions p WHERE p.table_name = %s AND p.day = {})"
    ).format(sql.Identifier(table), sql.Identifier("t", column), day)
    if dry_run:
        counted = connection.execute(sql.SQL("SELECT count(*) {}").format(expired), (oldest, kept_by)).fetchone()
        return int(counted[0]) if counted else 0
    total = 0
    # In pieces, so that no lock is held for long and no transaction is large.
    statement = sql.SQL("DELETE FROM {} WHERE ctid = ANY(ARRAY(SELECT t.ctid {} LIMIT %s))").format(
        sql.Identifier(table), expired
    )
    while True:
        count = connection.execute(statement, (oldest, kept_by, _DELETED_AT_ONCE)).rowcount
        total += count
        if count < _DELETED_AT_ONCE:
            return total
