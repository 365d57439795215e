"""The dashboard's one door to PostgreSQL. Reads only: the session is read-only whatever the role may do."""

import logging
from typing import Any, Final, Protocol

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool, PoolTimeout

from dashboard.queries.query import Query, Row
from tracecore.errors import TracewatchError

logger = logging.getLogger(__name__)

#: How long a page waits for a connection: a person would rather read why than wait.
_CONNECT_WITHIN_S: Final = 4.0


class History(Protocol):
    """Answers queries about the history."""

    def rows(self, query: Query) -> list[Row]:
        """All rows of the answer. Raises ``HistoryUnavailable``."""
        ...


class HistoryUnavailable(TracewatchError):
    """The history cannot be read; ``advice`` says what to do next."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason} {advice}")
        self.reason = reason
        self.advice = advice


class Database:
    """PostgreSQL through a pool of read-only connections."""

    def __init__(self, url: str, *, connections: int, query_timeout_s: float) -> None:
        """Connects lazily, and again after the database was away."""
        self._pool: ConnectionPool[psycopg.Connection[dict[str, Any]]] = ConnectionPool(
            url,
            min_size=0,
            max_size=connections,
            timeout=_CONNECT_WITHIN_S,
            reconnect_timeout=_CONNECT_WITHIN_S,
            max_lifetime=600,
            open=True,
            kwargs={
                "autocommit": True,
                "connect_timeout": 3,
                "row_factory": dict_row,
                "application_name": "tracewatch-dashboard",
                "options": f"-c default_transaction_read_only=on -c statement_timeout={int(query_timeout_s * 1000)}"
                " -c timezone=UTC -c jit=off -c work_mem=64MB",
            },
            check=ConnectionPool.check_connection,
        )

    def rows(self, query: Query) -> list[Row]:
        """All rows of the answer. Raises ``HistoryUnavailable``."""
        try:
            with self._pool.connection() as connection:
                return list(connection.execute(query.sql, query.named).fetchall())
        except (
            psycopg.errors.UndefinedTable,
            psycopg.errors.UndefinedColumn,
            psycopg.errors.UndefinedFunction,
        ) as error:
            logger.warning("the schema does not fit: %s", error.diag.message_primary)
            raise HistoryUnavailable(
                "The database does not have Tracewatch's tables.",
                "Apply the migrations (python -m migrations up), then reload.",
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            logger.warning("not allowed: %s", error.diag.message_primary)
            raise HistoryUnavailable(
                "The dashboard's database user may not read the history.",
                "Grant it the role: GRANT tracewatch_reader TO that user.",
            ) from error
        except psycopg.errors.QueryCanceled as error:
            raise HistoryUnavailable(
                "The database took too long for this range.", "Choose a shorter time range or a narrower filter."
            ) from error
        except (PoolTimeout, psycopg.OperationalError) as error:
            logger.warning("the database does not answer: %s", type(error).__name__)
            raise HistoryUnavailable(
                "The database does not answer.",
                "Check that PostgreSQL runs and that TRACEWATCH_DATABASE_URL names it, then reload.",
            ) from error

    def close(self) -> None:
        """Give the connections back."""
        self._pool.close()
