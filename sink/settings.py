"""Every knob of the sink: TRACEWATCH_SINK_*. Read once, passed down as values."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from sink.batches import BatchLimits


class SinkSettings(BaseSettings):
    """How history is written and how long it is kept."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_SINK_", frozen=True)

    group_id: str = Field("tracewatch-sink", min_length=1, description="Consumer group; more sinks share the work.")
    batch_rows: int = Field(10_000, ge=1, le=200_000, description="Spans, windows and alerts that a batch holds.")
    batch_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, description="Bytes of records that a batch holds."
    )
    flush_after_s: float = Field(0.2, ge=0, le=60, description="A batch is stored at this age, however small it is.")
    compiled: Literal["under_load", "always", "never"] = Field(
        "under_load",
        description="When rows are made by compiled code: from the first full batch on, from the start, or never.",
    )
    parts_timeout_s: float = Field(
        5.0,
        ge=0,
        le=600,
        description="How long the missing parts of a large trace are awaited before the rest is stored.",
    )
    session_timeout_s: float = Field(
        10.0, ge=1, le=300, description="A sink silent for this long loses its partitions."
    )
    retry_max_s: float = Field(5.0, ge=0.1, le=300, description="Longest pause between two tries to reach PostgreSQL.")

    retention_spans_days: int = Field(14, ge=1, le=36_500, description="Spans and traces are kept this long.")
    retention_statistics_days: int = Field(
        90, ge=1, le=36_500, description="Windows by the minute, the graph by the minute and counts of errors."
    )
    retention_summary_days: int = Field(
        730, ge=1, le=36_500, description="Windows by the hour, alerts, health and groups of errors."
    )
    retention_interval_s: float = Field(
        3600, ge=0, description="How often partitions are made ahead and old ones dropped; 0: only by the command."
    )
    partitions_ahead_days: int = Field(3, ge=0, le=60, description="Days whose partitions are made ahead.")

    stalled_s: float = Field(60.0, ge=1, description="Unhealthy after no progress for this long while lag is there.")
    broker_timeout_s: float = Field(120.0, ge=1, description="How long to wait for the broker at start.")
    host: str = Field("127.0.0.1", description="Address of /healthz and /metrics.")
    port: int = Field(6067, ge=0, le=65535, description="Port of /healthz and /metrics; 0 takes a free one.")

    @property
    def batch_limits(self) -> BatchLimits:
        """When a batch is due."""
        return BatchLimits(self.batch_rows, self.batch_bytes, self.flush_after_s, self.parts_timeout_s)
