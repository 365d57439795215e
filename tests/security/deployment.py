"""The whole pipeline as processes, on servers that take encrypted connections of known users alone."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from ssl import create_default_context

import psycopg

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.errors import NotAvailable
from quickstart.process import ManagedProcess, free_port
from tests.certificates import Authority
from tests.services import ROOT

KAFKA_USER, KAFKA_PASSWORD = "tracewatch", "k4fka-passw0rd"
BROKER_USER, BROKER_PASSWORD = "broker", "br0ker-passw0rd"
#: Where each room tells that it is well.
PAGES = {
    "stream": ("TRACEWATCH_STREAM_PORT", "/healthz"),
    "sink": ("TRACEWATCH_SINK_PORT", "/healthz"),
    "live_api": ("TRACEWATCH_LIVE_API_PORT", "/readyz"),
    "dashboard": ("TRACEWATCH_DASHBOARD_PORT", "/healthz"),
    "tracewatch.gateway": ("TRACEWATCH_GATEWAY_PORT", "/healthz"),
}


@dataclass
class SecureServers:
    """An Apache Kafka by SASL_SSL and a PostgreSQL by TLS; ``environment`` lets a room in."""

    kafka: ApacheKafka
    postgres: EmbeddedPostgres
    authority: Authority
    environment: dict[str, str] = field(default_factory=dict)


@contextmanager
def secure_servers(folder: Path) -> Iterator[SecureServers]:
    """Both, started. Raises NotAvailable."""
    authority = Authority(folder)
    certificate = authority.issue("127.0.0.1", "localhost")
    keystore, truststore = folder / "kafka.pem", authority.certificate
    keystore.write_text(certificate.pem)
    keystore.chmod(0o600)
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
    users = f'user_{BROKER_USER}="{BROKER_PASSWORD}" user_{KAFKA_USER}="{KAFKA_PASSWORD}"'
    broker = f'username="{BROKER_USER}" password="{BROKER_PASSWORD}"'
    with ExitStack() as stack:
        kafka = ApacheKafka(
            log_path=folder / "kafka.log",
            security_protocol="SASL_SSL",
            ssl_context=create_default_context(cafile=authority.certificate),
            scram_passwords={KAFKA_USER: KAFKA_PASSWORD},
            configuration=f"""\
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.clients.plain.sasl.jaas.config={plain} {broker} {users};
listener.name.clients.scram-sha-256.sasl.jaas.config={scram};
listener.name.clients.scram-sha-512.sasl.jaas.config={scram};
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
""",
        )
        stack.enter_context(kafka)
        postgres = stack.enter_context(
            EmbeddedPostgres(
                log_path=folder / "postgres.log",
                tls_certificate=certificate.certificate,
                tls_key=certificate.key,
                binaries=_installed_postgres(),
            )
        )
        servers = SecureServers(kafka, postgres, authority)
        servers.environment = {
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "TRACEWATCH_KAFKA_PARTITIONS": "2",
            "TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "TRACEWATCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "TRACEWATCH_KAFKA_SASL_USERNAME": KAFKA_USER,
            "TRACEWATCH_KAFKA_SASL_PASSWORD": KAFKA_PASSWORD,
            "TRACEWATCH_KAFKA_SSL_CAFILE": str(authority.certificate),
            "TRACEWATCH_DATABASE_URL": f"{postgres.url}?sslmode=verify-full&sslrootcert={authority.certificate}",
            "TRACEWATCH_STREAM_SETTLE_S": "0.5",
        }
        yield servers


def _installed_postgres() -> Path:
    """The ``bin`` folder of the newest PostgreSQL that Debian's packages have put here. Raises NotAvailable."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    if not found:
        raise NotAvailable("the embedded PostgreSQL knows no TLS, and no other is here: apt-get install postgresql")
    return found[-1]


class Room:
    """``python -m ROOM`` with its pages on a free port; what it says is in ``log_path``."""

    def __init__(self, name: str, environment: Mapping[str, str], log_path: Path) -> None:
        variable, self._page = PAGES[name]
        self.port = free_port()
        self.log_path = log_path
        self.process = ManagedProcess(
            name,
            [sys.executable, "-m", name],
            log_path=log_path,
            env={"PYTHONUNBUFFERED": "1", **environment, variable: str(self.port)},
            cwd=ROOT,
        )

    def start(self) -> "Room":
        """Start; returns at once."""
        self.process.start()
        return self

    def wait_until_well(self, timeout_s: float = 60.0) -> None:
        """Until its page answers 200."""
        self.process.wait_until(lambda: self.status() == 200, timeout_s=timeout_s)

    def status(self) -> int:
        """What its page answers; 0 for nothing."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._page}", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def said(self) -> str:
        """All that it wrote."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self) -> "Room":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.process.stop(grace_s=5)


def eventually(holds: Callable[[], bool], timeout_s: float = 40.0, what: Callable[[], object] = lambda: "") -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def run_python(code: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A service's own program."""
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def services_stored(url: str) -> set[str]:
    """Services of which the history has spans."""
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute("SELECT DISTINCT service FROM service_traces")}
