"""Settings of a service's producer, read once from the environment and passed on as values."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracewatch.errors import InvalidSetting
from tracewatch.redaction import Redaction

SPANS_TOPIC = "tracewatch.spans"
# Kafka's own default limit is 1 048 588 bytes for a batch; the rest is for its framing.
MAX_RECORD_BYTES = 1_000_000

_SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where Kafka is and how to be let in."""

    bootstrap_servers: str = "localhost:9092"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "KafkaSettings":
        """Read ``TRACEWATCH_KAFKA_*``. Raises InvalidSetting for a value outside its set."""
        security_protocol = _choice(environ, "TRACEWATCH_KAFKA_SECURITY_PROTOCOL", _SECURITY_PROTOCOLS, "PLAINTEXT")
        username = environ.get("TRACEWATCH_KAFKA_SASL_USERNAME") or None
        password = environ.get("TRACEWATCH_KAFKA_SASL_PASSWORD") or None
        if security_protocol.startswith("SASL_") and not (username and password):
            missing = "TRACEWATCH_KAFKA_SASL_PASSWORD" if username else "TRACEWATCH_KAFKA_SASL_USERNAME"
            raise InvalidSetting(
                missing, "", f"a value, because TRACEWATCH_KAFKA_SECURITY_PROTOCOL={security_protocol}"
            )
        return cls(
            bootstrap_servers=environ.get("TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS") or "localhost:9092",
            security_protocol=security_protocol,
            sasl_mechanism=_choice(environ, "TRACEWATCH_KAFKA_SASL_MECHANISM", _SASL_MECHANISMS, "PLAIN"),
            sasl_username=username,
            sasl_password=password,
            ssl_cafile=environ.get("TRACEWATCH_KAFKA_SSL_CAFILE") or None,
        )


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """How spans are collected and delivered."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topic: str = SPANS_TOPIC
    linger_ms: int = 200
    early_flush_interval_ms: int = 50
    max_queue_spans: int = 8192
    max_pending_bytes: int = 32 * 1024 * 1024
    flush_timeout_s: float = 5.0
    compression: str = "none"
    redaction: Redaction = field(default_factory=Redaction)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "ProducerSettings":
        """Read ``TRACEWATCH_KAFKA_*``, ``_PRODUCER_*`` and ``_REDACT_*``. Raises InvalidSetting."""
        return cls(
            kafka=KafkaSettings.from_environment(environ),
            topic=spans_topic(environ),
            linger_ms=whole_number(environ, "TRACEWATCH_PRODUCER_LINGER_MS", 200),
            early_flush_interval_ms=whole_number(environ, "TRACEWATCH_PRODUCER_EARLY_FLUSH_INTERVAL_MS", 50),
            max_queue_spans=whole_number(environ, "TRACEWATCH_PRODUCER_MAX_QUEUE_SPANS", 8192),
            max_pending_bytes=whole_number(environ, "TRACEWATCH_PRODUCER_MAX_PENDING_BYTES", 32 * 1024 * 1024),
            flush_timeout_s=float(whole_number(environ, "TRACEWATCH_PRODUCER_FLUSH_TIMEOUT_S", 5)),
            compression=_choice(environ, "TRACEWATCH_PRODUCER_COMPRESSION", _COMPRESSIONS, "none"),
            redaction=Redaction.from_environment(environ),
        )


def spans_topic(environ: Mapping[str, str]) -> str:
    """The topic that spans go to."""
    # The prefix is the pipeline's setting too: one variable moves a whole deployment to its own topics.
    prefix = environ.get("TRACEWATCH_KAFKA_TOPIC_PREFIX")
    return environ.get("TRACEWATCH_KAFKA_SPANS_TOPIC") or (f"{prefix}spans" if prefix else SPANS_TOPIC)


def _choice(environ: Mapping[str, str], name: str, allowed: tuple[str, ...], default: str) -> str:
    value = environ.get(name) or default
    if value not in allowed:
        raise InvalidSetting(name, value, "one of " + ", ".join(allowed))
    return value


def whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    """A number above 0. Raises InvalidSetting for anything else but an absent or empty variable."""
    text = environ.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise InvalidSetting(name, text, "a whole number above 0")
    return int(text)
