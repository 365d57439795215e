"""Fixtures for every room: servers that live for the session, topics and databases that live for a test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.errors import NotAvailable
from tests import services
from tests.services import KafkaServer, PostgresServer
from tracecore.topics import Topics

MakeTopic = Callable[..., str]

# The suite tries the same examples wherever it runs: what passed here passes in CI. ``--hypothesis-profile=explore``
# goes after new ones (and ``make fuzz``, for hours). A deadline would measure the machine, which has other work to do.
settings.register_profile("suite", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("suite")

# Without Java's second compiler a broker's start takes a third less of the processor.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def server_logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's servers write their logs."""
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def kafka(server_logs: Path) -> Iterator[KafkaServer]:
    """The session's broker: Apache Kafka wherever it can be had."""
    with services.kafka_server(server_logs) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_kafka(server_logs: Path) -> Iterator[KafkaServer]:
    """The embedded broker, whatever else is there."""
    with EmbeddedBroker(log_path=server_logs / "embedded-broker.log") as broker:
        yield KafkaServer(broker.bootstrap_servers, "embedded")


@pytest.fixture(scope="session")
def apache_kafka(kafka: KafkaServer) -> KafkaServer:
    """The session's broker, for tests that need what only Apache Kafka does; skips where it is not there."""
    if not kafka.is_apache:
        pytest.skip(f"needs Apache Kafka: {kafka.why_not_apache}")
    return kafka


@pytest.fixture
def crashable_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka of the test's own (8 s), to ``kill()`` and ``start()`` again on the same port and data."""
    try:
        node = ApacheKafka(log_path=tmp_path / "kafka.log")
    except NotAvailable as error:
        pytest.skip(f"needs an Apache Kafka of its own: {error}")
    with node:
        yield node


@pytest.fixture
def topic_prefix() -> str:
    """What every topic of this test begins with: the value of TRACEWATCH_KAFKA_TOPIC_PREFIX."""
    return f"test-{uuid4().hex[:8]}."


@pytest.fixture
def topics(topic_prefix: str) -> Topics:
    """The names of this test's topics; none is created yet."""
    return Topics(topic_prefix, f"{topic_prefix}otlp_spans")


@pytest.fixture
def make_topic(kafka: KafkaServer, topic_prefix: str) -> Iterator[MakeTopic]:
    """``make_topic("spans", partitions=4, config={...})`` creates prefix + "spans" and returns that name."""

    def make(name: str, *, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        full_name = topic_prefix + name.removeprefix(topic_prefix)
        services.create_topic(kafka.bootstrap_servers, full_name, partitions, config or {})
        return full_name

    yield make
    if kafka.kind == "named":  # the others are thrown away as a whole
        services.delete_topics(kafka.bootstrap_servers, topic_prefix)


@pytest.fixture
def make_topics(kafka: KafkaServer, topics: Topics, make_topic: MakeTopic) -> Callable[..., Topics]:
    """``make_topics(partitions=2)`` creates all of this test's topics, each with the configuration of its contract."""

    def make(*, partitions: int = 2) -> Topics:
        for spec in topics.specs():
            make_topic(spec.name, partitions=partitions if spec.partitioned else 1, config=dict(spec.config))
        return topics

    return make


@pytest.fixture
def kafka_environment(kafka: KafkaServer, topics: Topics) -> dict[str, str]:
    """The environment in which a room's process uses this test's broker and topics."""
    return environment_of(kafka, topics)


def environment_of(kafka: KafkaServer, topics: Topics) -> dict[str, str]:
    """The environment in which a room's process uses ``kafka`` and ``topics``, in consumer groups of the test's own."""
    return {
        "TRACEWATCH_STREAM_APP_ID": f"{topics.prefix}stream",
        "TRACEWATCH_SINK_GROUP_ID": f"{topics.prefix}sink",
        "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TRACEWATCH_KAFKA_TOPIC_PREFIX": topics.prefix,
        "TRACEWATCH_KAFKA_OTLP_TOPIC": topics.otlp_spans,
        "TRACEWATCH_KAFKA_SPANS_TOPIC": topics.spans,
    }


@pytest.fixture(scope="session")
def postgres(server_logs: Path) -> Iterator[PostgresServer]:
    """The session's PostgreSQL."""
    with services.postgres_server(server_logs) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> Iterator[str]:
    """The name of a database with every migration applied; a test's own is a copy of it."""
    name = f"tracewatch_template_{uuid4().hex[:8]}"
    services.migrate(postgres.create_database(name))
    yield name
    postgres.drop_database(name)


@pytest.fixture
def empty_database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a new database with nothing in it."""
    name = f"test_{uuid4().hex[:8]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def database(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of a new database with every migration applied."""
    name = f"test_{uuid4().hex[:8]}"
    yield postgres.create_database(name, template=migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data sets beside the repository; skips where it is not there."""
    if not services.SHARED_DATA.is_dir():
        pytest.skip("needs ../shared/data, the recorded data sets, which are not beside this checkout")
    return services.SHARED_DATA
