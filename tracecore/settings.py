"""Settings that several rooms share, and the one way in which every room reads its own.

A room declares a pydantic-settings class with the prefix ``TRACEWATCH_<ROOM>_`` and calls ``read`` once, at
its start; values are passed down from there. A wrong value stops the start and names the variable.
"""

import re
import ssl
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from tracecore.errors import InvalidSetting
from tracecore.redaction import Redaction
from tracecore.topics import Topics

_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FIELD = re.compile(r'field "(\w+)"')

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read(settings: type[SettingsT]) -> SettingsT:
    """Read ``settings`` from the environment; raises ``InvalidSetting`` for the first wrong variable."""
    prefix = settings.model_config.get("env_prefix", "")
    try:
        return settings()
    except SettingsError as error:
        # A list or a mapping that is no JSON; pydantic tells the field in words, and not what stood there.
        named = _FIELD.search(str(error))
        raise InvalidSetting(f"{prefix}{named[1] if named else ''}".upper(), "is no valid JSON") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        raise InvalidSetting(f"{prefix}{field}".upper(), first["msg"]) from None


class KafkaSettings(BaseSettings):
    """Where Kafka is and how to reach it; the same for every room."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_KAFKA_", frozen=True)

    bootstrap_servers: str = Field("localhost:9092", description="Kafka brokers, host:port, comma-separated.")
    topic_prefix: str = Field("tracewatch.", description="What every topic of ours begins with.")
    otlp_topic: str = Field("otlp_spans", description="The topic that the OpenTelemetry Collector's exporter writes.")
    partitions: int = Field(8, ge=1, le=1024, description="Partitions of the topics that we create.")
    replication_factor: int = Field(1, ge=1, le=10, description="Replicas of the topics that we create.")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How connections to Kafka are secured."
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="SASL mechanism, where the protocol is SASL_*."
    )
    sasl_username: str | None = Field(None, validate_default=True, description="SASL user.")
    sasl_password: SecretStr | None = Field(None, validate_default=True, description="SASL password.")
    ssl_cafile: str | None = Field(None, description="File of the certificate authority; the system's, if unset.")

    @field_validator("sasl_username", "sasl_password")
    @classmethod
    def _is_there(cls, value: str | SecretStr | None, info: ValidationInfo) -> str | SecretStr | None:
        protocol = info.data.get("security_protocol", "")
        if protocol.startswith("SASL_") and not value:
            raise ValueError(f"is needed, because TRACEWATCH_KAFKA_SECURITY_PROTOCOL is {protocol}")
        return value

    @field_validator("ssl_cafile")
    @classmethod
    def _is_readable(cls, path: str | None) -> str | None:
        if path is not None:
            try:
                ssl.create_default_context(cafile=path)
            except OSError as error:  # ssl.SSLError is one
                raise ValueError(f"is no readable PEM file: {error}") from None
        return path

    @property
    def topics(self) -> Topics:
        """The names of all topics under this prefix."""
        return Topics(self.topic_prefix, self.otlp_topic)

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that aiokafka's consumer, producer and admin client share."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL_"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value() if self.sasl_password else None,
            }
        if self.security_protocol.endswith("SSL"):
            options["ssl_context"] = ssl.create_default_context(cafile=self.ssl_cafile)
        return options

    def librdkafka_options(self) -> dict[str, str]:
        """The same for librdkafka, by its own names."""
        options = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL_"):
            options |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.sasl_username or "",
                "sasl.password": self.sasl_password.get_secret_value() if self.sasl_password else "",
            }
        if self.security_protocol.endswith("SSL"):
            system = ssl.get_default_verify_paths()
            # Its OpenSSL is its own and knows no system: without a place it looks where systems commonly have it.
            options["ssl.ca.location"] = self.ssl_cafile or system.cafile or system.capath or "probe"
        return options


class LogSettings(BaseSettings):
    """How every room logs, the gateway too."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_LOG_", frozen=True)

    format: Literal["text", "json"] = Field("text", description="Lines for people, or a JSON object a line.")
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] | None = Field(
        None,
        description="Least level of our own lines: DEBUG, INFO, WARNING or ERROR; if unset INFO, of commands WARNING.",
    )


class RedactionSettings(BaseSettings):
    """What is masked before it is stored; the instrumentation reads the same variables and masks before it sends."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_REDACT_", frozen=True)

    keys: str = Field(
        "",
        description="Keys to mask besides the built-in ones, comma-separated: ends of keys, or whole keys with dots.",
    )
    patterns: list[str] = Field(
        default_factory=list, description="JSON list of regular expressions: what they match in values is masked."
    )
    defaults: bool = Field(
        True, description="Mask authorization, cookies, passwords, API keys (docs/security.md) and card numbers."
    )

    @field_validator("patterns")
    @classmethod
    def _compiles(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    @property
    def redaction(self) -> Redaction:
        """What masks by these settings."""
        return Redaction(self.keys.split(","), self.patterns, self.defaults)


class DatabaseSettings(BaseSettings):
    """Where PostgreSQL is; what the URL leaves out, libpq's own variables (PGHOST, PGPASSWORD, ...) supply."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_DATABASE_", frozen=True)

    url: SecretStr = Field(
        SecretStr("postgresql://localhost:5432/tracewatch"), description="PostgreSQL connection URL."
    )

    @field_validator("url")
    @classmethod
    def _is_encoded(cls, url: SecretStr) -> SecretStr:
        # libpq would repeat what it cannot read, and that is most often the password.
        if _BARE_PERCENT.search(url.get_secret_value()):
            raise ValueError("has a % that is not followed by two hex digits: write it as %25")
        return url
