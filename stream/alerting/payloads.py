"""What receivers are sent: Alertmanager's webhook payload, its API's alerts, and Slack's message.

Sources: Prometheus Alertmanager, webhook receiver (version 4) and OpenAPI v2 ``postableAlerts``; Slack, incoming
webhooks.
"""

from datetime import UTC, datetime
from typing import Any

from stream.alerting.grouping import Notification
from tracecore.alert import Alert

#: Go's zero time: Alertmanager's "has not ended".
NO_END = "0001-01-01T00:00:00Z"
MAX_SLACK_ALERTS = 10
_COLORS = {"critical": "#c4281b", "warning": "#d9822b", "info": "#3b7dd8"}


def webhook_payload(notification: Notification, receiver: str, external_url: str) -> dict[str, Any]:
    """Version 4 of Alertmanager's webhook payload."""
    alerts = notification.alerts
    return {
        "version": "4",
        "groupKey": notification.key,
        "truncatedAlerts": 0,
        "status": notification.status,
        "receiver": receiver,
        "groupLabels": dict(notification.group_labels),
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": external_url,
        "alerts": [
            {
                "status": alert.status,
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": rfc3339(alert.starts_at_ns),
                "endsAt": rfc3339(alert.ends_at_ns) if alert.ends_at_ns is not None else NO_END,
                "generatorURL": _link(alert, external_url),
                "fingerprint": alert.fingerprint,
            }
            for alert in alerts
        ],
    }


def postable_alerts(notification: Notification, external_url: str) -> list[dict[str, Any]]:
    """The body of ``POST /api/v2/alerts``. Labels with empty values are left out, as Alertmanager wants it."""
    posted = []
    for alert in notification.alerts:
        body: dict[str, Any] = {
            "labels": {name: value for name, value in alert.labels.items() if value},
            "annotations": alert.annotations,
            "startsAt": rfc3339(alert.starts_at_ns),
        }
        if alert.ends_at_ns is not None:
            body["endsAt"] = rfc3339(alert.ends_at_ns)
        if link := _link(alert, external_url):
            body["generatorURL"] = link
        posted.append(body)
    return posted


def slack_message(notification: Notification, external_url: str) -> dict[str, Any]:
    """A message with an attachment an alert; of very many, the first and how many more there are."""
    alerts = notification.alerts
    firing = sum(alert.status == "firing" for alert in alerts)
    state = f"FIRING: {firing}" if firing else "RESOLVED"
    name = " ".join(value for value in notification.group_labels.values() if value)
    attachments = [
        {
            "color": _COLORS[alert.severity] if alert.status == "firing" else "#2e8540",
            "title": alert.annotations["summary"],
            "title_link": _link(alert, external_url),
            "text": alert.annotations["description"],
            "fallback": f"{alert.status}: {alert.annotations['summary']}",
        }
        for alert in alerts[:MAX_SLACK_ALERTS]
    ]
    if len(alerts) > MAX_SLACK_ALERTS:
        attachments.append({"text": f"and {len(alerts) - MAX_SLACK_ALERTS} more"})
    return {"text": f"[{state}] {name}", "attachments": attachments}


def rfc3339(time_ns: int) -> str:
    """A time in UTC, to the microsecond."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _link(alert: Alert, external_url: str) -> str:
    return f"{external_url.rstrip('/')}/alerts?fingerprint={alert.fingerprint}" if external_url else ""


def _common(mappings: list[dict[str, str]]) -> dict[str, str]:
    first, *others = mappings
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
