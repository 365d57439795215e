"""PostgreSQL: a pool of connections that only read, each statement with a time limit.

It blocks, and is called from threads: rows of a large trace are made while the event loop goes on pushing alerts.
"""

import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import Connection
from psycopg.rows import RowFactory, class_row, dict_row
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from live_api.errors import NotFound, TooExpensive, Unavailable
from live_api.stored import (
    SPAN_COLUMNS,
    TRACE_COLUMNS,
    StoredResource,
    StoredScope,
    StoredSpan,
    StoredTrace,
    in_tree_order,
)
from live_api.trace_query import SpanQuery, Statement, TraceQuery, spans_statement, traces_statement

logger = logging.getLogger(__name__)

RowT = TypeVar("RowT")

_CONNECTIONS = 8
_WAITING = 64
_WAIT_S = 5.0
_CHUNK = 500


class Database:
    """The history. Every method raises ``Unavailable`` or ``TooExpensive`` where PostgreSQL does not answer in time."""

    def __init__(self, url: str, query_timeout_s: float, max_spans: int) -> None:
        """``max_spans``: of all traces of one answer together, except that one trace always comes whole."""
        #: What was seen of PostgreSQL when it was last asked.
        self.state = "not asked yet"
        self._max_spans = max_spans
        self._timeout_ms = round(query_timeout_s * 1000)
        self._pool: ConnectionPool[Connection[Any]] = ConnectionPool(
            url,
            min_size=0,
            max_size=_CONNECTIONS,
            max_waiting=_WAITING,
            timeout=_WAIT_S,
            configure=self._configure,
            check=ConnectionPool.check_connection,
            open=False,
        )

    def open(self) -> None:
        """Open the pool; PostgreSQL need not be there yet."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close the pool."""
        self._pool.close()

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a statement as dictionaries."""
        return self._all(sql, parameters or {}, dict_row)

    def trace_ids_by_span(self, query: SpanQuery) -> list[bytes]:
        """Ids of traces with a matching span, those with the newest first."""
        found: dict[bytes, None] = {}
        with closing(self._stream(spans_statement(query))) as rows:
            for (trace_id,) in rows:
                found[trace_id] = None
                if len(found) >= query.limit:
                    break
        return list(found)

    def trace_ids(self, query: TraceQuery) -> list[bytes]:
        """Ids of matching traces, newest first; one more than the limit where there is more."""
        sql, parameters = traces_statement(query)
        return [row["trace_id"] for row in self.rows(sql, parameters)]

    def heads(self, trace_ids: list[bytes]) -> list[dict[str, Any]]:
        """The rows of traces, in the order of ``trace_ids``; what is not there is left out."""
        rows = self.rows(f"SELECT {TRACE_COLUMNS} FROM traces WHERE trace_id = ANY(%(ids)s)", {"ids": trace_ids})
        by_id = {row["trace_id"]: row for row in rows}
        return [by_id[trace_id] for trace_id in trace_ids if trace_id in by_id]

    def traces(self, trace_ids: list[bytes]) -> list[StoredTrace]:
        """Traces with all their spans, in the order of ``trace_ids``; as many as ``max_spans`` allows."""
        chosen: list[dict[str, Any]] = []
        budget = self._max_spans
        for head in self.heads(trace_ids):
            budget -= head["span_count"]
            if chosen and budget < 0:
                logger.info("an answer is cut at %d of %d traces: too many spans", len(chosen), len(trace_ids))
                break
            chosen.append(head)
        if not chosen:
            return []
        spans = self._all(
            f"SELECT {SPAN_COLUMNS} FROM service_traces WHERE trace_id = ANY(%(ids)s)"
            " AND start_time BETWEEN %(from)s AND %(until)s",
            {
                "ids": [head["trace_id"] for head in chosen],
                "from": min(head["spans_from"] for head in chosen),
                "until": max(head["spans_until"] for head in chosen),
            },
            class_row(StoredSpan),
        )
        resources = self._all(
            "SELECT resource_id, raw, schema_url FROM resources WHERE resource_id = ANY(%(ids)s)",
            {"ids": list({span.resource_id for span in spans})},
            class_row(StoredResource),
        )
        scopes = self._all(
            "SELECT scope_id, name, version, raw, schema_url FROM scopes WHERE scope_id = ANY(%(ids)s)",
            {"ids": list({span.scope_id for span in spans})},
            class_row(StoredScope),
        )
        by_trace: dict[bytes, list[StoredSpan]] = {}
        for span in spans:
            by_trace.setdefault(span.trace_id, []).append(span)
        by_resource = {resource.resource_id: resource for resource in resources}
        by_scope = {scope.scope_id: scope for scope in scopes}
        return [
            StoredTrace(head, in_tree_order(by_trace.get(head["trace_id"], [])), by_resource, by_scope)
            for head in chosen
        ]

    def trace(self, trace_id: bytes) -> StoredTrace:
        """One trace. Raises ``NotFound``."""
        found = self.traces([trace_id])
        if not found:
            raise NotFound(
                f"trace {trace_id.hex()} is not stored: it is still open, was sampled out, or is past retention"
            )
        return found[0]

    def _all(self, sql: str, parameters: Mapping[str, Any], row_factory: RowFactory[RowT]) -> list[RowT]:
        with self._connection() as connection, connection.cursor(row_factory=row_factory) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def _stream(self, statement: Statement) -> Generator[tuple[Any, ...], None, None]:
        sql, parameters = statement
        with (
            self._connection() as connection,
            connection.transaction(),
            connection.cursor(name="hits") as cursor,
        ):
            cursor.itersize = _CHUNK
            cursor.execute(sql, parameters)
            yield from cursor

    @contextmanager
    def _connection(self) -> Iterator[Connection[Any]]:
        try:
            with self._pool.connection() as connection:
                yield connection
            self.state = "ok"
        except psycopg.errors.QueryCanceled:
            raise TooExpensive(
                f"the query took longer than {self._timeout_ms} ms; ask for a shorter time range or a named service"
            ) from None
        except (PoolTimeout, TooManyRequests, psycopg.OperationalError) as error:
            self.state = "PostgreSQL does not answer"
            logger.warning("PostgreSQL does not answer: %s", error)
            raise Unavailable("PostgreSQL does not answer now; try again") from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            self.state = "the schema is missing or too old"
            logger.error("the schema is not there or is older than this live_api: %s", error)
            raise Unavailable("the schema is not there or is too old; run: python -m migrations up") from error

    def _configure(self, connection: Connection[Any]) -> None:
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.execute(
            "SELECT set_config('statement_timeout', %(ms)s, false), set_config('timezone', 'UTC', false),"
            " set_config('application_name', 'tracewatch live_api', false)",
            {"ms": str(self._timeout_ms)},
        )
        connection.commit()
