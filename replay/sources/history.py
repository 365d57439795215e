"""History itself as a source: rows of Postgres back to the spans that they were made of."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta

import psycopg

from replay.errors import SourceUnreadable
from replay.records import SourceRecord
from replay.stretch import Stretch
from tracecore.otlp import encode_spans, resource_of
from tracecore.span import Scope, Span

_TRACES = """
    SELECT trace_id, first_arrival_ns, spans_from, spans_until FROM traces
    WHERE first_arrival_ns >= %(from_ns)s AND first_arrival_ns < %(until_ns)s
    ORDER BY first_arrival_ns, trace_id
"""
_SPANS = """
    SELECT s.trace_id, s.raw, r.raw, r.schema_url, c.raw, c.schema_url
    FROM service_traces s JOIN resources r USING (resource_id) JOIN scopes c USING (scope_id)
    WHERE s.trace_id = ANY(%(trace_ids)s) AND s.start_time BETWEEN %(from_time)s AND %(until_time)s
    ORDER BY s.trace_id, s.start_ns, s.span_id
"""
_TRACES_A_QUERY = 500


class History:
    """Stored traces, by the arrival of their first span. Tail sampling has left out of it what it did not keep."""

    def __init__(self, database_url: str, stretch: Stretch) -> None:
        self._database_url = database_url
        self._range = {
            "from_ns": stretch.from_ns or 0,
            "until_ns": stretch.until_ns if stretch.until_ns is not None else 2**63 - 1,
        }
        self.total_records: int | None = None

    @property
    def name(self) -> str:
        """``history``."""
        return "history"

    async def records(self) -> AsyncIterator[SourceRecord]:
        """A record a trace."""
        position = 0
        try:
            async with (
                await psycopg.AsyncConnection.connect(self._database_url) as connection,
                connection.cursor(name="replayed_traces") as traces,
            ):
                await traces.execute(_TRACES, self._range)
                while rows := await traces.fetchmany(_TRACES_A_QUERY):
                    spans = await _spans_of(connection, rows)
                    for trace_id, first_arrival_ns, *_ in rows:
                        yield SourceRecord(position, first_arrival_ns, encode_spans(spans.get(trace_id, ())))
                        position += 1
        except psycopg.Error as error:
            raise SourceUnreadable(f"history: {error}") from None


async def _spans_of(
    connection: psycopg.AsyncConnection[tuple[object, ...]], traces: Iterable[tuple[object, ...]]
) -> dict[object, list[Span]]:
    rows = list(traces)
    bounds = {
        "trace_ids": [row[0] for row in rows],
        "from_time": min((row[2] for row in rows), default=datetime.now(UTC)),  # type: ignore[type-var]
        # To the microsecond, rounded down: what lies in that microsecond belongs to it.
        "until_time": max(row[3] for row in rows) + timedelta(microseconds=1),  # type: ignore[type-var, operator]
    }
    found: dict[object, list[Span]] = {}
    async with connection.cursor() as cursor:
        await cursor.execute(_SPANS, bounds)
        async for trace_id, raw, resource, resource_schema, scope, scope_schema in cursor:
            span = _packed(raw, resource, resource_schema, scope, scope_schema)
            found.setdefault(trace_id, []).append(span)
    return found


def _packed(raw: object, resource: object, resource_schema: object, scope: object, scope_schema: object) -> Span:
    # Only these three are encoded; the other fields are read back from the bytes.
    assert isinstance(raw, bytes) and isinstance(resource, bytes) and isinstance(scope, bytes)
    who = resource_of(resource, str(resource_schema or ""))
    return Span(b"", b"", b"", "", 0, 0, 0, 0, 0, who, Scope(scope, str(scope_schema or "")), raw)
