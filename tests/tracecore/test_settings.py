import ssl

import pytest

from tracecore.errors import InvalidSetting, TracewatchError
from tracecore.settings import DatabaseSettings, KafkaSettings, read


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TRACEWATCH_KAFKA_PARTITIONS", "many"),
        ("TRACEWATCH_KAFKA_PARTITIONS", "0"),
        ("TRACEWATCH_KAFKA_REPLICATION_FACTOR", "11"),
        ("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("TRACEWATCH_KAFKA_SASL_MECHANISM", "GSSAPI"),
    ],
)
def test_wrong_value_names_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSetting) as raised:
        read(KafkaSettings)
    assert raised.value.variable == variable
    assert str(raised.value).startswith(f"{variable}: ")
    assert value not in str(raised.value) or not value.isalpha(), "a value may be a secret"
    assert isinstance(raised.value, TracewatchError)


def test_environment_is_read_once_and_defaults_fill_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACEWATCH_KAFKA_PARTITIONS", raising=False)
    monkeypatch.setenv("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS", "one:9092,two:9092")
    monkeypatch.setenv("TRACEWATCH_KAFKA_TOPIC_PREFIX", "staging.")
    monkeypatch.setenv("TRACEWATCH_KAFKA_OTLP_TOPIC", "otlp")
    settings = read(KafkaSettings)
    assert (settings.bootstrap_servers, settings.partitions) == ("one:9092,two:9092", 8)
    assert (settings.topics.spans, settings.topics.otlp_spans) == ("staging.spans", "otlp")
    assert settings.client_options() == {"bootstrap_servers": "one:9092,two:9092", "security_protocol": "PLAINTEXT"}


def test_credentials_reach_the_client_and_not_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_USERNAME", "tracewatch")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_PASSWORD", "hunter2")
    settings = read(KafkaSettings)
    options = settings.client_options()
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("tracewatch", "hunter2")
    assert isinstance(options["ssl_context"], ssl.SSLContext)
    assert "hunter2" not in repr(settings)


def test_sasl_without_tls_has_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    options = read(KafkaSettings).client_options()
    assert options["sasl_plain_password"] is None and "ssl_context" not in options


def test_database_url_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_DATABASE_URL", "postgresql://user:hunter2@db/traces")
    settings = read(DatabaseSettings)
    assert "hunter2" not in repr(settings)
    assert settings.url.get_secret_value() == "postgresql://user:hunter2@db/traces"
