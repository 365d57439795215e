"""Alerts to notifications: what belongs together is told together, once, and again only if it changed or lasts.

A group is all alerts alike in the labels of ``group_by``. A new group waits ``group_wait`` for company; one that has
been told waits ``group_interval`` before it tells of changes; unchanged, it is told again after ``repeat_interval``.

Source: Prometheus Alertmanager, dispatching.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tracecore.alert import Alert

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Labels to group by, and nanoseconds to wait."""

    group_by: tuple[str, ...] = ("alertname", "service")
    group_wait_ns: int = 2 * SECOND_NS
    group_interval_ns: int = 60 * SECOND_NS
    repeat_interval_ns: int = 4 * 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class Notification:
    """What one group has to tell: its alerts, firing ones first. ``key`` is the same for the same group."""

    key: str
    group_labels: Mapping[str, str]
    alerts: tuple[Alert, ...]

    @property
    def status(self) -> str:
        """Firing while any alert fires."""
        return "firing" if any(alert.status == "firing" for alert in self.alerts) else "resolved"


@dataclass(slots=True)
class _Group:
    labels: dict[str, str]
    due_ns: int
    alerts: dict[str, Alert] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    told_at_ns: int = 0


class Grouping:
    """The groups that have something to tell, or may have it again."""

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings
        self._groups: dict[str, _Group] = {}

    def add(self, alert: Alert, now_ns: int) -> None:
        """Take an alert event in. One that was told already changes nothing."""
        labels = {name: alert.labels.get(name, "") for name in self._settings.group_by}
        key = group_key(labels)
        group = self._groups.get(key)
        if group is None:
            if alert.status == "resolved":
                return  # nobody was told that it fired
            group = self._groups[key] = _Group(labels, now_ns + self._settings.group_wait_ns)
        if group.told.get(alert.fingerprint) == alert.event_id:
            return
        if not group.due_ns:
            group.due_ns = max(group.told_at_ns + self._settings.group_interval_ns, now_ns)
            if alert.status == "firing" and alert.fingerprint not in group.told:
                group.due_ns = now_ns + self._settings.group_wait_ns
        group.alerts[alert.fingerprint] = alert

    def learn(self, alert: Alert, now_ns: int) -> None:
        """Take in an event that was told in an earlier life."""
        labels = {name: alert.labels.get(name, "") for name in self._settings.group_by}
        key = group_key(labels)
        group = self._groups.setdefault(key, _Group(labels, 0, told_at_ns=now_ns))
        if alert.status == "firing":
            group.alerts[alert.fingerprint] = alert
            group.told[alert.fingerprint] = alert.event_id
        else:
            group.alerts.pop(alert.fingerprint, None)
            group.told.pop(alert.fingerprint, None)
        if not group.alerts:
            del self._groups[key]

    @property
    def is_idle(self) -> bool:
        """True if no group has news that it waits to tell."""
        return not any(group.due_ns for group in self._groups.values())

    def due(self, now_ns: int) -> list[Notification]:
        """What is to be told now; the groups count as told."""
        notifications: list[Notification] = []
        for key, group in sorted(self._groups.items()):
            repeats = group.told_at_ns and now_ns - group.told_at_ns >= self._settings.repeat_interval_ns
            if not (group.due_ns and now_ns >= group.due_ns) and not repeats:
                continue
            tellable = [a for a in group.alerts.values() if _is_news(a, group)]
            if tellable:
                notifications.append(Notification(key, group.labels, _ordered(tellable)))
            group.told = {alert.fingerprint: alert.event_id for alert in tellable}
            group.alerts = {a.fingerprint: a for a in tellable if a.status == "firing"}
            group.told_at_ns, group.due_ns = now_ns, 0
        self._groups = {key: group for key, group in self._groups.items() if group.alerts}
        return notifications


def _is_news(alert: Alert, group: _Group) -> bool:
    # An alert that came and went while the group waited was never told: there is nothing to take back. Of a replay,
    # which passes hours in seconds, most come and go so, and somebody asked to be told of them.
    return alert.status == "firing" or alert.fingerprint in group.told or bool(alert.replay_id)


def group_key(labels: Mapping[str, str]) -> str:
    """A readable name of a group, as Alertmanager writes it."""
    inside = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
    return f"{{}}:{{{inside}}}"


def _ordered(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    return tuple(sorted(alerts, key=lambda alert: (alert.status != "firing", alert.starts_at_ns, alert.fingerprint)))
