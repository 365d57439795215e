"""Settings: what the docs say is what the code reads, and a wrong value names its variable."""

import re
import ssl
from dataclasses import fields
from pathlib import Path

import pytest

from tests.producer.conftest import ROOT
from tracewatch.errors import InvalidSetting
from tracewatch.gateway.settings import GatewaySettings
from tracewatch.kafka import kafka_producer
from tracewatch.settings import KafkaSettings, ProducerSettings

PAGE = (ROOT / "docs" / "instrumenting.md").read_text()


class Recorder(dict[str, str]):
    """An environment that remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        self.asked.add(key)
        return super().get(key, default)


def test_the_page_names_every_variable_and_no_other() -> None:
    environment = Recorder()
    ProducerSettings.from_environment(environment)
    GatewaySettings.from_environment(environment)
    assert set(re.findall(r"^\| `(TRACEWATCH_\w+)`", PAGE, re.MULTILINE)) == environment.asked


def test_the_page_gives_the_defaults() -> None:
    for prefix, settings in (("PRODUCER", ProducerSettings()), ("GATEWAY", GatewaySettings())):
        for field in fields(settings):
            row = re.search(rf"^\| `TRACEWATCH_{prefix}_{field.name.upper()}` \| `([^`]+)` \|", PAGE, re.MULTILINE)
            if row:
                default = getattr(settings, field.name)
                assert row[1] == (f"{default:g}" if isinstance(default, float) else str(default)), field.name


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("TRACEWATCH_KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("TRACEWATCH_PRODUCER_LINGER_MS", "soon"),
        ("TRACEWATCH_PRODUCER_LINGER_MS", "-1"),
        ("TRACEWATCH_PRODUCER_MAX_QUEUE_SPANS", "0"),
        ("TRACEWATCH_PRODUCER_COMPRESSION", "brotli"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{variable}='{value}' cannot be used: expected"):
        ProducerSettings.from_environment({variable: value})


def test_sasl_needs_a_user_and_a_password() -> None:
    environment = {"TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}
    with pytest.raises(InvalidSetting, match="TRACEWATCH_KAFKA_SASL_USERNAME"):
        KafkaSettings.from_environment(environment)
    environment["TRACEWATCH_KAFKA_SASL_USERNAME"] = "service"
    with pytest.raises(InvalidSetting, match="TRACEWATCH_KAFKA_SASL_PASSWORD"):
        KafkaSettings.from_environment(environment)


def test_a_prefix_moves_the_topic_and_a_name_overrides_it() -> None:
    assert ProducerSettings.from_environment({}).topic == "tracewatch.spans"
    assert ProducerSettings.from_environment({"TRACEWATCH_KAFKA_TOPIC_PREFIX": "staging."}).topic == "staging.spans"
    both = {"TRACEWATCH_KAFKA_TOPIC_PREFIX": "staging.", "TRACEWATCH_KAFKA_SPANS_TOPIC": "mine"}
    assert ProducerSettings.from_environment(both).topic == "mine"


async def test_sasl_and_tls_reach_the_client(tmp_path: Path) -> None:
    environment = {
        "TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "TRACEWATCH_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "TRACEWATCH_KAFKA_SASL_USERNAME": "service",
        "TRACEWATCH_KAFKA_SASL_PASSWORD": "secret",
    }
    settings = KafkaSettings.from_environment(environment)
    assert "secret" not in repr(settings)
    producer = kafka_producer(settings, client_id="test")
    client = producer.client
    assert isinstance(client._ssl_context, ssl.SSLContext)
    assert (client._sasl_mechanism, client._sasl_plain_username) == ("SCRAM-SHA-512", "service")
    await producer.stop()
    missing = environment | {"TRACEWATCH_KAFKA_SSL_CAFILE": str(tmp_path / "missing.pem")}
    with pytest.raises(InvalidSetting, match="TRACEWATCH_KAFKA_SSL_CAFILE"):
        kafka_producer(KafkaSettings.from_environment(missing), client_id="test")
