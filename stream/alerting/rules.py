"""Rules: which findings become alerts, from how much evidence, how severe, and when it is over."""

from dataclasses import dataclass
from typing import get_args

from tracecore.alert import Severity
from tracecore.finding import Finding, FindingKind

SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS

KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


@dataclass(frozen=True, slots=True)
class AlertRule:
    """How findings of some kinds become one alert.

    The alert fires once ``min_count`` (in the finding's unit for "errors", else findings) came within ``within_ns``
    and the condition has held for ``for_ns``; it resolves after ``resolve_after_ns`` without evidence. While it
    fires it is told again every ``repeat_interval_ns``. ``match`` holds labels a finding must have.
    """

    name: str
    kinds: tuple[FindingKind, ...]
    severity: Severity
    min_count: float = 1.0
    within_ns: int = 60 * SECOND_NS
    for_ns: int = 0
    resolve_after_ns: int = 60 * SECOND_NS
    repeat_interval_ns: int = 4 * HOUR_NS
    match: tuple[tuple[str, str], ...] = ()
    #: Fire only if there is more evidence than this alert's own past makes likely: for evidence that always trickles.
    learns: bool = False

    def accepts(self, finding: Finding) -> bool:
        """True if the rule is about this finding."""
        if finding.kind not in self.kinds:
            return False
        return all(label_of(finding, name) == value for name, value in self.match)


def label_of(finding: Finding, name: str) -> str:
    """A label of the finding, its own fields among them; "" where it has none."""
    if name == "service":
        return finding.service
    if name == "operation":
        return finding.operation
    if name == "kind":
        return finding.kind
    return finding.labels.get(name, "")


DEFAULT_RULES: tuple[AlertRule, ...] = (
    AlertRule("ErrorSpans", ("error",), "warning", learns=True),
    # Slow at once, and nearly always: a shift that lasts is told by the windows, but they need half a minute.
    AlertRule(
        "SlowSpans",
        ("slow_span",),
        "warning",
        min_count=3,
        within_ns=20 * SECOND_NS,
        match=(("extent", "most"), ("part", "self_time")),
    ),
    # A gap has two ends: more evidence, before one of them is named.
    AlertRule(
        "SlowHops",
        ("slow_span",),
        "warning",
        min_count=15,
        within_ns=20 * SECOND_NS,
        match=(("extent", "most"), ("part", "gap")),
    ),
    AlertRule("LatencyShift", ("latency_shift",), "warning"),
    AlertRule("ErrorRate", ("error_rate",), "critical"),
    AlertRule("TrafficDrop", ("traffic_drop",), "warning"),
    AlertRule("TrafficSurge", ("traffic_surge",), "info"),
    AlertRule("NewDependency", ("new_dependency",), "info"),
    AlertRule("VanishedDependency", ("vanished_dependency",), "warning"),
    AlertRule("ThresholdCrossed", ("threshold",), "warning"),
    AlertRule("SloBurn", ("slo_burn",), "critical", resolve_after_ns=5 * MINUTE_NS),
)
