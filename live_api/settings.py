"""Settings of live_api: the environment, TRACEWATCH_LIVE_API_*."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


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
        30.0, gt=0, description="Seconds without taking a byte after which a slow subscriber is closed."
    )
    max_subscribers: int = Field(2000, ge=1, description="Subscribers of all feeds together; more are refused (503).")
