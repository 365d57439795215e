"""Alerts in PostgreSQL: a row an episode, which its events bring up to date."""

from collections.abc import Sequence

import psycopg
from psycopg.types.json import Jsonb

from sink.postgres import time_of
from tracecore.alert import Alert


def store_alerts(connection: psycopg.Connection, alerts: Sequence[Alert]) -> None:
    """Store events of alerts, within the caller's transaction. An older event never overwrites a newer one."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO alerts AS a (fingerprint, starts_at_ns, replay_id, starts_at, ends_at, updated_at,"
            " detected_at, resolved_at, updated_at_ns, status, alertname, service, operation, severity, labels,"
            " annotations, evidence) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (fingerprint, starts_at_ns, replay_id) DO UPDATE SET ends_at = EXCLUDED.ends_at,"
            " updated_at = EXCLUDED.updated_at, detected_at = least(a.detected_at, EXCLUDED.detected_at),"
            " resolved_at = EXCLUDED.resolved_at, updated_at_ns = EXCLUDED.updated_at_ns, status = EXCLUDED.status,"
            " labels = EXCLUDED.labels, annotations = EXCLUDED.annotations, evidence = EXCLUDED.evidence"
            " WHERE (EXCLUDED.status, EXCLUDED.updated_at_ns) >= (a.status, a.updated_at_ns)",
            [_row(alert) for alert in alerts],
        )


def _row(alert: Alert) -> tuple[object, ...]:
    labels, evidence = alert.labels, alert.evidence
    detected_at = time_of(alert.detected_at_ns)
    return (
        alert.fingerprint,
        alert.starts_at_ns,
        alert.replay_id,
        time_of(alert.starts_at_ns),
        time_of(alert.ends_at_ns) if alert.ends_at_ns is not None else None,
        time_of(alert.updated_at_ns),
        detected_at,
        detected_at if alert.status == "resolved" else None,
        alert.updated_at_ns,
        alert.status,
        labels.get("alertname", ""),
        labels.get("service", ""),
        labels.get("operation", ""),
        labels.get("severity", ""),
        Jsonb(labels),
        Jsonb(alert.annotations),
        Jsonb(
            {
                "observed": evidence.observed,
                "baseline": evidence.baseline,
                "unit": evidence.unit,
                "count": evidence.count,
                "sample_trace_ids": evidence.sample_trace_ids,
            }
        ),
    )
