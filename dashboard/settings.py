"""What the dashboard is told by its environment."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class DashboardSettings(BaseSettings):
    """Where the dashboard listens, and what it asks besides the database."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_DASHBOARD_", frozen=True)

    host: str = Field("127.0.0.1", description="Address that the dashboard listens on.")
    port: int = Field(8501, ge=0, le=65535, description="Port that the dashboard listens on; 0 takes a free one.")
    live_api_url: str = Field(
        "http://127.0.0.1:8600", pattern=r"^https?://", description="Where live_api is: live alerts and silences."
    )
    live_api_token: SecretStr = Field(SecretStr(""), description="Bearer token for live_api; empty if it asks none.")
    stream_url: str = Field(
        "http://127.0.0.1:6066", pattern=r"^https?://", description="Where the stream's /metrics is."
    )
    sink_url: str = Field("http://127.0.0.1:6067", pattern=r"^https?://", description="Where the sink's /metrics is.")
    query_timeout_s: float = Field(20.0, gt=0, description="After this long the database gives up on a query.")
    connections: int = Field(6, ge=1, le=100, description="Database connections that all viewers share.")
