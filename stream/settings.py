"""Every knob of the stream: TRACEWATCH_STREAM_*. Read once, passed down as values."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from stream.assembler import Limits
from stream.sampling import SamplingRule
from stream.windows import WindowLimits

_SECOND_NS = 1_000_000_000


class StreamSettings(BaseSettings):
    """How traces are assembled, windowed and sampled, and how the worker runs."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_STREAM_", frozen=True)

    settle_s: float = Field(2.0, ge=0.1, le=600, description="A trace with a root closes after this much silence.")
    idle_s: float = Field(10.0, ge=0.1, le=3600, description="A trace without a root closes after this much silence.")
    max_age_s: float = Field(60.0, ge=1, le=24 * 3600, description="A trace closes at this age, whatever comes.")
    max_spans: int = Field(50_000, ge=2, description="A trace closes at this many spans; more make a new revision.")
    amend_s: float = Field(60.0, ge=0, le=24 * 3600, description="How long spans that come late amend a closed trace.")
    memory_spans: int = Field(
        400_000, ge=1000, description="Spans a worker holds, open or to be amended; beyond, the oldest are let go."
    )

    window_grace_s: float = Field(10.0, ge=0, le=600, description="A window closes this long after its end.")
    span_past_s: float = Field(
        120.0, ge=10, le=3600, description="A span that ended longer before its arrival counts at its arrival."
    )
    span_future_s: float = Field(
        5.0, ge=0, le=600, description="A span that ends further in the future counts at its arrival."
    )
    window_series: int = Field(
        10_000, ge=10, description="Operations, and hops, that a window of a partition tells apart; others are summed."
    )

    sample_share: float = Field(1.0, ge=0, le=1, description="Share of ordinary traces to keep; 1 keeps everything.")
    sample_shares: dict[str, float] = Field(
        default_factory=dict, description='Shares by root service, as JSON: {"checkout": 1.0}.'
    )
    sample_slow_quantile: float = Field(
        0.99, gt=0, lt=1, description="Traces above this quantile of their root operation are kept as slow."
    )

    app_id: str = Field(
        "",
        description="Consumer group, and prefix of Faust's own topics; empty: the topic prefix and stream or replay.",
    )
    source_topic: str = Field("", description="Topic of spans to assemble; empty: the deployment's spans topic.")
    replay_id: str = Field("", description="Serve this replay alone; for a worker whose source is the replay topic.")
    replay_notify: bool = Field(False, description="Tell receivers of notifications of that replay's alerts, too.")
    router: bool = Field(True, description="Also route the Collector's topic to the spans topic.")
    commit_interval_s: float = Field(1.0, ge=0.1, le=60, description="How often watermarks are committed.")
    session_timeout_s: float = Field(10.0, ge=1, le=300, description="A worker silent for this long loses its work.")
    linger_s: float = Field(0.01, ge=0, le=1, description="How long records wait for company before they are sent.")
    compression: str = Field("", pattern="^(gzip|snappy|lz4|zstd|)$", description="Compression of what is sent.")
    stalled_s: float = Field(60.0, ge=1, description="Unhealthy after no progress for this long while lag is there.")
    broker_timeout_s: float = Field(120.0, ge=1, description="How long to wait for the broker at start.")
    data_dir: Path | None = Field(None, description="Where Faust keeps its files; a temporary directory, if unset.")
    host: str = Field("127.0.0.1", description="Address of /healthz and /metrics.")
    port: int = Field(6066, ge=0, le=65535, description="Port of /healthz and /metrics; 0 takes a free one.")

    @property
    def limits(self) -> Limits:
        """When traces close."""
        return Limits(_ns(self.settle_s), _ns(self.idle_s), _ns(self.max_age_s), self.max_spans, _ns(self.amend_s))

    @property
    def window_limits(self) -> WindowLimits:
        """When windows close, and what belongs to them."""
        return WindowLimits(
            _ns(self.window_grace_s), _ns(self.span_past_s), _ns(self.span_future_s), self.window_series
        )

    @property
    def sampling(self) -> SamplingRule:
        """What is kept."""
        return SamplingRule(self.sample_share, self.sample_shares, self.sample_slow_quantile)


def _ns(seconds: float) -> int:
    return round(seconds * _SECOND_NS)
