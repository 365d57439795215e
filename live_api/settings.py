"""Settings of live_api: the environment, TRACEWATCH_LIVE_API_*."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from live_api.access import tokens_of


class LiveApiSettings(BaseSettings):
    """Where it listens, who may call, how much it holds."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_LIVE_API_", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8600, ge=1, le=65535, description="Port to listen on.")
    heartbeat_s: float = Field(15.0, gt=0, le=3600, description="Seconds between heartbeats of a feed.")
    lookback_h: float = Field(168.0, gt=0, description="Hours of alerts that are read at the start for what fires.")
    retained_events: int = Field(10_000, ge=1, description="Events a feed holds in memory; older ones come from Kafka.")
    retained_bytes: int = Field(32_000_000, ge=1000, description="Bytes of events a feed holds in memory.")
    max_buffer_bytes: int = Field(
        262_144, ge=1024, description="Bytes that may wait for a slow subscriber before it counts as behind."
    )
    stuck_after_s: float = Field(
        30.0, gt=0, description="Seconds without taking a byte, or without a request, after which a caller is cut."
    )
    max_subscribers: int = Field(2000, ge=1, description="Subscribers of all feeds together; more are refused (503).")
    max_connections: int = Field(
        4000, ge=1, description="Open connections, subscribers among them, beyond which requests are refused (503)."
    )
    tokens: SecretStr = Field(SecretStr(""), description="Bearer tokens, comma-separated; none: everyone may call.")
    tokens_file: Path | None = Field(None, description="File with a bearer token a line; # begins a comment.")
    allowed_origins: str = Field(
        "", description="Origins of web pages that may call, comma-separated, like https://grafana.example.org."
    )
    query_timeout_s: float = Field(10.0, gt=0, le=600, description="Seconds that a query of PostgreSQL may take.")
    max_spans: int = Field(20_000, ge=1, description="Spans of all traces of one answer; one trace comes whole.")
    max_operations: int = Field(
        2000, ge=1, description="Operations with figures of their own on /metrics; the rest add up under one name."
    )

    @field_validator("tokens_file")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None:
            try:
                path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ValueError(f"cannot be read: {error}") from None
        return path

    @property
    def all_tokens(self) -> list[str]:
        """From both places."""
        return tokens_of(self.tokens.get_secret_value(), self.tokens_file.read_text() if self.tokens_file else "")

    @property
    def origins(self) -> list[str]:
        """Allowed origins."""
        return [origin.strip() for origin in self.allowed_origins.split(",") if origin.strip()]
