"""Every client of ours over SASL_SSL to Apache Kafka and over TLS, verified, to PostgreSQL; and none without."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from quickstart.errors import NotAvailable
from sink.letter_box import LetterBox
from sink.letters import Letter
from sink.reading import Reader
from tests.certificates import Authority
from tests.security.deployment import Room, SecureServers, eventually, run_python, secure_servers, services_stored
from tests.services import migrate, run_room
from tracecore.settings import KafkaSettings, read

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

SPAN_BY_SDK = """
import tracewatch
provider = tracewatch.configure(service_name="by-sdk")
tracewatch.trace_function(name="work")(lambda: None)()
assert tracewatch.flush(30), "Kafka did not take the span"
"""
SPAN_BY_GATEWAY = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "by-gateway"}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5b8efff798038103d269b633813fc60c",
                            "spanId": "eee19b7ec3c1b174",
                            "name": "GET /",
                            "startTimeUnixNano": "1795348800000000000",
                            "endTimeUnixNano": "1795348800010000000",
                        }
                    ]
                }
            ],
        }
    ]
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServers]:
    try:
        with secure_servers(tmp_path_factory.mktemp("secure")) as made:
            migrate(made.environment["TRACEWATCH_DATABASE_URL"])
            yield made
    except NotAvailable as error:
        pytest.skip(f"needs an Apache Kafka of its own: {error}")


def test_a_span_takes_the_whole_way_over_encrypted_connections(servers: SecureServers, tmp_path: Path) -> None:
    url = servers.environment["TRACEWATCH_DATABASE_URL"]
    plain = {**servers.environment, "TRACEWATCH_KAFKA_SASL_MECHANISM": "PLAIN"}
    with ExitStack() as stack:

        def started(name: str, environment: dict[str, str]) -> Room:
            return stack.enter_context(Room(name, environment, tmp_path / f"{name}.log"))

        stream = started("stream", servers.environment)
        stream.wait_until_well()
        others = [started("sink", plain), started("live_api", servers.environment), started("dashboard", plain)]
        gateway = started("tracewatch.gateway", servers.environment)
        for room in (*others, gateway):
            room.wait_until_well()

        sent = run_python(SPAN_BY_SDK, servers.environment)
        assert sent.returncode == 0, sent.stderr
        request = urllib.request.Request(
            f"http://127.0.0.1:{gateway.port}/v1/traces",
            json.dumps(SPAN_BY_GATEWAY).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200
        eventually(
            lambda: services_stored(url) == {"by-sdk", "by-gateway"},
            what=lambda: (services_stored(url), stream.said()[-2000:], others[0].said()[-2000:]),
        )
        replayed = run_room("replay", "run", "--speed", "max", environment=servers.environment)
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    letters = run_room("sink", "dead-letters", "list", environment=servers.environment)
    assert letters.returncode == 0, letters.stderr


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_the_sink_knows_every_mechanism(
    servers: SecureServers, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    for name, value in (servers.environment | {"TRACEWATCH_KAFKA_SASL_MECHANISM": mechanism}).items():
        monkeypatch.setenv(name, value)
    settings = read(KafkaSettings)
    create = NewTopic(settings.topics.dead_letters, 1, 1)
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    await admin.create_topics([create])  # or it is there
    await admin.close()
    reader = Reader(settings, "everyone", 10)
    try:
        assert settings.topics.dead_letters in await reader.topics()
    finally:
        await reader.close()
    await asyncio.to_thread(LetterBox(settings).send, [Letter(b"key", b"value", ())])


def test_postgresql_is_reached_by_tls_alone(servers: SecureServers) -> None:
    url = servers.environment["TRACEWATCH_DATABASE_URL"]
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry|no encryption"):
        psycopg.connect(f"{servers.postgres.url}?sslmode=disable")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("TRACEWATCH_KAFKA_SASL_PASSWORD", "wr0ng", "uthentication"),
        ("TRACEWATCH_KAFKA_SSL_CAFILE", "{another authority}", ""),
        ("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "PLAINTEXT", ""),
    ],
    ids=["another password", "another authority", "no TLS"],
)
@pytest.mark.parametrize("room", ["sink", "stream"])
def test_who_is_not_let_in_is_told_and_ends(
    servers: SecureServers, tmp_path: Path, room: str, variable: str, value: str, said: str
) -> None:
    value = value.replace("{another authority}", str(Authority(tmp_path, "another").certificate))
    quick = {"TRACEWATCH_SINK_BROKER_TIMEOUT_S": "3", "TRACEWATCH_STREAM_BROKER_TIMEOUT_S": "3"}
    outcome = run_room(room, environment={**servers.environment, **quick, variable: value})
    assert outcome.returncode != 0
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert "wr0ng" not in outcome.stderr and "passw0rd" not in outcome.stderr


def test_another_authoritys_database_is_not_trusted(servers: SecureServers, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another").certificate
    url = f"{servers.postgres.url}?sslmode=verify-full&sslrootcert={other}"
    outcome = run_room("migrations", "status", environment={"TRACEWATCH_DATABASE_URL": url})
    assert outcome.returncode == 1
    assert "certificate verify failed" in outcome.stderr
    assert servers.postgres._password not in outcome.stderr
