"""Alerts that were: episodes in a range, and the numbers around one of them. Replays and back-tests too."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dashboard.queries.query import Query, Row, moment, nanoseconds, query
from dashboard.time_range import HOUR_NS, MINUTE_NS, TimeRange
from tracecore.alert import Alert

Measure = Literal["duration", "own_time", "error_ratio", "rate"]


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert from firing to resolved; ``ends_at_ns`` None while it fires, ``replay_id`` empty if it was live."""

    fingerprint: str
    name: str
    service: str
    operation: str
    severity: str
    firing: bool
    starts_at_ns: int
    ends_at_ns: int | None
    detected_at_ns: int
    labels: Mapping[str, str]
    summary: str
    description: str
    observed: float | None
    baseline: float | None
    unit: str
    count: int
    sample_trace_ids: tuple[str, ...]
    replay_id: str = ""

    @property
    def episode_id(self) -> str:
        """What names it in a URL."""
        return f"{self.fingerprint}-{self.starts_at_ns}" + (f"-{self.replay_id}" if self.replay_id else "")

    @property
    def around(self) -> TimeRange:
        """The range in which to look at it: half an hour before, and some time after."""
        end_ns = self.ends_at_ns or self.starts_at_ns + 10 * MINUTE_NS
        return TimeRange(self.starts_at_ns - 30 * MINUTE_NS, end_ns + 10 * MINUTE_NS)

    @property
    def measure(self) -> Measure:
        """Which number shows it over time. A latency shift is judged on own time and network, not on durations."""
        if self.labels.get("kind") == "latency_shift":
            return "own_time"
        if self.unit in ("errors", "ratio", "1"):
            return "error_ratio"
        return "rate" if self.unit in ("1/s", "spans/s") else "duration"


def episodes(span: TimeRange, service: str = "") -> Query:
    """Episodes that overlap the range, newest first."""
    return query(
        f"""
        SELECT * FROM alerts
        WHERE starts_at < %(end)s AND (ends_at IS NULL AND (status = 'firing' OR starts_at >= %(start)s)
              OR ends_at >= %(start)s)
          {"AND service = %(service)s" if service else ""}
        ORDER BY starts_at DESC LIMIT 500
        """,
        start=moment(span.start_ns),
        end=moment(span.end_ns),
        **({"service": service} if service else {}),
    )


def firing() -> Query:
    """Live episodes that fire now."""
    return query("SELECT * FROM alerts WHERE status = 'firing' AND replay_id = '' ORDER BY starts_at DESC LIMIT 200")


def one_episode(fingerprint: str, starts_at_ns: int, replay_id: str) -> Query:
    """One episode, or none."""
    return query(
        "SELECT * FROM alerts WHERE fingerprint = %(f)s AND starts_at_ns = %(s)s AND replay_id = %(r)s",
        f=fingerprint,
        s=starts_at_ns,
        r=replay_id,
    )


def episode_key(text: str) -> tuple[str, int, str] | None:
    """An ``Episode.episode_id`` taken apart, or None."""
    fingerprint, _, rest = text.partition("-")
    starts_at, _, replay_id = rest.partition("-")
    return (fingerprint, int(starts_at), replay_id) if fingerprint and starts_at.isdigit() else None


def episodes_of(rows: Iterable[Row]) -> list[Episode]:
    """Rows of ``alerts`` as episodes."""
    made = []
    for row in rows:
        annotations, evidence = _mapping(row["annotations"]), _mapping(row["evidence"])
        made.append(
            Episode(
                row["fingerprint"],
                row["alertname"],
                row["service"],
                row["operation"],
                row["severity"],
                row["status"] == "firing",
                row["starts_at_ns"],
                nanoseconds(row["ends_at"]) if row["ends_at"] else None,
                nanoseconds(row["detected_at"]),
                {str(name): str(value) for name, value in _mapping(row["labels"]).items()},
                str(annotations.get("summary", "")),
                str(annotations.get("description", "")),
                evidence.get("observed"),
                evidence.get("baseline"),
                str(evidence.get("unit", "")),
                int(evidence.get("count") or 0),
                tuple(str(trace_id) for trace_id in evidence.get("sample_trace_ids") or ()),
                row["replay_id"],
            )
        )
    return made


def episode_of(alert: Alert) -> Episode:
    """A live alert as an episode."""
    evidence = alert.evidence
    return Episode(
        alert.fingerprint,
        alert.labels.get("alertname", ""),
        alert.labels.get("service", ""),
        alert.labels.get("operation", ""),
        alert.labels.get("severity", ""),
        alert.status == "firing",
        alert.starts_at_ns,
        alert.ends_at_ns,
        alert.detected_at_ns,
        alert.labels,
        alert.annotations.get("summary", ""),
        alert.annotations.get("description", ""),
        evidence.observed,
        evidence.baseline,
        evidence.unit,
        evidence.count,
        evidence.sample_trace_ids,
        alert.replay_id,
    )


def surroundings(episode: Episode, now_ns: int) -> TimeRange:
    """The range of an episode's chart: not beyond now, not longer than six hours."""
    around = episode.around
    end_ns = min(max(around.end_ns, now_ns) if episode.firing else around.end_ns, now_ns)
    return TimeRange(max(around.start_ns, end_ns - 6 * HOUR_NS), max(end_ns, around.start_ns + MINUTE_NS))


def _mapping(value: Any) -> dict[str, Any]:
    loaded = json.loads(value) if isinstance(value, str) else value
    return dict(loaded) if isinstance(loaded, Mapping) else {}
