"""History itself as a source: rows of Postgres back to the spans that they were made of."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any

import psycopg

from replay.errors import SourceUnreadable
from replay.records import SourceRecord
from replay.stretch import Stretch
from tracecore.otlp import encode_spans, resource_of
from tracecore.span import Scope, Span

_TRACES = """
    SELECT trace_id, first_arrival_ns, last_arrival_ns, spans_from, spans_until FROM traces
    WHERE first_arrival_ns >= %(from_ns)s AND first_arrival_ns < %(until_ns)s
    ORDER BY first_arrival_ns, trace_id
"""
_SPANS = """
    SELECT s.trace_id, s.raw, r.raw, r.schema_url, c.raw, c.schema_url
    FROM service_traces s JOIN resources r USING (resource_id) JOIN scopes c USING (scope_id)
    WHERE s.trace_id = ANY(%(trace_ids)s) AND s.start_time BETWEEN %(from_time)s AND %(until_time)s
    ORDER BY s.trace_id, s.start_ns + s.duration_ns, s.span_id
"""
_TRACES_A_QUERY = 500


class History:
    """Stored traces, by the arrival of their first span. What tail sampling did not keep is not there.

    Only the arrival of the first and the last span of a trace is known: what ended first arrives first, all else last.
    """

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
        """A record or two a trace."""
        position = 0
        # What arrives later than the traces that were read so far begin: (arrival, tie-breaker, spans).
        later: list[tuple[int, int, list[Span]]] = []
        try:
            async with (
                await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as connection,
                # Held: a slow replay must not keep a transaction open for hours.
                connection.cursor(name="replayed_traces", withhold=True) as traces,
            ):
                await traces.execute(_TRACES, self._range)
                while rows := await traces.fetchmany(_TRACES_A_QUERY):
                    spans = await _spans_of(connection, rows)
                    for trace_id, first_ns, last_ns, *_ in rows:
                        while later and later[0][0] <= first_ns:
                            arrival_ns, _, rest = heappop(later)
                            yield SourceRecord(position, arrival_ns, encode_spans(rest))
                            position += 1
                        of_trace = spans.get(trace_id, [])
                        at_once = of_trace if first_ns == last_ns else of_trace[:1]
                        if rest := of_trace[len(at_once) :]:
                            heappush(later, (last_ns, position, rest))
                        yield SourceRecord(position, first_ns, encode_spans(at_once))
                        position += 1
                while later:
                    arrival_ns, _, rest = heappop(later)
                    yield SourceRecord(position, arrival_ns, encode_spans(rest))
                    position += 1
        except psycopg.Error as error:
            raise SourceUnreadable(f"history: {error}") from None


async def _spans_of(
    connection: psycopg.AsyncConnection[Any], traces: list[tuple[bytes, int, int, datetime, datetime]]
) -> dict[bytes, list[Span]]:
    bounds = {
        "trace_ids": [trace_id for trace_id, *_ in traces],
        "from_time": min(spans_from for *_, spans_from, _ in traces),
        # To the microsecond, rounded down: what lies in that microsecond belongs to it.
        "until_time": max(spans_until for *_, spans_until in traces) + timedelta(microseconds=1),
    }
    found: dict[bytes, list[Span]] = {}
    async with connection.cursor(binary=True) as cursor:
        await cursor.execute(_SPANS, bounds)
        async for trace_id, raw, resource, resource_schema, scope, scope_schema in cursor:
            who, library = resource_of(resource, resource_schema or ""), Scope(scope, scope_schema or "")
            # Only these three are encoded; the other fields are read back from the bytes.
            found.setdefault(trace_id, []).append(Span(b"", b"", b"", "", 0, 0, 0, 0, 0, who, library, raw))
    return found
