"""What has to be there before rows are: the partitions of their days, their resources and scopes.

Written outside the batch's transaction, since repeating it does no harm, and so that sinks do not wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import TypeVar

import psycopg

from sink.rows import TraceRows, resource_row, scope_row
from tracecore.span import Resource, Scope

SharedT = TypeVar("SharedT", Resource, Scope)

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
        used = _EPOCH_DAY + timedelta(days=min(max(rows.days), _LAST_DAY))
        resources = self._unknown(rows.resource_ids, rows.trace.resources, used)
        scopes = self._unknown(rows.scope_ids, rows.trace.scopes, used)
        if not resources and not scopes:
            return
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO resources (resource_id, service, attributes, schema_url, raw, last_used)"
                " VALUES (%s, %s, %s::text::jsonb, %s, %s, %s) ON CONFLICT (resource_id) DO UPDATE"
                " SET last_used = EXCLUDED.last_used WHERE resources.last_used < EXCLUDED.last_used",
                [(*resource_row(resource_id, resource), used) for resource_id, resource in resources.items()],
            )
            cursor.executemany(
                "INSERT INTO scopes (scope_id, name, version, attributes, schema_url, raw, last_used)"
                " VALUES (%s, %s, %s, %s::text::jsonb, %s, %s, %s) ON CONFLICT (scope_id) DO UPDATE"
                " SET last_used = EXCLUDED.last_used WHERE scopes.last_used < EXCLUDED.last_used",
                [(*scope_row(scope_id, scope), used) for scope_id, scope in scopes.items()],
            )
        if len(self._used) > _REMEMBERED:
            self._used.clear()
        self._used.update(dict.fromkeys((*resources, *scopes), used))

    def _unknown(self, ids: Sequence[int], shared: Sequence[SharedT], used: date) -> Mapping[int, SharedT]:
        # In the order of the ids: two sinks that write the same ones wait for each other, and never both.
        pairs = sorted(zip(ids, shared, strict=True), key=lambda pair: pair[0])
        return {shared_id: value for shared_id, value in pairs if self._used.get(shared_id, date.min) < used}
