"""An alert as a person, a webhook and the history see it. Its life is Alertmanager's: firing, then resolved.

Source: Prometheus Alertmanager, data model of alerts and fingerprints.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

AlertStatus = Literal["firing", "resolved"]
Severity = Literal["info", "warning", "critical"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why the alert fired. ``observed`` and ``baseline`` share ``unit``; trace ids in hex, newest last."""

    observed: float
    baseline: float | None
    unit: str
    count: int
    sample_trace_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """One event of an alert's life.

    ``labels`` identify the alert: ``alertname``, ``service``, ``operation``, ``severity`` and what its kind adds;
    ``annotations`` explain it: ``summary``, ``description``. An episode is ``fingerprint`` and ``starts_at_ns``; its
    events differ in ``status`` and ``updated_at_ns``. All times are event time except ``detected_at_ns``, the
    pipeline's clock when this event was made. ``ends_at_ns`` is None while it fires.
    """

    fingerprint: str
    status: AlertStatus
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at_ns: int
    updated_at_ns: int
    ends_at_ns: int | None
    detected_at_ns: int
    evidence: Evidence
    replay_id: str = ""

    @property
    def event_id(self) -> str:
        """The same for the same event, however often it is published."""
        return f"{self.fingerprint}-{self.starts_at_ns}-{self.status}"

    @property
    def severity(self) -> str:
        """Label ``severity``."""
        return self.labels["severity"]

    @property
    def service(self) -> str:
        """Label ``service``: the cause, as far as it is known."""
        return self.labels["service"]


def fingerprint(labels: Mapping[str, str]) -> str:
    """16 hex digits that depend on the labels alone, in any order."""
    digest = hashlib.blake2b(digest_size=8)
    for name, value in sorted(labels.items()):
        digest.update(f"{name}\xff{value}\xff".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
