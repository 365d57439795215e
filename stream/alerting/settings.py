"""Knobs of alerting: TRACEWATCH_STREAM_ALERT_*. Secrets stand in the environment and nowhere else."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class AlertingSettings(BaseSettings):
    """What alerts by which rules, and who is told."""

    model_config = SettingsConfigDict(env_prefix="TRACEWATCH_STREAM_", frozen=True)

    alert_rules: Path | None = Field(None, description="Rules of alerting, YAML; built-in rules, if unset.")
    alert_webhook_urls: list[SecretStr] = Field(
        default_factory=list, description="JSON list of URLs that get Alertmanager's webhook payload, version 4."
    )
    alert_alertmanager_urls: list[SecretStr] = Field(
        default_factory=list, description="JSON list of Alertmanagers' base URLs; alerts go to their API v2."
    )
    alert_slack_urls: list[SecretStr] = Field(
        default_factory=list, description="JSON list of Slack-compatible incoming webhooks."
    )
    alert_group_by: list[str] = Field(
        ["alertname", "service"], description="JSON list of labels: alerts alike in them are told together."
    )
    alert_group_wait_s: float = Field(2.0, ge=0, le=600, description="How long a new group waits for company.")
    alert_external_url: str = Field("", description="Where people look alerts up; a link in what is told.")
