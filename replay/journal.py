"""What is known of replays, in Postgres: their progress, and what the history held before them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg.rows import class_row

from replay.errors import NoSuchReplay, ReplayError
from replay.report import Outcome

#: The stored analysis of a trace and of each of its spans, hashed; without what tells by which road it came.
_HASH = """
    decode(md5(jsonb_build_array(t.span_count, t.error_count, t.start_ns, t.duration_ns, t.missing_parents,
        t.missing_root, t.root_service, t.root_operation, t.root_span_id, t.error_origin, t.services, t.critical_path,
        t.links, t.warnings)::text
        || (SELECT string_agg(md5(jsonb_build_array(s.span_id, s.tree_parent_id, s.depth, s.duration_ns,
                s.self_time_ns, s.critical_path_ns, s.skew_ns, s.gap_ns, s.warnings)::text), '' ORDER BY s.span_id)
            FROM service_traces s
            WHERE s.trace_id = t.trace_id AND s.start_time BETWEEN t.spans_from AND t.spans_until)), 'hex')
"""

#: A replay that runs holds a lock that PostgreSQL lets go with its connection, however the replay ended.
_LOCK_SPACE = 0x7265_706C  # "repl"
_IS_HELD = f"""
    EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND l.classid::bigint = {_LOCK_SPACE} AND l.objid::bigint = hashtext(replay_id)::bigint & 4294967295)
"""
_COLUMNS = f"""replay_id, name, source, from_time, until_time, request, position, produced, records, spans, unreadable,
    traces_new, traces_amended, traces_unchanged, alerts, failure, cancel_requested, started_at, updated_at,
    CASE WHEN state IN ('running', 'draining') AND NOT {_IS_HELD} THEN 'interrupted' ELSE state END AS state"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A row of ``replays``; its columns are explained there. One that was killed shows as interrupted."""

    replay_id: str
    name: str
    source: str
    from_time: datetime | None
    until_time: datetime | None
    request: list[str]
    state: str
    position: int
    produced: dict[str, int]
    records: int
    spans: int
    unreadable: int
    traces_new: int | None
    traces_amended: int | None
    traces_unchanged: int | None
    alerts: int | None
    failure: str
    cancel_requested: bool
    started_at: datetime
    updated_at: datetime


