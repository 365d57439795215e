"""The demo's databases: the schema, users with no more rights than they need, and the shop's own database."""

import os
import secrets
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.errors import QuickstartError
from quickstart.python_module import ROOT

MIGRATION_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Databases:
    """URLs, each of a user of its own: the sink writes, the dashboard and live_api read, the shop is another's."""

    writer: str
    reader: str
    shop: str


def prepared(postgres: EmbeddedPostgres, log_path: Path) -> Databases:
    """Apply the migrations and make users and the shop's database. Blocks; raises QuickstartError."""
    _migrate(postgres.url, log_path)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        writer, reader = (
            _login(connection, postgres.url, f"demo_{role}", f"tracewatch_{role}") for role in ("writer", "reader")
        )
        connection.execute("CREATE DATABASE shop")
    return Databases(writer, reader, postgres.url_of("shop"))


def _migrate(url: str, log_path: Path) -> None:
    with log_path.open("ab") as log:
        outcome = subprocess.run(
            [sys.executable, "-m", "migrations", "up"],
            cwd=ROOT,
            env={**os.environ, "TRACEWATCH_DATABASE_URL": url},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=MIGRATION_TIMEOUT_S,
            check=False,
        )
    if outcome.returncode != 0:
        tail = "\n".join(log_path.read_text().splitlines()[-20:])
        raise QuickstartError(f"the migrations failed; {log_path} ends:\n{tail}")


def _login(connection: psycopg.Connection, url: str, user: str, role: str) -> str:
    password = secrets.token_urlsafe(16)
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
            sql.Identifier(user), sql.Literal(password), sql.Identifier(role)
        )
    )
    server = urlsplit(url)
    return urlunsplit(server._replace(netloc=f"{user}:{password}@{server.hostname}:{server.port}"))
