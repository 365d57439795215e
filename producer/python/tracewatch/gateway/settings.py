"""The gateway's settings: ``TRACEWATCH_GATEWAY_*`` beside ``TRACEWATCH_KAFKA_*``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tracewatch.settings import KafkaSettings, spans_topic, whole_number


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens and what it bears.

    ``max_body_bytes`` bounds one request after decompression; ``max_waiting_bytes``
    bounds all requests that wait for Kafka. ``token``: if set, what a sender has to
    show as a bearer token.
    """

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topic: str = "tracewatch.spans"
    host: str = "127.0.0.1"
    port: int = 4318
    token: str | None = field(default=None, repr=False)
    max_body_bytes: int = 20 * 1024 * 1024
    max_waiting_bytes: int = 128 * 1024 * 1024
    delivery_timeout_s: int = 8

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "GatewaySettings":
        """Read the environment. Raises InvalidSetting."""
        return cls(
            kafka=KafkaSettings.from_environment(environ),
            topic=spans_topic(environ),
            host=environ.get("TRACEWATCH_GATEWAY_HOST") or "127.0.0.1",
            port=whole_number(environ, "TRACEWATCH_GATEWAY_PORT", 4318),
            token=environ.get("TRACEWATCH_GATEWAY_TOKEN") or None,
            max_body_bytes=whole_number(environ, "TRACEWATCH_GATEWAY_MAX_BODY_BYTES", 20 * 1024 * 1024),
            max_waiting_bytes=whole_number(environ, "TRACEWATCH_GATEWAY_MAX_WAITING_BYTES", 128 * 1024 * 1024),
            # Exporters give up after 10 s by default: the gateway's answer has to be there before.
            delivery_timeout_s=whole_number(environ, "TRACEWATCH_GATEWAY_DELIVERY_TIMEOUT_S", 8),
        )
