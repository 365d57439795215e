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
from quickstart.program import ROOT

MIGRATION_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Databases:
    """URLs, each of a user of its own: the sink writes, the dashboard and live_api read, the shop is another's."""

    writer: str
    reader: str
    shop: str


def planned(postgres: EmbeddedPostgres) -> Databases:
    """The URLs as they will be once `prepare` has made what they name."""
    return Databases(
        writer=_url_of_user(postgres.url, "demo_writer"),
        reader=_url_of_user(postgres.url, "demo_reader"),
        shop=postgres.url_of("shop"),
    )


def prepare(postgres: EmbeddedPostgres, urls: Databases, log_path: Path) -> None:
    """Apply the migrations, make the users and the shop's database. Blocks; raises QuickstartError."""
    _migrate(postgres.url, log_path)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        _create_user(connection, urls.writer, "tracewatch_writer")
        _create_user(connection, urls.reader, "tracewatch_reader")
        connection.execute("CREATE DATABASE shop")


def _migrate(url: str, log_path: Path) -> None:
    with log_path.open("wb") as log:
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


def _url_of_user(url: str, user: str) -> str:
    server = urlsplit(url)
    return urlunsplit(server._replace(netloc=f"{user}:{secrets.token_urlsafe(16)}@{server.hostname}:{server.port}"))


def _create_user(connection: psycopg.Connection, url: str, role: str) -> None:
    user = urlsplit(url)
    assert user.username is not None
    connection.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
            sql.Identifier(user.username), sql.Literal(user.password), sql.Identifier(role)
        )
    )
