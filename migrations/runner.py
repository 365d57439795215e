"""Applies migrations through yoyo, one process at a time, and may be run again after a crash at any point.

Yoyo records a migration after, not with, the transaction that makes it, so every migration is written to be
repeatable (IF NOT EXISTS, OR REPLACE): one that was applied and not recorded is applied once more.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from yoyo import read_migrations  # type: ignore[import-untyped]
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend  # type: ignore[import-untyped]
from yoyo.connections import parse_uri  # type: ignore[import-untyped]

from tracecore.errors import TracewatchError

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
#: Any number will do that nobody else takes on this database.
LOCK_KEY = 0x7472616365770001
LOCK_TIMEOUT_S = 60.0
_LOCK_POLL_S = 0.1


class MigrationFailed(TracewatchError):
    """A migration, or the way to the database, failed; nothing of that migration is left behind."""


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One migration; ``name`` is its file without the suffix."""

    name: str
    is_applied: bool


def migrate_up(database_url: str) -> list[str]:
    """Apply what is missing; the names of what was applied, in order. Waits for another process that does the same."""
    with _backend(database_url) as backend, backend.lock():
        waiting = backend.to_apply(_migrations())
        for migration in waiting:
            with _named(migration.id):
                backend.apply_one(migration)
        return [migration.id for migration in waiting]


def migrate_down(database_url: str, steps: int | None = None) -> list[str]:
    """Take back the newest ``steps`` migrations, or all, with all their data; their names, newest first."""
    with _backend(database_url) as backend, backend.lock():
        applied = list(backend.to_rollback(_migrations()))[:steps]
        for migration in applied:
            with _named(migration.id):
                backend.rollback_one(migration)
        return [migration.id for migration in applied]


def migration_status(database_url: str) -> list[MigrationStatus]:
    """Every migration in order, and whether this database has it. Changes nothing in the database."""
    with _backend(database_url) as backend:
        applied: set[str] = set()
        if backend.migration_table in backend.list_tables():
            applied = set(backend.get_applied_migration_hashes())
        return [MigrationStatus(migration.id, migration.hash in applied) for migration in _migrations()]


class _Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """Yoyo on psycopg 3, with libpq's own URLs, and with an advisory lock, which ends with its process."""

    _is_locked: bool

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        super().__init__(parse_uri("postgresql+psycopg:///"), "_yoyo_migration")

    def connect(self, _: Any) -> psycopg.Connection:
        return psycopg.connect(self._database_url, autocommit=True, application_name="tracewatch-migrations")

    def copy(self) -> "_Backend":
        return _Backend(self._database_url)

    @contextmanager
    def lock(self, timeout: float = LOCK_TIMEOUT_S) -> Iterator[None]:
        if self._is_locked:
            yield
            return
        deadline = time.monotonic() + timeout
        # Polled, not waited for: a session that waits inside PostgreSQL would hold a snapshot meanwhile.
        while not self._try_lock():
            if time.monotonic() > deadline:
                raise MigrationFailed(
                    f"another process has been migrating this database for {timeout:.0f} s; see"
                    " SELECT * FROM pg_stat_activity WHERE application_name = 'tracewatch-migrations'"
                )
            time.sleep(_LOCK_POLL_S)
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            self.execute(f"SELECT pg_advisory_unlock({LOCK_KEY})")

    def _try_lock(self) -> bool:
        (locked,) = self.execute(f"SELECT pg_try_advisory_lock({LOCK_KEY})").fetchone()
        return bool(locked)


@contextmanager
def _backend(database_url: str) -> Iterator[_Backend]:
    try:
        with _Backend(database_url) as backend:
            yield backend
    except psycopg.OperationalError as error:
        raise MigrationFailed(f"PostgreSQL cannot be reached; is TRACEWATCH_DATABASE_URL right? {error}") from None


@contextmanager
def _named(migration: str) -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        hint = error.diag.message_hint
        raise MigrationFailed(f"{migration}: {error}{f' Hint: {hint}' if hint else ''}") from error


def _migrations() -> Any:
    # Yoyo takes Python files for migrations too: this room's own modules are none.
    return read_migrations(str(FOLDER)).filter(lambda migration: migration.is_raw_sql())
