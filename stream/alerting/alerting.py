"""Findings in, alert events out. One order of findings gives one series of events, whoever reads them and how often."""

from collections.abc import Iterable, Sequence

from stream.alerting.episode import Episode, begun
from stream.alerting.rules import DEFAULT_RULES, AlertRule
from tracecore.alert import Alert, fingerprint
from tracecore.finding import Finding


class Alerting:
    """The episodes under way. ``episodes`` is all its state; ``changed`` names what to store after each call."""

    def __init__(self, rules: Sequence[AlertRule] = DEFAULT_RULES, episodes: Iterable[Episode] = ()) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self.episodes = {episode.fingerprint: episode for episode in episodes}
        self._changed: set[str] = set()

    def on_finding(self, finding: Finding, detected_at_ns: int) -> list[Alert]:
        """Take a finding in; the events that follow. ``detected_at_ns`` is only written into them."""
        if cause := finding.labels.get("caused_by"):
            self._impact(cause, finding)
            return []
        alerts = []
        for rule in self._rules.values():
            if rule.accepts(finding):
                alerts += self._on_evidence(finding, rule, detected_at_ns)
        return alerts

    def on_tick(self, now_ns: int, detected_at_ns: int) -> list[Alert]:
        """Time has come to ``now_ns`` on the clock of arrivals; the events that follow, oldest episode first."""
        alerts = []
        for episode in sorted(self.episodes.values(), key=lambda episode: (episode.starts_at_ns, episode.fingerprint)):
            rule = self._rules.get(episode.rule)
            if rule is None or episode.is_over(rule, now_ns):
                # A rule that is gone ends what it began: nothing else ever would.
                if episode.status == "firing":
                    alerts.append(episode.alert("resolved", now_ns, detected_at_ns))
                del self.episodes[episode.fingerprint]
                self._changed.add(episode.fingerprint)
            elif episode.should_repeat(rule, now_ns):
                alerts.append(self._told(episode, now_ns, detected_at_ns))
        return alerts

    def changed(self) -> dict[str, Episode | None]:
        """Episodes that changed since the last call, by fingerprint; None for one that is over."""
        changed: dict[str, Episode | None] = {name: self.episodes.get(name) for name in sorted(self._changed)}
        self._changed.clear()
        return changed

    def _on_evidence(self, finding: Finding, rule: AlertRule, detected_at_ns: int) -> list[Alert]:
        labels = labels_of(finding, rule)
        name = fingerprint(labels)
        episode = self.episodes.get(name)
        if episode is None:
            episode = self.episodes[name] = begun(finding, rule, name, labels)
        episode.add(finding, rule)
        self._changed.add(name)
        if episode.should_fire(rule):
            episode.status = "firing"
            episode.recent = []
            return [self._told(episode, finding.arrival_ns, detected_at_ns)]
        return []

    def _told(self, episode: Episode, now_ns: int, detected_at_ns: int) -> Alert:
        episode.told_at_ns = now_ns
        self._changed.add(episode.fingerprint)
        return episode.alert("firing", now_ns, detected_at_ns)

    def _impact(self, cause: str, finding: Finding) -> None:
        for episode in self.episodes.values():
            if episode.labels["service"] == cause and episode.labels["kind"] == finding.kind:
                episode.impact((finding.service,))
                self._changed.add(episode.fingerprint)


def labels_of(finding: Finding, rule: AlertRule) -> dict[str, str]:
    """The labels that identify the alert which ``finding`` is evidence of."""
    return {
        **finding.labels,
        "alertname": rule.name,
        "kind": finding.kind,
        "service": finding.service,
        "operation": finding.operation,
        "severity": rule.severity,
    } | ({"replay_id": finding.replay_id} if finding.replay_id else {})
