"""What is known of replays, in Postgres: their progress, and what the history held before them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

import psycopg
from psycopg.rows import class_row

from replay.errors import NoSuchReplay, ReplayError

#: The stored analysis of a trace, hashed; without what tells by which road it came.
_HASH = """
    decode(md5(jsonb_build_array(span_count, error_count, start_ns, duration_ns, missing_parents, missing_root,
        root_service, root_operation, services, critical_path, links, warnings)::text), 'hex')
"""
_COLUMNS = """replay_id, name, source, from_time, until_time, service, speed, state, position, produced, total_records,
    records, spans, unreadable, traces_new, traces_amended, traces_unchanged, alerts, failure, cancel_requested,
    started_at, updated_at"""


@dataclass(frozen=True, slots=True)
class ReplayRow:
    """A row of ``replays``; its columns are explained there."""

    replay_id: str
    name: str
    source: str
    from_time: datetime | None
    until_time: datetime | None
    service: str
    speed: float
    state: str
    position: int
    produced: dict[str, int]
    total_records: int | None
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
        service: str,
        speed: float,
    ) -> None:
        """Note a new replay. Raises ``ReplayError`` if one of this name is there already."""
        async with self._connection.cursor() as cursor:
            await cursor.execute("SELECT replay_id FROM replays WHERE name = %s", (name,))
            if await cursor.fetchone():
                raise ReplayError(f"there is a replay named {name!r} already: resume it, or choose another --name")
            await cursor.execute(
                "INSERT INTO replays (replay_id, name, source, from_time, until_time, service, speed, state)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, 'running')",
                (replay_id, name, source, from_time, until_time, service, speed),
            )

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

    async def compared(self, replay_id: str) -> tuple[int, int, int]:
        """Traces new, amended and unchanged since they were noted; what was noted is then forgotten."""
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute(
                f"WITH compared AS (SELECT n.before, {_HASH} AS after"
                " FROM replay_traces n JOIN traces t USING (trace_id) WHERE n.replay_id = %s)"
                " SELECT count(*) FILTER (WHERE before IS NULL),"
                " count(*) FILTER (WHERE before <> after), count(*) FILTER (WHERE before = after) FROM compared",
                (replay_id,),
            )
            row = await cursor.fetchone()
            assert row is not None
            await cursor.execute("DELETE FROM replay_traces WHERE replay_id = %s", (replay_id,))
            return row[0], row[1], row[2]

    async def alerts(self, replay_id: str) -> int:
        """Alert episodes that carry this replay id."""
        async with self._connection.cursor() as cursor:
            await cursor.execute("SELECT count(*) FROM alerts WHERE replay_id = %s", (replay_id,))
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

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
