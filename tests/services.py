"""The servers that tests run against: one broker and one PostgreSQL a session, the first that is there.

Kafka, in this order: the servers named by TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS, Docker through testcontainers, Apache
Kafka on Java and Maven, the embedded broker. PostgreSQL: TRACEWATCH_DATABASE_URL, Docker, the embedded one.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

import psycopg
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from psycopg import sql

from quickstart import apache_kafka
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.errors import NotAvailable

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

ServerKind = Literal["named", "docker", "apache", "embedded"]


@dataclass(frozen=True)
class KafkaServer:
    """A broker to test against."""

    bootstrap_servers: str
    kind: ServerKind
    #: Why it is the embedded broker and no Apache Kafka; empty where it is one.
    why_not_apache: str = ""

    @property
    def is_apache(self) -> bool:
        """Whether it does all that Kafka does: offsets by time, durability, transactions. A named server is trusted."""
        return self.kind != "embedded"


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL to test against, by the URL of a role that may create databases."""

    url: str
    kind: ServerKind

    def url_of(self, database: str) -> str:
        """The same server and role, another database."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def create_database(self, name: str, template: str = "template1") -> str:
        """Create a database, a copy of ``template``, and return its URL."""
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@contextmanager
def kafka_server(log_dir: Path) -> Iterator[KafkaServer]:
    """The first broker that is there; ends with the block, unless it was a named one."""
    if named := os.environ.get("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS"):
        yield KafkaServer(named, "named")
    elif docker_answers():
        with _kafka_container() as bootstrap_servers:
            yield KafkaServer(bootstrap_servers, "docker")
    else:
        why_not_apache = apache_kafka.unavailable_reason()
        if why_not_apache is None:
            try:
                apache = ApacheKafka(log_path=log_dir / "kafka.log")
            except NotAvailable as error:
                why_not_apache = str(error)
            else:
                with apache:
                    yield KafkaServer(apache.bootstrap_servers, "apache")
                return
        with EmbeddedBroker(log_path=log_dir / "broker.log") as embedded:
            yield KafkaServer(embedded.bootstrap_servers, "embedded", why_not_apache)


@contextmanager
def postgres_server(log_dir: Path) -> Iterator[PostgresServer]:
    """The first PostgreSQL that is there; ends with the block, unless it was a named one."""
    if named := os.environ.get("TRACEWATCH_DATABASE_URL"):
        yield PostgresServer(named, "named")
    elif docker_answers():
        with _postgres_container() as url:
            yield PostgresServer(url, "docker")
    else:
        with EmbeddedPostgres(log_path=log_dir / "postgres.log") as embedded:
            yield PostgresServer(embedded.url, "embedded")


def docker_answers() -> bool:
    """Whether a Docker engine can be reached, at DOCKER_HOST or the usual socket."""
    host = urlsplit(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
    is_unix = host.scheme == "unix"
    try:
        with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as connection:
            connection.settimeout(2)
            connection.connect(host.path if is_unix else (host.hostname, host.port or 2375))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def migrate(database_url: str) -> None:
    """Apply every migration, as an operator would."""
    outcome = run_room("migrations", "up", environment={"TRACEWATCH_DATABASE_URL": database_url})
    assert outcome.returncode == 0, f"python -m migrations up failed:\n{outcome.stdout}{outcome.stderr}"


def run_room(
    room: str, *arguments: str, environment: Mapping[str, str], timeout_s: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m ROOM ARGUMENTS`` to its end, in the repository's root."""
    return subprocess.run(
        [sys.executable, "-m", room, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def create_topic(bootstrap_servers: str, name: str, partitions: int, config: Mapping[str, str]) -> None:
    """Create a topic; returns when it is made."""
    topic = NewTopic(name, partitions, 1, topic_configs=dict(config))

    async def create(admin: AIOKafkaAdminClient) -> None:
        answer = await admin.create_topics([topic])
        for error in answer.topic_errors:
            assert error[1] == 0, f"creating {name} failed: {error}"

    _with_admin(bootstrap_servers, create)


def delete_topics(bootstrap_servers: str, prefix: str) -> None:
    """Delete every topic whose name begins with ``prefix``."""

    async def delete(admin: AIOKafkaAdminClient) -> None:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if names:
            await admin.delete_topics(names)

    _with_admin(bootstrap_servers, delete)


def _with_admin(bootstrap_servers: str, work: Callable[[AIOKafkaAdminClient], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            await work(admin)
        finally:
            await admin.close()

    # A loop of its own in a thread of its own: async tests call this from inside theirs.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, run()).result(30)


@contextmanager
def _kafka_container() -> Iterator[str]:
    try:
        from testcontainers.community.kafka import KafkaContainer
    except ImportError:  # testcontainers before 4.15
        from testcontainers.kafka import KafkaContainer

    container = KafkaContainer().with_kraft().with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    with container.start(timeout=120):
        yield container.get_bootstrap_server()


@contextmanager
def _postgres_container() -> Iterator[str]:
    try:
        from testcontainers.community.postgres import PostgresContainer
    except ImportError:
        from testcontainers.postgres import PostgresContainer

    with PostgresContainer("postgres:18", driver=None) as container:
        yield container.get_connection_url()
