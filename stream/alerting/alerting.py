"""Findings in, alert events out. One order of findings gives one series of events, whoever reads them and how often."""

from collections.abc import Iterable, Mapping, Sequence

from stream.alerting.episode import Episode, Place, begun
from stream.alerting.history import History
from stream.alerting.inhibition import is_held_back
from stream.alerting.rules import DEFAULT_RULES, AlertRule
from tracecore.alert import Alert, fingerprint
from tracecore.finding import Finding

#: Fingerprints whose past is remembered; beyond it the one longest without evidence is forgotten.
MAX_HISTORIES = 10_000


class Alerting:
    """The episodes under way, and their past. That is all its state; ``changed`` tells what to store of it."""

    def __init__(
        self,
        rules: Sequence[AlertRule] = DEFAULT_RULES,
        episodes: Iterable[Episode] = (),
        histories: Mapping[str, History] | None = None,
    ) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.episodes = {episode.fingerprint: episode for episode in episodes}
        self.histories = dict(histories or {})
        self._changed: set[str] = set()
        self._changed_histories: set[str] = set()

    def use(self, rules: Sequence[AlertRule]) -> None:
        """Go on by other rules. Episodes of a rule that is gone end at the next tick."""
        self.rules = {rule.name: rule for rule in rules}

    def on_finding(self, finding: Finding, detected_at_ns: int, place: Place = ()) -> list[Alert]:
        """Take a finding in; the events that follow. ``detected_at_ns`` is only written into them.

        ``place`` grows with every finding: what an episode was stored with is not counted again when it is read again.
        """
        if cause := finding.labels.get("caused_by"):
            self._impact(cause, finding)
            return []
        alerts: list[Alert] = []
        for rule in self.rules.values():
            if rule.accepts(finding):
                alerts += self._on_evidence(finding, rule, detected_at_ns, place)
        if finding.kind == "error" and finding.impacted:
            alerts += self._explain(finding, detected_at_ns, place)
        return alerts

    def on_tick(self, now_ns: int, detected_at_ns: int) -> list[Alert]:
        """Time has come to ``now_ns`` on the clock of arrivals; the events that follow, oldest episode first."""
        alerts: list[Alert] = []
        for episode in sorted(self.episodes.values(), key=lambda episode: (episode.starts_at_ns, episode.fingerprint)):
            rule = self.rules.get(episode.rule)
            if rule is None or episode.is_over(rule, now_ns):
                # A rule that is gone ends what it began: nothing else ever would.
                alerts += self._ended(episode, now_ns, detected_at_ns)
            elif episode.should_repeat(rule, now_ns) or self._should_fire(episode, rule, now_ns):
                alerts.append(self._fired(episode, now_ns, detected_at_ns))
        return alerts

    def changed(self) -> tuple[dict[str, Episode | None], dict[str, History | None]]:
        """Episodes and histories that changed since the last call, by fingerprint; None for what is over."""
        episodes = {name: self.episodes.get(name) for name in sorted(self._changed)}
        histories = {name: self.histories.get(name) for name in sorted(self._changed_histories)}
        self._changed.clear()
        self._changed_histories.clear()
        return episodes, histories

    def _on_evidence(self, finding: Finding, rule: AlertRule, detected_at_ns: int, place: Place) -> list[Alert]:
        labels = labels_of(finding, rule)
        name = fingerprint(labels)
        episode = self.episodes.get(name)
        if episode is None:
            episode = self.episodes[name] = begun(finding, rule, name, labels)
            episode.is_new = rule.learns and name not in self.histories
        if not episode.moves_on(place):
            return []
        episode.add(finding, rule)
        self._changed.add(name)
        fires = self._should_fire(episode, rule, finding.arrival_ns)
        if rule.learns and self._history(name).learn(finding.arrival_ns):
            self._changed_histories.add(name)
        return [self._fired(episode, finding.arrival_ns, detected_at_ns)] if fires else []

    def _should_fire(self, episode: Episode, rule: AlertRule, now_ns: int) -> bool:
        if not episode.should_fire(rule) or is_held_back(episode, self.episodes.values(), now_ns):
            return False
        if not rule.learns or episode.is_new:
            return True
        return self._history(episode.fingerprint).is_news(episode.recent_count, rule.within_ns, now_ns)

    def _fired(self, episode: Episode, now_ns: int, detected_at_ns: int) -> Alert:
        if episode.status == "pending":
            episode.status = "firing"
            episode.recent = []
            episode.patience = self._history(episode.fingerprint).fired(now_ns)
            self._changed_histories.add(episode.fingerprint)
        episode.told_at_ns = now_ns
        self._changed.add(episode.fingerprint)
        return episode.alert("firing", now_ns, detected_at_ns)

    def _ended(self, episode: Episode, now_ns: int, detected_at_ns: int, **annotations: str) -> list[Alert]:
        del self.episodes[episode.fingerprint]
        self._changed.add(episode.fingerprint)
        if episode.status != "firing":
            return []
        self._history(episode.fingerprint).resolved_at_ns = now_ns
        self._changed_histories.add(episode.fingerprint)
        return [episode.alert("resolved", now_ns, detected_at_ns, **annotations)]

    def _impact(self, cause: str, finding: Finding) -> None:
        for episode in self._errors_of(cause, finding.replay_id):
            episode.impact_of(finding)
            self._changed.add(episode.fingerprint)

    def _explain(self, finding: Finding, detected_at_ns: int, place: Place) -> list[Alert]:
        """An error came from further down than was thought: those that passed it on are no cause."""
        alerts: list[Alert] = []
        for service in finding.impacted:
            for episode in self._errors_of(service, finding.replay_id):
                if service == finding.service and episode.labels["operation"] == finding.operation:
                    continue  # of its own service it explains the spans above, not itself
                if not episode.moves_on(place):
                    continue
                episode.explained = min(episode.explained + finding.observed, episode.count)
                self._changed.add(episode.fingerprint)
                if episode.explained >= episode.count:
                    cause = finding.service
                    alerts += self._ended(episode, finding.arrival_ns, detected_at_ns, inhibited_by=cause)
        return alerts

    def _errors_of(self, service: str, replay_id: str) -> list[Episode]:
        return [
            episode
            for episode in list(self.episodes.values())
            if episode.labels["service"] == service
            and episode.labels["kind"] == "error"
            and episode.replay_id == replay_id
        ]

    def _history(self, name: str) -> History:
        history = self.histories.get(name)
        if history is None:
            history = self.histories[name] = History()
            if len(self.histories) > MAX_HISTORIES:
                oldest = min(self.histories, key=lambda key: (self.histories[key].faded_at_ns, key))
                del self.histories[oldest]
                self._changed_histories.add(oldest)
        return history


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
