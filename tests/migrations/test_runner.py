"""Migrations: by the runner, by psql's rules, twice, from many processes."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import psycopg
import pytest

from migrations.runner import FOLDER, MigrationFailed, migrate_down, migrate_up, migration_status
from tests.services import ROOT, run_room

FILES = sorted(path for path in FOLDER.glob("[0-9]*.sql") if not path.name.endswith(".rollback.sql"))


def rows(database: str, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(statement, parameters).fetchall()  # type: ignore[arg-type]


def shape(database: str) -> list[tuple[object, ...]]:
    """Every column of every table of ours, and every index."""
    columns = rows(
        database,
        "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name NOT LIKE '%%yoyo%%' ORDER BY 1, 2",
    )
    indexes = rows(
        database,
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '%%yoyo%%'"
        " ORDER BY 1, 2",
    )
    return [*columns, *indexes]


def test_up_applies_everything_once_and_down_takes_it_back(empty_database: str) -> None:
    names = [path.stem for path in FILES]
    assert not any(migration.is_applied for migration in migration_status(empty_database))
    assert migrate_up(empty_database) == names
    assert migrate_up(empty_database) == []
    assert all(migration.is_applied for migration in migration_status(empty_database))
    assert migrate_down(empty_database, 1) == names[-1:]
    assert migrate_down(empty_database) == names[-2::-1]
    assert shape(empty_database) == []
    assert migrate_up(empty_database) == names


def test_status_changes_nothing(empty_database: str) -> None:
    migration_status(empty_database)
    assert rows(empty_database, "SELECT FROM pg_tables WHERE schemaname = 'public'") == []


def test_psql_in_order_gives_the_same_tables_and_may_be_repeated(empty_database: str, database: str) -> None:
    with psycopg.connect(empty_database, autocommit=True) as connection:
        for _ in range(2):
            for path in FILES:
                connection.execute(path.read_text())  # type: ignore[arg-type]
    assert shape(empty_database) == shape(database)
    assert migrate_up(empty_database) == [path.stem for path in FILES], "what psql made, the runner adopts"
    assert shape(empty_database) == shape(database)


def test_many_processes_at_once_apply_each_migration_once(empty_database: str) -> None:
    environment = {**os.environ, "TRACEWATCH_DATABASE_URL": empty_database}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "migrations", "up"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0]
    assert sorted(" ".join(said).replace("nothing to apply", "").split()) == sorted(
        word for path in FILES for word in ("applied", path.stem)
    )


def test_a_migration_that_fails_leaves_nothing_and_is_named(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "001_good.sql").write_text("CREATE TABLE IF NOT EXISTS good (a int);")
    (tmp_path / "002_bad.sql").write_text("CREATE TABLE half (a int);\nSELECT 1/0;")
    monkeypatch.setattr("migrations.runner.FOLDER", tmp_path)
    with pytest.raises(MigrationFailed, match="002_bad: division by zero"):
        migrate_up(empty_database)
    assert [migration.is_applied for migration in migration_status(empty_database)] == [True, False]
    tables = rows(empty_database, "SELECT tablename FROM pg_tables WHERE tablename IN ('good', 'half')")
    assert tables == [("good",)]


def test_the_command_says_what_it_did_and_what_to_do(empty_database: str) -> None:
    environment = {"TRACEWATCH_DATABASE_URL": empty_database}
    assert run_room("migrations", "status", environment=environment).returncode == 3
    up = run_room("migrations", "up", environment=environment)
    assert (up.returncode, up.stdout.splitlines()[0]) == (0, "applied 001_roles")
    assert run_room("migrations", "status", environment=environment).returncode == 0
    down = run_room("migrations", "down", "--steps", "1", environment=environment)
    assert down.stdout == f"took back {FILES[-1].stem}\n"
    away = run_room("migrations", "up", environment={"TRACEWATCH_DATABASE_URL": "postgresql://127.0.0.1:1/none"})
    assert away.returncode == 1 and "TRACEWATCH_DATABASE_URL" in away.stderr and "Traceback" not in away.stderr


def test_every_table_and_column_has_a_comment(database: str) -> None:
    bare = rows(
        database,
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition"
        " AND a.attnum >= 0 AND NOT a.attisdropped AND c.relname NOT LIKE '%%yoyo%%'"
        " AND (col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL)",
    )
    assert bare == []


def test_the_reader_reads_and_the_writer_changes_no_schema(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        tables = [
            name
            for (name,) in connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND relname NOT LIKE '%%yoyo%%'"
            )
        ]
        connection.execute("SET ROLE tracewatch_reader")
        for table in tables:
            connection.execute(f"SELECT * FROM {table} LIMIT 1")  # type: ignore[arg-type]
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"DELETE FROM {table}")  # type: ignore[arg-type]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT ensure_day_partitions('{2026-01-01}')")
        connection.execute("SET ROLE tracewatch_writer")
        connection.execute("SELECT ensure_day_partitions('{2026-01-01}')")
        connection.execute("INSERT INTO sink_offsets VALUES ('t', 0, 1)")
        for statement in ("DROP TABLE traces", "CREATE TABLE mine (a int)", "TRUNCATE traces"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)  # type: ignore[arg-type]


def test_days_are_made_once_and_dropped_once(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        (daily,) = connection.execute("SELECT count(*) FROM day_tables").fetchone() or (0,)
        days = [date(2026, 1, 1), date(2026, 1, 2), date(2026, 1, 1)]
        assert connection.execute("SELECT ensure_day_partitions(%s)", (days,)).fetchone() == (2 * daily,)
        assert connection.execute("SELECT ensure_day_partitions(%s)", (days,)).fetchone() == (0,)
        drop = "SELECT drop_day_partition('service_traces', '2026-01-01')"
        assert connection.execute(drop).fetchone() == (True,)
        assert connection.execute(drop).fetchone() == (False,)
        left = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'service_traces_2026%'").fetchall()
        assert {name for (name,) in left if "pkey" not in name and "idx" not in name} == {"service_traces_20260102"}