class Journal:
    """The table of replays. Use as an async context manager; raises ``ReplayError`` if Postgres is not there."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    async def __aenter__(self) -> Self:
        try:
            self._connection = await psycopg.AsyncConnection.connect(self._database_url, autocommit=True)
        except psycopg.Error as error:
            raise ReplayError(f"no connection to TRACEWATCH_DATABASE_URL: {error}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def begin(
        self,
        replay_id: str,
        *,
        name: str,
        source: str,
        from_time: datetime | None,
        until_time: datetime | None,
        request: Sequence[str],
    ) -> None:
        """Note a new replay, and hold it. Raises ``ReplayError`` if one of this name is there already."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                "INSERT INTO replays (replay_id, name, source, from_time, until_time, request, state)"
                " SELECT %(replay_id)s, %(name)s, %(source)s, %(from_time)s, %(until_time)s, %(request)s, 'running'"
                " WHERE NOT EXISTS (SELECT FROM replays WHERE %(name)s IN (name, replay_id))",
                {
                    "replay_id": replay_id, "name": name, "source": source, "from_time": from_time,
                    "until_time": until_time, "request": list(request),
                },
            )  # fmt: skip
            if not cursor.rowcount:
                raise ReplayError(f"there is a replay named {name!r} already: resume it, or choose another --name")
        await self.hold(replay_id)

    async def hold(self, replay_id: str) -> None:
        """Take this replay for oneself, as long as the journal is open. Raises ``ReplayError`` if it runs elsewhere."""
        async with self._connection.cursor() as cursor:
            await cursor.execute("SELECT pg_try_advisory_lock(%s, hashtext(%s))", (_LOCK_SPACE, replay_id))
            row = await cursor.fetchone()
        if row is None or not row[0]:
            raise ReplayError("this replay runs already: see python -m replay status")

    async def others_unfinished(self, replay_id: str) -> bool:
        """True if another replay runs, or may be resumed."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                "SELECT FROM replays WHERE replay_id <> %s AND state NOT IN ('done', 'cancelled') LIMIT 1", (replay_id,)
            )
            return await cursor.fetchone() is not None

    async def cancel_requested(self, replay_id: str) -> bool:
        """True if somebody asked it to stop; also notes that it lives."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                "UPDATE replays SET updated_at = clock_timestamp() WHERE replay_id = %s RETURNING cancel_requested",
                (replay_id,),
            )
            row = await cursor.fetchone()
            return bool(row and row[0])

    async def checkpoint(
        self, replay_id: str, *, position: int, produced: Mapping[int, int], records: int, spans: int, unreadable: int
    ) -> bool:
        """Note how far it came; True if somebody asked it to stop."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                "UPDATE replays SET position = %s, produced = %s, records = %s, spans = %s, unreadable = %s,"
                " updated_at = clock_timestamp() WHERE replay_id = %s RETURNING cancel_requested",
                (position, json.dumps(produced), records, spans, unreadable, replay_id),
            )
            row = await cursor.fetchone()
            return bool(row and row[0])

    async def set(self, replay_id: str, **columns: Any) -> None:
        """Set columns of a replay; their names are this module's callers', never a person's."""
        assignments = ", ".join(f"{column} = %({column})s" for column in columns)
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                f"UPDATE replays SET {assignments}, updated_at = clock_timestamp() WHERE replay_id = %(replay_id)s",
                {**columns, "replay_id": replay_id},
            )

    async def note_traces(self, replay_id: str, trace_ids: Collection[bytes]) -> None:
        """Remember how the history holds these traces now, unless that was noted before."""
        async with self._connection.cursor() as cursor:
            await cursor.execute(
                "INSERT INTO replay_traces (replay_id, trace_id, before)"
                f" SELECT %s, wanted.trace_id, CASE WHEN t.trace_id IS NULL THEN NULL ELSE {_HASH} END"
                " FROM unnest(%s::bytea[]) AS wanted (trace_id) LEFT JOIN traces t USING (trace_id)"
                " ON CONFLICT DO NOTHING",
                (replay_id, list(trace_ids)),
            )

    async def finish(self, replay_id: str) -> Outcome:
        """Compare the history with what was noted of it, and note the replay as done; what was noted is forgotten.

        All at once: after a crash in between, a resumed replay would have nothing to compare with.
        """
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute(
                f"WITH compared AS (SELECT n.before, CASE WHEN n.before IS NOT NULL THEN {_HASH} END AS after"
                " FROM replay_traces n JOIN traces t USING (trace_id) WHERE n.replay_id = %s)"
                " SELECT count(*) FILTER (WHERE before IS NULL),"
                " count(*) FILTER (WHERE before <> after), count(*) FILTER (WHERE before = after) FROM compared",
                (replay_id,),
            )
            row = await cursor.fetchone()
            assert row is not None
            await cursor.execute("DELETE FROM replay_traces WHERE replay_id = %s", (replay_id,))
            await cursor.execute(
                "UPDATE replays SET state = 'done', failure = '', traces_new = %s, traces_amended = %s,"
                " traces_unchanged = %s, alerts = (SELECT count(*) FROM alerts WHERE replay_id = %s),"
                " updated_at = clock_timestamp() WHERE replay_id = %s RETURNING alerts",
                (*row, replay_id, replay_id),
            )
            alerts = await cursor.fetchone()
            assert alerts is not None
            return Outcome(*row, *alerts)

    async def stored_offsets(self, topic: str) -> dict[int, int]:
        """Per partition, the next offset that the sink will store."""
        async with self._connection.cursor() as cursor:
            await cursor.execute("SELECT partition, next_offset FROM sink_offsets WHERE topic = %s", (topic,))
            return {partition: next_offset for partition, next_offset in await cursor.fetchall()}

    async def found(self, name: str) -> ReplayRow:
        """The replay of this name or id. Raises ``NoSuchReplay``."""
        rows = await self._rows("WHERE name = %(name)s OR replay_id = %(name)s", {"name": name})
        if not rows:
            raise NoSuchReplay(f"there is no replay named {name!r}: see python -m replay list")
        return rows[0]

    async def all(self) -> list[ReplayRow]:
        """Every replay, newest first."""
        return await self._rows("ORDER BY started_at DESC", {})

    async def _rows(self, condition: str, parameters: dict[str, Any]) -> list[ReplayRow]:
        async with self._connection.cursor(row_factory=class_row(ReplayRow)) as cursor:
            await cursor.execute(f"SELECT {_COLUMNS} FROM replays {condition}", parameters)
            return await cursor.fetchall()
