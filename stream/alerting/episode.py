"""An episode: one alert from its first evidence to its end. The state machine; it is handed the time, and asked.

(nothing) ──evidence──► pending ──enough of it, for long enough──► firing ──quiet──► resolved
                           └──────────quiet──────────► (nothing)
"""

from dataclasses import dataclass, field
from typing import Literal

from stream.alerting.rules import AlertRule
from tracecore.alert import Alert, AlertStatus, Evidence
from tracecore.finding import Finding

#: Sample traces that an alert carries.
MAX_SAMPLES = 5
#: Pieces of evidence held while an episode is pending.
MAX_RECENT = 256
#: What is said of a slow span, by the part of it that is: its own time, or the way to it.
SLOW_PARTS = {"self_time": "slow span", "gap": "slow to reach"}

#: Where a finding stands in its topic: offset, and number within the record. Empty where there is no order to rest on.
Place = tuple[()] | tuple[int, int]


@dataclass(slots=True)
class Episode:
    """What is known of one alert. All times are arrival times but ``starts_at_ns`` and ``last_at_ns``, event time."""

    fingerprint: str
    rule: str
    labels: dict[str, str]
    status: Literal["pending", "firing"]
    starts_at_ns: int
    last_at_ns: int
    first_arrival_ns: int
    last_arrival_ns: int
    observed: float
    baseline: float | None
    unit: str
    message: str
    replay_id: str = ""
    count: float = 0.0
    #: Of ``count``, what a service further down turned out to have caused.
    explained: float = 0.0
    #: Quiet is waited for this many times longer, since the alert flaps.
    patience: int = 1
    is_new: bool = False
    told_at_ns: int = 0
    samples: list[str] = field(default_factory=list)
    impacted: list[str] = field(default_factory=list)
    #: From the edge of the system to the cause, in the trace of the first evidence.
    path: list[str] = field(default_factory=list)
    path_trace_id: str = ""
    #: Arrival and weight of evidence, while pending.
    recent: list[tuple[int, float]] = field(default_factory=list)
    #: Place of the last finding that was counted.
    offset: int = -1
    number: int = -1

    def moves_on(self, place: Place) -> bool:
        """Note the place of a finding; False if it was counted before (it is read again after a crash)."""
        if place:
            if place <= (self.offset, self.number):
                return False
            self.offset, self.number = place
        return True

    def add(self, finding: Finding, rule: AlertRule) -> None:
        """Take evidence in. What came within ``rule.within_ns`` counts towards firing."""
        weight = finding.observed if finding.unit == "errors" else 1.0
        self.count += weight
        self.starts_at_ns = min(self.starts_at_ns, finding.at_ns) if self.status == "pending" else self.starts_at_ns
        self.last_at_ns = max(self.last_at_ns, finding.at_ns)
        self.last_arrival_ns = max(self.last_arrival_ns, finding.arrival_ns)
        if finding.baseline is None or finding.observed >= self.observed:
            self.observed, self.baseline, self.unit = finding.observed, finding.baseline, finding.unit
            self.message = finding.message or self.message
        if finding.trace_id and finding.trace_id not in self.samples:
            self.samples = [*self.samples, finding.trace_id][-MAX_SAMPLES:]
        self.impact(finding.impacted)
        if self.status == "pending":
            since_ns = self.last_arrival_ns - rule.within_ns
            recent = [(at, weight) for at, weight in self.recent if at >= since_ns]
            self.recent = [*recent, (finding.arrival_ns, weight)][-MAX_RECENT:]

    def impact(self, services: tuple[str, ...]) -> None:
        """Note services that suffer from this."""
        for service in services:
            if service not in self.impacted and service != self.labels["service"]:
                self.impacted.append(service)

    def impact_of(self, finding: Finding) -> None:
        """Note a service that passed this error on; in the trace of the first evidence it belongs to the path."""
        self.impact((finding.service,))
        if finding.trace_id == self.path_trace_id and finding.service not in self.path:
            self.path = [finding.service, *self.path]

    @property
    def recent_count(self) -> float:
        """Evidence within the rule's time that nothing else explains, while pending."""
        return sum(weight for _, weight in self.recent) - self.explained

    def should_fire(self, rule: AlertRule) -> bool:
        """True if the evidence is enough, and has lasted."""
        if self.status != "pending" or self.recent_count < rule.min_count:
            return False
        return self.last_arrival_ns - self.first_arrival_ns >= rule.for_ns

    def is_over(self, rule: AlertRule, now_ns: int) -> bool:
        """True if there was no evidence for long enough to let go."""
        quiet_ns = (
            rule.resolve_after_ns * self.patience if self.status == "firing" else max(rule.within_ns, rule.for_ns)
        )
        return now_ns - self.last_arrival_ns >= quiet_ns

    def should_repeat(self, rule: AlertRule, now_ns: int) -> bool:
        """True if it still fires and was last told long ago."""
        return self.status == "firing" and now_ns - self.told_at_ns >= rule.repeat_interval_ns

    def alert(self, status: AlertStatus, now_ns: int, detected_at_ns: int, **annotations: str) -> Alert:
        """The event to tell, as of ``now_ns``; ``annotations`` are added to its own."""
        return Alert(
            fingerprint=self.fingerprint,
            status=status,
            labels=dict(self.labels),
            annotations=self._annotations() | annotations,
            starts_at_ns=self.starts_at_ns,
            updated_at_ns=now_ns,
            ends_at_ns=self.last_at_ns if status == "resolved" else None,
            detected_at_ns=detected_at_ns,
            evidence=Evidence(self.observed, self.baseline, self.unit, round(self.count), tuple(self.samples)),
            replay_id=self.replay_id,
        )

    def _annotations(self) -> dict[str, str]:
        labels = self.labels
        where = f"{labels['service']} {labels['operation']}".rstrip()
        what = labels.get("error_type") or SLOW_PARTS.get(labels.get("part", "")) or labels["kind"].replace("_", " ")
        annotations = {"summary": f"{where}: {what}", "description": self.message or f"{what} in {where}"}
        if self.is_new:
            annotations["new"] = "never seen before"
        if self.impacted:
            annotations["impacted"] = ", ".join(self.impacted)
        if len(self.path) > 1:
            annotations["path"] = " > ".join(self.path)
        if self.samples:
            annotations["traces"] = ", ".join(self.samples)
        return annotations


def begun(finding: Finding, rule: AlertRule, fingerprint: str, labels: dict[str, str]) -> Episode:
    """A pending episode without evidence yet, of which ``finding`` will be the first."""
    return Episode(
        fingerprint=fingerprint,
        rule=rule.name,
        labels=labels,
        status="pending",
        starts_at_ns=finding.at_ns,
        last_at_ns=finding.at_ns,
        first_arrival_ns=finding.arrival_ns,
        last_arrival_ns=finding.arrival_ns,
        observed=finding.observed,
        baseline=finding.baseline,
        unit=finding.unit,
        message=finding.message,
        replay_id=finding.replay_id,
        path=list(finding.path or (*reversed(finding.impacted), finding.service)),
        path_trace_id=finding.trace_id,
    )
