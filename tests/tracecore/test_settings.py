import ssl
from pathlib import Path

import pytest

from tracecore.errors import InvalidSetting, TracewatchError
from tracecore.settings import DatabaseSettings, KafkaSettings, RedactionSettings, read


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
    assert settings.librdkafka_options() == {
        "bootstrap.servers": "one:9092,two:9092",
        "security.protocol": "PLAINTEXT",
    }


def test_credentials_reach_the_client_and_not_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_USERNAME", "tracewatch")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_PASSWORD", "hunter2")
    settings = read(KafkaSettings)
    options = settings.client_options()
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("tracewatch", "hunter2")
    assert isinstance(options["ssl_context"], ssl.SSLContext)
    options = settings.librdkafka_options()
    assert (options["sasl.username"], options["sasl.password"]) == ("tracewatch", "hunter2")
    assert options["ssl.ca.location"], "the system's authorities"
    assert "hunter2" not in repr(settings)


def test_sasl_without_tls_has_no_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_USERNAME", "me")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_PASSWORD", "hunter2")
    settings = read(KafkaSettings)
    options = settings.client_options()
    assert options["sasl_plain_password"] == "hunter2" and "ssl_context" not in options
    options = settings.librdkafka_options()
    assert options["sasl.password"] == "hunter2" and "ssl.ca.location" not in options


def test_sasl_needs_a_user_and_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("TRACEWATCH_KAFKA_SASL_USERNAME", "me")
    with pytest.raises(InvalidSetting, match=r"TRACEWATCH_KAFKA_SASL_PASSWORD: .*is needed"):
        read(KafkaSettings)


def test_an_authority_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    for path in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        monkeypatch.setenv("TRACEWATCH_KAFKA_SSL_CAFILE", str(path))
        with pytest.raises(InvalidSetting, match=r"TRACEWATCH_KAFKA_SSL_CAFILE: .*no readable PEM file"):
            read(KafkaSettings)


def test_a_list_that_is_no_json_is_named_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_REDACT_PATTERNS", "hunter2")
    with pytest.raises(InvalidSetting, match="TRACEWATCH_REDACT_PATTERNS: is no valid JSON") as caught:
        read(RedactionSettings)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("TRACEWATCH_REDACT_PATTERNS", '["("]')
    with pytest.raises(InvalidSetting, match=r"TRACEWATCH_REDACT_PATTERNS: .*no regular expression"):
        read(RedactionSettings)


def test_a_password_that_libpq_would_repeat_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_DATABASE_URL", "postgresql://user:50%hunter2@db/traces")
    with pytest.raises(InvalidSetting, match=r"TRACEWATCH_DATABASE_URL: .*%25") as caught:
        read(DatabaseSettings)
    assert "hunter2" not in str(caught.value)


def test_database_url_is_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEWATCH_DATABASE_URL", "postgresql://user:hunter2@db/traces")
    settings = read(DatabaseSettings)
    assert "hunter2" not in repr(settings)
    assert settings.url.get_secret_value() == "postgresql://user:hunter2@db/traces"
