"""What has to be there before rows are: the partitions of their days, their resources and scopes.

Written outside the batch's transaction, since repeating it does no harm, and so that sinks do not wait for each other.
"""

from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import psycopg

from sink.packed import SharedUse
from sink.rows import TraceRows, resource_row, scope_row
from tracecore.span import Resource, Scope

_EPOCH_DAY = date(1970, 1, 1)
#: Days that PostgreSQL's dates and our partitions' names reach: to the year 9999.
_LAST_DAY = 2_932_896
_REMEMBERED = 200_000


class Prerequisites:
    """Remembers what is there, so that a batch of known days and resources costs nothing."""

    def __init__(self) -> None:
        self._days: set[int] = set()
        self._used: dict[int, date] = {}

    def forget(self) -> None:
        """Ask PostgreSQL anew: retention may have dropped something, or it is another database."""
        self._days.clear()
        self._used.clear()

    def ensure_days(self, connection: psycopg.Connection, days: Iterable[int]) -> None:
        """Make the partitions of days since 1970 (UTC)."""
        missing = {day for day in days if day not in self._days and 0 <= day <= _LAST_DAY}
        if not missing:
            return
        dates = [_EPOCH_DAY + timedelta(days=day) for day in sorted(missing)]
        connection.execute("SELECT ensure_day_partitions(%s)", (dates,))
        self._days |= missing

    def ensure(self, connection: psycopg.Connection, rows: TraceRows) -> None:
        """Make what the rows of a trace need."""
        if not rows.spans:
            return
        self.ensure_days(connection, rows.days)
        day = max(rows.days)
        ids = (*rows.resource_ids, *rows.scope_ids)
        shared: tuple[Resource | Scope, ...] = (*rows.trace.resources, *rows.trace.scopes)
        self.ensure_shared(connection, [SharedUse(*use, day) for use in zip(ids, shared, strict=True)])

    def ensure_shared(self, connection: psycopg.Connection, uses: Sequence[SharedUse]) -> None:
        """Make resources and scopes."""
        # In the order of the ids: two sinks that write the same ones wait for each other, and never both.
        missing = sorted(
            (
                (shared_id, _date_of(day), shared)
                for shared_id, shared, day in uses
                if self._used.get(shared_id, date.min) < _date_of(day)
            ),
            key=lambda use: use[0],
        )
        if not missing:
            return
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO resources (resource_id, service, attributes, schema_url, raw, last_used)"
                " VALUES (%s, %s, %s::text::jsonb, %s, %s, %s) ON CONFLICT (resource_id) DO UPDATE"
                " SET last_used = EXCLUDED.last_used WHERE resources.last_used < EXCLUDED.last_used",
                [(*resource_row(i, shared), used) for i, used, shared in missing if isinstance(shared, Resource)],
            )
            cursor.executemany(
                "INSERT INTO scopes (scope_id, name, version, attributes, schema_url, raw, last_used)"
                " VALUES (%s, %s, %s, %s::text::jsonb, %s, %s, %s) ON CONFLICT (scope_id) DO UPDATE"
                " SET last_used = EXCLUDED.last_used WHERE scopes.last_used < EXCLUDED.last_used",
                [(*scope_row(i, shared), used) for i, used, shared in missing if isinstance(shared, Scope)],
            )
        if len(self._used) > _REMEMBERED:
            self._used.clear()
        self._used.update((shared_id, used) for shared_id, used, _ in missing)


def _date_of(day: int) -> date:
    return _EPOCH_DAY + timedelta(days=min(day, _LAST_DAY))
